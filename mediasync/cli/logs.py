"""`mediasync logs`: what all services logged, in one stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mediasync.errors import FieldViolation, MediasyncError, Reason

if TYPE_CHECKING:
    from mediasync.runtime.records import LogFilter, LogLine

_COLOURS = {"debug": "bright_black", "info": "", "warning": "yellow", "error": "red", "critical": "red"}


def logs(
    sync_id: Annotated[str, typer.Option("--sync-id", metavar="ID", help="Only what belongs to this sync (or job).")] = "",
    level: Annotated[str, typer.Option(help="The least important level: debug, info, warning, error.")] = "",
    since: Annotated[str, typer.Option(metavar="WHEN", help="Only newer than this: 90s, 10m, 2h, 3d, or 2026-11-21T10:00.")] = "",
    service: Annotated[str, typer.Option(help="Only of this service, such as transfer; cli for commands.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is logged from now on, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show what all services logged, oldest first.

    Example: mediasync logs --since 10m --level warning
    """
    from mediasync.runtime.home import Home
    from mediasync.runtime.records import follow_logs, read_logs

    folder = Home.from_environment().logs
    wanted = _filter(sync_id, level, since, service)
    lines = follow_logs(folder, wanted) if follow else read_logs(folder, wanted)
    try:
        for line in lines:
            _show(line, as_json)
    except KeyboardInterrupt:
        # How following ends.
        if not follow:
            raise


def _filter(sync_id: str, level: str, since: str, service: str) -> LogFilter:
    import difflib
    from datetime import datetime

    from mediasync.runtime.records import LEVELS, LogFilter, parse_since

    level = {"warn": "warning"}.get(level.lower(), level.lower())
    wrong = []
    if level and level not in LEVELS:
        near = difflib.get_close_matches(level, LEVELS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        wrong.append(FieldViolation("--level", f"{level!r} is none of {', '.join(LEVELS)}{hint}"))
    moment = None
    if since:
        try:
            moment = parse_since(since, datetime.now().astimezone())
        except ValueError:
            wrong.append(
                FieldViolation(
                    "--since", f"{since!r} is neither a time span such as 90s, 10m, 2h or 3d nor a time such as 2026-11-21T10:00"
                )
            )
    if wrong:
        raise MediasyncError(Reason.INVALID_ARGUMENT, "; ".join(f"{item.field}: {item.description}" for item in wrong), fields=wrong)
    return LogFilter(sync_id=sync_id, level=level, service=service, since=moment)


def _show(line: LogLine, as_json: bool) -> None:
    import json

    if as_json:
        typer.echo(json.dumps(line.fields))
        return
    moment = line.time.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    level = typer.style(f"{line.level:<7}", fg=_COLOURS.get(line.level) or None)
    extra = "".join(f" {key}={_short(value)}" for key, value in line.extra.items())
    about = f" [{line.sync_id}]" if line.sync_id else ""
    typer.echo(f"{moment} {level} {line.service:<11} {_printable(line.message)}{typer.style(_printable(extra + about), dim=True)}")
    if line.exception:
        for text in line.exception.splitlines():
            typer.echo(f"    {_printable(text)}")


def _short(value: object) -> str:
    import json

    return value if isinstance(value, str) and value and " " not in value else json.dumps(value)


def _printable(text: str) -> str:
    """`text` without what would move the cursor or colour the terminal: names of files from a source end up in messages."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
