"""`mediasync events`: what happened to the library, as subscribers are told it."""

from __future__ import annotations

from typing import Annotated

import typer

from mediasync.cli import dead_letters
from mediasync.cli.arguments import AsJson, Coordinator, EventPaths, EventSources

app = typer.Typer(help="What happened to the library, as subscribers are told it.", no_args_is_help=True)
app.add_typer(dead_letters.app, name="dead-letters")


@app.command()
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now on, until Ctrl-C.")] = False,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only these, such as file_synced or sync_complete; repeatable."),
    ] = None,
    sources: EventSources = None,
    paths: EventPaths = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Begin so many events before the log's end.")] = 20,
    start: Annotated[
        str,
        typer.Option("--from", metavar="SEQ|beginning", help="Begin with this sequence number, or the oldest event.", show_default=False),
    ] = "",
    since: Annotated[
        str,
        typer.Option("--since", metavar="WHEN", help="Begin there: 90m, 7d, 2026-11-21 or 2026-11-21T10:00.", show_default=False),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    coordinator: Coordinator = "",
) -> None:
    """Show events of the log, oldest first.

    Example: mediasync events tail --follow --type file_synced --source forge

    Example: mediasync events tail --since 2h --path 'txt2img-images/**' --json
    """
    import asyncio

    from mediasync.cli import event_display, event_options, output
    from mediasync.cli.session import configure, connected
    from mediasync.model.events import EventStart, StartKind

    wanted = event_options.wanted(types or (), sources or (), paths or (), "--type")
    begin = event_options.start(start, since, names=("beginning",))
    if begin is None:
        begin = EventStart(StartKind.LAST, last=last) if last else EventStart()
    configure()

    async def run() -> None:
        from contextlib import aclosing

        async with (
            connected("events tail", coordinator) as (client, _),
            aclosing(client.read_events(start=begin, wanted=wanted, follow=follow)) as pages,
        ):
            async for page in pages:
                for event in page.events:
                    if as_json:
                        output.print_json(event_display.event_json(event))
                    else:
                        output.line(event_display.event_line(event))

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        # How following ends.
        if not follow:
            raise


@app.command()
def replay(
    subscriber: Annotated[str, typer.Option("--subscriber", metavar="NAME", help="Who is to hear it again.")],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SEQ|beginning|snapshot",
            help="Everything from this sequence number on, or from the oldest event, or the library as it is.",
            show_default=False,
        ),
    ] = "",
    since: Annotated[
        str,
        typer.Option("--since", metavar="WHEN", help="Everything since then: 90m, 7d, 2026-11-21T10:00.", show_default=False),
    ] = "",
    sync_id: Annotated[
        str,
        typer.Option("--sync-id", metavar="ID", help="What this sync told, and what came of the same files since.", show_default=False),
    ] = "",
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Tell a subscriber again what it was told, with the same ids; a snapshot is the library's present state, with ids of its own.

    Example: mediasync events replay --subscriber gallery --since 7d

    Example: mediasync events replay --subscriber gallery --sync-id sync_20261121_101112_0a1b2c3d

    Example: mediasync events replay --subscriber gallery --from snapshot
    """
    import asyncio

    from mediasync.cli import event_options, output
    from mediasync.cli.session import configure, connected
    from mediasync.cli.sync_options import wrong

    begin = event_options.start(start, since, names=("beginning", "snapshot"))
    if (begin is None) == (not sync_id):
        raise wrong("--from", "what is to be told again? Give one of --from, --since and --sync-id")
    configure()

    async def run() -> int | None:
        async with connected("events replay", coordinator) as (client, _):
            return await client.replay_events(subscriber, begin, sync_id=sync_id)

    events = asyncio.run(run())
    if as_json:
        output.print_json({"subscriber": subscriber, "events": -1 if events is None else events})
        return
    if start == "snapshot":
        what = "the library as it is"
    elif events is None:
        what = f"everything of {sync_id}" if sync_id else "everything from there on"
    else:
        what = output.count(events, "event")
    output.line(f"{subscriber} is told again: {what}")
    output.note(f"`mediasync subscribers show {subscriber}` says how far that is.")
