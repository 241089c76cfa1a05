"""`mediasync subscribers`: who is told about files, and how they are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mediasync.cli.arguments import AsJson, Coordinator, EventPaths, EventSources, TlsCa, TlsCert, TlsKey, TokenFile
from mediasync.cli.check import check

if TYPE_CHECKING:
    from mediasync.model import CatalogFile
    from mediasync.model.events import EventLogState, SubscriberVerified, Subscription

app = typer.Typer(help="Who is told about files: databases, galleries, scripts.", no_args_is_help=True)

_SHOWN = 20
_LISTED = 100

Name = Annotated[str, typer.Argument(help="The subscriber's name.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="1 to 64 of letters, digits, `.`, `_` and `-`.")],
    address: Annotated[
        str, typer.Argument(metavar="HOST:PORT|pull", help="Where it answers (unix:/path too); `pull` for a reader who comes to us.")
    ],
    events: Annotated[
        list[str] | None,
        typer.Option("--events", metavar="TYPES", help="Only these, such as file_synced,file_processed. Default: all."),
    ] = None,
    sources: EventSources = None,
    paths: EventPaths = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="beginning|now|snapshot|SEQ",
            help="Where to start: the oldest event that is kept, the next one, the library as it is, or a sequence number.",
        ),
    ] = "now",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, max=1000, help="At most so many events in a call. Default: 50.", show_default=False)
    ] = 50,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Tell a program about files from now on: it answers `MediaIngest`, or reads as it likes (`pull`).

    Every event comes at least once, in order for each file. While it is away its place is kept.

    Example: mediasync subscribers add gallery 127.0.0.1:50061 --events file_synced,file_processed --path 'txt2img-images/**'

    Example: mediasync subscribers add nas nas.lan:50061 --from snapshot --tls-ca ca.pem --token-file nas.token

    Example: mediasync subscribers add notebook pull --from beginning
    """
    import asyncio

    from mediasync.cli import event_display, event_options, output
    from mediasync.cli.session import configure, connected
    from mediasync.model.events import Subscription

    subscription = Subscription(
        name,
        event_options.address(address, may_pull=True),
        event_options.wanted(events or (), sources or (), paths or (), "--events"),
        batch_size,
        event_options.absolute(tls_ca),
        event_options.absolute(tls_cert),
        event_options.absolute(tls_key),
        event_options.absolute(token_file),
    )
    begin = event_options.start(start)
    configure()

    async def run() -> Subscription:
        async with connected("subscribers add", coordinator) as (client, _):
            return await client.add_subscriber(subscription, begin)

    added = asyncio.run(run())
    if as_json:
        output.print_json(event_display.subscription_json(added))
        return
    output.line(f"{added.name} is told about files at {added.address}" if added.address else f"{added.name} is a cursor for whoever reads")
    if not added.pull:
        output.note(
            f"`mediasync subscribers show {name}` says how it is doing; `mediasync subscribers check {address}` tries what it can do."
        )


@app.command("list")
def list_(as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """List subscribers: what each is doing, how far behind it is, what went wrong last.

    Example: mediasync subscribers list
    """
    import asyncio

    from mediasync.cli import event_display, output
    from mediasync.cli.session import configure, connected

    configure()

    async def run() -> tuple[list[Subscription], EventLogState]:
        async with connected("subscribers list", coordinator) as (client, _):
            return [one async for one in client.list_subscribers()], await client.event_log()

    subscribers, log = asyncio.run(run())
    if as_json:
        output.print_json({"subscribers": [event_display.subscription_json(one) for one in subscribers], "log": output.plain(log)})
        return
    output.table(
        ["name", "address", "state", "behind", "events/s", "dead letters", "last error"],
        [
            [
                one.name,
                event_display.where(one),
                one.state.value.replace("_", " "),
                event_display.behind(one) or "-",
                event_display.rate(one) or "-",
                f"{one.dead_letters:,}" if one.dead_letters else "-",
                event_display.safe(one.last_error),
            ]
            for one in subscribers
        ],
        right=["events/s", "dead letters"],
        cut=["last error"],
    )
    output.note(event_display.log_line(log))


@app.command()
def show(name: Name, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Show one subscriber: how far it is, how fast, what went wrong, when it is tried again.

    Example: mediasync subscribers show gallery
    """
    from mediasync.cli import event_display, output

    one = _changed("get_subscriber", "subscribers show", name, coordinator)
    if as_json:
        output.print_json(event_display.subscription_json(one))
        return
    event_display.print_subscription(one)
    if one.state.value == "too_far_behind":
        output.note(
            f"Events that it needs are no longer kept: `mediasync events replay --subscriber {name} --from snapshot` fills it again."
        )
    if one.dead_letters:
        output.note(f"`mediasync events dead-letters list --subscriber {name}` shows what it would not take.")


@app.command()
def pause(name: Name, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Hold a subscriber, across restarts, until it is resumed. Its place is kept, and events wait as long as the log keeps them.

    Example: mediasync subscribers pause gallery
    """
    from mediasync.cli import event_display, output

    one = _changed("pause_subscriber", "subscribers pause", name, coordinator)
    if as_json:
        output.print_json(event_display.subscription_json(one))
    else:
        output.line(f"{one.name} is paused at event {one.cursor:,}; `mediasync subscribers resume {one.name}` lets it go on")


@app.command()
def resume(name: Name, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Let a paused subscriber go on, and try one that was not there at once.

    Example: mediasync subscribers resume gallery
    """
    from mediasync.cli import event_display, output

    one = _changed("resume_subscriber", "subscribers resume", name, coordinator)
    if as_json:
        output.print_json(event_display.subscription_json(one))
    else:
        output.line(f"{one.name} goes on after event {one.cursor:,}; {event_display.behind(one) or 'no event'} behind")


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Forget a subscriber, its place in the log and its dead letters. Nothing of its own is touched.

    Example: mediasync subscribers remove gallery --yes
    """
    import asyncio

    from mediasync.cli import event_options, output
    from mediasync.cli.session import configure, connected

    configure()

    async def run() -> None:
        async with connected("subscribers remove", coordinator) as (client, _):
            one = await client.get_subscriber(name)
            letters = f" and its {output.count(one.dead_letters, 'dead letter')}" if one.dead_letters else ""
            event_options.confirm(f"The place of {name} in the log{letters} will be forgotten", "it stays", yes=yes, as_json=as_json)
            await client.remove_subscriber(name)

    asyncio.run(run())
    if as_json:
        output.print_json({"removed": name})
    else:
        output.line(f"{name} is told about nothing any more")


@app.command()
def verify(
    name: Name,
    repair: Annotated[bool, typer.Option("--repair", help="Send what it lacks again.")] = False,
    library: Annotated[str, typer.Option("--library", metavar="DIR", help="Only this library. Default: all.", show_default=False)] = "",
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Ask a subscriber about every file of the library (VerifyFileExists) and tell what it lacks. Ends with 1 if it lacks any.

    Example: mediasync subscribers verify gallery --repair
    """
    import asyncio

    from mediasync.cli import library_places, output
    from mediasync.cli.session import configure
    from mediasync.errors import ExitCode
    from mediasync.paths import display

    configure()
    root = library_places.absolute(library) if library else ""
    lacking, done = asyncio.run(_verify(name, repair, root, as_json, coordinator))
    if as_json:
        paths = [display(file.library_path) for file in lacking]
        output.print_json({**output.plain(done), "lacking": paths})
    else:
        for file in lacking[:_SHOWN]:
            output.line(f"{output.style('✗', 'red')} lacking {display(file.library_path)}")
        if done.files_lacking > _SHOWN:
            output.line(f"  … and {done.files_lacking - min(len(lacking), _SHOWN):,} more")
        mark = output.style("✓", "green")
        if done.files_lacking:
            mark = output.style("→", "cyan") if repair else output.style("✗", "red")
        sent = f"; sending it {output.count(done.files_sent, 'file')} again" if done.files_sent else ""
        output.line(f"{mark} {name} has {done.files_asked - done.files_lacking:,} of {output.count(done.files_asked, 'file')}{sent}")
        if done.files_lacking and not repair:
            output.note("  → `--repair` sends it what it lacks.")
    if done.files_lacking and not repair:
        raise typer.Exit(int(ExitCode.SOME_FILES_FAILED))


app.command()(check)


def _changed(call: str, command: str, name: str, coordinator: str) -> Subscription:
    """What a call of the client returns for a subscriber."""
    import asyncio

    from mediasync.cli.session import configure, connected

    configure()

    async def run() -> Subscription:
        async with connected(command, coordinator) as (client, _):
            one: Subscription = await getattr(client, call)(name)
            return one

    return asyncio.run(run())


async def _verify(name: str, repair: bool, root: str, as_json: bool, coordinator: str) -> tuple[list[CatalogFile], SubscriberVerified]:
    """The first files that are lacking, and what it came to; shows progress on a terminal."""
    import sys
    from contextlib import aclosing

    from mediasync.cli import output
    from mediasync.cli.session import connected
    from mediasync.errors import MediasyncError, Reason
    from mediasync.model.events import SubscriberProgress, SubscriberVerified

    live = not as_json and output.coloured(sys.stderr)
    lacking: list[CatalogFile] = []
    async with (
        connected("subscribers verify", coordinator) as (client, _),
        aclosing(client.verify_subscriber(name, repair=repair, library_root=root)) as found,
    ):
        async for one in found:
            if isinstance(one, SubscriberVerified):
                if live:
                    sys.stderr.write("\r\x1b[K")
                return lacking, one
            if isinstance(one, SubscriberProgress):
                if live:
                    sys.stderr.write(f"\r\x1b[Kasked about {output.count(one.files_asked, 'file')}, {one.files_lacking:,} lacking")
                    sys.stderr.flush()
            elif len(lacking) < _LISTED:
                lacking.append(one)
    raise MediasyncError(Reason.SERVICES_UNREACHABLE, f"the services ended the verify of {name} before its end", "Ask once more.")
