"""Bringing files into staging: over a connection of this process, or over those of receiver processes.

Decrypting, hashing and writing in one Python process is bound by its one core, so that a large pull runs in receivers: processes of
their own, each with one connection, that are handed batches of wanted files and a staging folder, and tell what became of each file.
A small one takes the connection that scanned, and starts nothing.

- `reception`: the same few lines for both: wanted files in, staged files out.
- `lanes`: the two kinds of ways in, behind one interface; how many, and with which windows (`windows`).
- `receiver`: the worker's end of a receiver process; `receiver_process`: its other end; `frames`: what goes between them.
"""
