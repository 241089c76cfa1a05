"""`mediasync`: puts the commands together, and turns what they raise into words and exit codes (see `mediasync.errors.ExitCode`)."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from mediasync import __version__
from mediasync.cli import clean, events, files, jobs, library, output, schedules, services, sources, subscribers
from mediasync.cli import config as config_commands
from mediasync.cli.logs import logs
from mediasync.cli.sync import sync
from mediasync.cli.trace import trace
from mediasync.errors import ExitCode, MediasyncError, Reason

_BROKEN_PIPE = 141  # what a shell shows for a program that SIGPIPE ended
_INTERRUPTED = 130  # typer's for Ctrl-C


def _build() -> typer.Typer:
    app = typer.Typer(
        name="mediasync",
        help="Brings every picture and video out of Forge, A1111 and ComfyUI containers into your library, and never loses one.",
        epilog="Example: mediasync sync ssh://user@forge.lan:2222/outputs /media/library",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    app.command(rich_help_panel="Sync")(sync)
    app.add_typer(clean.app, name="clean", rich_help_panel="Sync")
    app.command(rich_help_panel="Services")(services.up)
    app.command(rich_help_panel="Services")(services.status)
    app.command(rich_help_panel="Services")(services.serve)
    app.add_typer(jobs.app, name="jobs", rich_help_panel="Sync")
    app.add_typer(schedules.app, name="schedules", rich_help_panel="Sync")
    app.add_typer(sources.app, name="sources", rich_help_panel="Sync")
    app.add_typer(files.app, name="files", rich_help_panel="Sync")
    app.add_typer(library.app, name="library", rich_help_panel="Sync")
    app.add_typer(subscribers.app, name="subscribers", rich_help_panel="Follow the library")
    app.add_typer(events.app, name="events", rich_help_panel="Follow the library")
    app.add_typer(config_commands.app, name="config", rich_help_panel="Look inside")
    app.command(rich_help_panel="Look inside")(_where_the_logs_are(logs))
    app.command(rich_help_panel="Look inside")(_where_the_logs_are(trace))
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        output.line(f"mediasync {__version__}")
        raise typer.Exit


def _global_options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)] = False,
) -> None:
    pass


def _where_the_logs_are(command: Callable[..., None]) -> Callable[..., None]:
    """Lets a command that reads logs find them also where only the configuration says where they are."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        from mediasync.cli.session import configure

        try:
            configure()
        except MediasyncError:
            pass  # a configuration with mistakes is no reason not to show logs
        command(*arguments, **options)

    return wrapped


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The whole command; ends the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not take the command down.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = _run(arguments)
    _stop_recording()
    try:
        sys.stdout.flush()
    except OSError:
        code = _BROKEN_PIPE
    if code == _BROKEN_PIPE:
        # Or the interpreter would try once more to flush, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    as_json = "--json" in arguments
    if len(arguments) == 2 and arguments[0] in ("--show-completion", "--install-completion"):
        # Else typer takes the shell that it is run by, and overlooks the one that is named.
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    try:
        result = _build()(args=list(arguments), prog_name="mediasync", standalone_mode=False)
        code = result if isinstance(result, int) else int(ExitCode.DONE)
        return int(ExitCode.CANCELLED) if code == _INTERRUPTED else code
    except MediasyncError as error:
        return _failed(error, as_json)
    except TyperException as error:
        return _misused(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _failed(MediasyncError(Reason.CANCELLED, "cancelled"), as_json)
    except BrokenPipeError:
        return _BROKEN_PIPE
    except SystemExit as error:
        # Completion ends so, and typer when nobody reads the output any more.
        return _BROKEN_PIPE if isinstance(error.__context__, BrokenPipeError) else int(error.code or 0)
    except Exception as error:
        return _broken(error, as_json)
    except BaseException as error:
        # asyncio.CancelledError, by its name: importing asyncio for it would cost `--help` 40 ms.
        if type(error).__name__ != "CancelledError":
            raise
        return _failed(MediasyncError(Reason.CANCELLED, "cancelled"), as_json)


def _failed(error: MediasyncError, as_json: bool) -> int:
    code = int(error.metadata.get("exit_code") or error.exit_code)
    if as_json:
        output.print_json(output.error_json(error, code))
    output.print_error(error)
    return code


def _misused(error: TyperException, as_json: bool) -> int:
    message = error.format_message()
    if not message:  # help was shown in place of a missing command
        return int(ExitCode.USAGE)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mediasync"
    return _failed(
        MediasyncError(Reason.INVALID_ARGUMENT, message[0].lower() + message[1:].rstrip("."), f"See `{command} --help`."), as_json
    )


def _broken(error: Exception, as_json: bool) -> int:
    """A bug: one line, and the traceback in the log."""
    import logging
    import traceback

    remedy = "This is a bug; please report it."
    try:
        from mediasync.cli.session import start_recording
        from mediasync.runtime.home import Home

        if not _recording():
            start_recording()
        logging.getLogger(__name__).error("the command failed", exc_info=error)
        remedy = f"This is a bug; the details are in {Home.from_environment().logs / 'cli.log.jsonl'} (`mediasync logs --level error`)."
    except Exception:  # noqa: S110 - without a data folder there is no log; the line on stderr has to do
        pass
    if os.environ.get("MEDIASYNC_DEBUG"):
        traceback.print_exception(error)
    return _failed(MediasyncError(Reason.INTERNAL, f"unexpected {type(error).__name__}: {error}", remedy), as_json)


def _recording() -> bool:
    telemetry = sys.modules.get("mediasync.runtime.telemetry")
    return telemetry is not None and telemetry._installed is not None


def _stop_recording() -> None:
    telemetry = sys.modules.get("mediasync.runtime.telemetry")
    if telemetry is not None:
        telemetry.shutdown()


if __name__ == "__main__":
    main()
