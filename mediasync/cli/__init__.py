"""The command line, one module a family of commands.

Modules import typer and nothing heavier at the top; what a command needs is imported inside it, so that `--help` and completion are quick.
"""
