"""`mediasync config`: is the configuration right, what does it amount to, and what could it say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mediasync.cli.arguments import AsJson, Config

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mediasync.config import Configuration, Examination, Setting

app = typer.Typer(no_args_is_help=True, help="Check and show the configuration.")


@app.command()
def check(config: Config = None, as_json: AsJson = False) -> None:
    """List every mistake, or else what is in force and what this version does not do yet. Exit code 2 on mistakes.

    Example: mediasync config check --config ./mediasync.yaml
    """
    from mediasync.cli import output
    from mediasync.config import examine, load

    found = examine(config)
    if as_json:
        output.print_json(_check_document(found))
        raise typer.Exit(0 if found.configuration else 2)
    # Raises the mistakes, which are told as any error is.
    configuration = found.configuration or load(config)
    file = _file(configuration)
    output.line(f"{file}: no mistakes" if file else _no_file(config))
    written = _written(configuration)
    _print_group("In force", (setting for setting in written if setting.in_force))
    _print_group("Not yet in force", (setting for setting in written if not setting.in_force))
    for note in _notes(configuration):
        output.line(f"\nNote: {note}")


@app.command()
def show(config: Config = None, as_json: AsJson = False) -> None:
    """Show the effective configuration, and where each value comes from. Secrets are masked.

    Example: mediasync config show --json
    """
    from mediasync.cli import output
    from mediasync.config import load

    configuration = load(config)
    file = _file(configuration)
    if as_json:
        output.print_json({"file": file, "settings": [_row(setting) for setting in configuration.settings]})
        return
    if not file:
        output.note(_no_file(config))
    rows = [(setting.key, _origin(setting), _text(setting.value)) for setting in configuration.settings]
    output.table(["key", "from", "value"], rows)


@app.command()
def example(as_json: AsJson = False) -> None:
    """Print a configuration with every key explained, to start from.

    Example: mediasync config example > ~/.config/mediasync/config.yaml
    """
    from importlib.resources import files

    from mediasync.cli import output

    text = files("mediasync.config").joinpath("example.yaml").read_text("utf-8")
    if as_json:
        output.print_json({"yaml": text})
    else:
        output.line(text.removesuffix("\n"))


def _check_document(found: Examination) -> dict[str, object]:
    mistakes = [
        {"key": mistake.key, "line": mistake.origin.line or None, "variable": mistake.origin.variable or None, "message": mistake.text}
        for mistake in found.mistakes
    ]
    written = _written(found.configuration) if found.configuration else []
    return {
        "file": _file(found),
        "valid": found.configuration is not None,
        "mistakes": mistakes,
        "in_force": [_row(setting) for setting in written if setting.in_force],
        "not_yet": [_row(setting) for setting in written if not setting.in_force],
        "notes": _notes(found.configuration) if found.configuration else [],
    }


def _row(setting: Setting) -> dict[str, object]:
    return {
        "key": setting.key,
        "value": setting.value,
        "origin": setting.origin,
        "line": setting.line or None,
        "in_force": setting.in_force,
        "note": setting.note,
    }


def _written(configuration: Configuration) -> list[Setting]:
    return sorted((setting for setting in configuration.settings if setting.written), key=lambda setting: setting.line)


def _file(found: Configuration | Examination) -> str | None:
    return _shown(found.file) if found.file else None


def _shown(path: Path) -> str:
    import os

    from mediasync.paths import display

    return display(os.fsencode(path))


def _no_file(config: Path | None) -> str:
    from mediasync.config import locate

    return f"there is no {_shown(locate(config)[0])}; defaults and environment apply"


def _notes(configuration: Configuration) -> list[str]:
    notes = [
        f"the source {name} has no destination: give it one, set media_base, or name one in `mediasync sync {name} DEST`"
        for name, spec in configuration.sources.items()
        if not spec.dest_path
    ]
    if not configuration.ingest.async_mode:
        notes += [
            f"the source {name} is watched: its job never ends, so that it waits for no subscriber"
            for name, spec in configuration.sources.items()
            if spec.options.watch
        ]
    return notes


def _print_group(title: str, settings: Iterable[Setting]) -> None:
    from mediasync.cli import output

    rows = [
        (f"line {setting.line}" if setting.line else setting.origin, f"{setting.key} = {_text(setting.value)}", setting.note)
        for setting in settings
    ]
    if not rows:
        return
    # A very long value must not push every other line's end off the screen.
    widths = [min(60, max(map(len, column))) for column in zip(*rows, strict=True)]
    output.line(f"\n{output.style(title, bold=True)}")
    for row in rows:
        output.line("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _origin(setting: Setting) -> str:
    return f"{setting.origin} (not yet in force)" if not setting.in_force else setting.origin


def _text(value: object) -> str:
    import json

    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
