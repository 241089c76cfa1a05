"""`mediasync events dead-letters`: events that a subscriber would not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mediasync.cli.arguments import AsJson, Coordinator

if TYPE_CHECKING:
    from mediasync.model.events import DeadLetter

app = typer.Typer(help="Events that a subscriber rejected, or failed at until it was enough.", no_args_is_help=True)

Numbers = Annotated[list[int] | None, typer.Argument(metavar="NUMBER...", help="Which, as `list` shows them.", show_default=False)]
Subscriber = Annotated[str, typer.Option("--subscriber", metavar="NAME", help="Those of this subscriber.", show_default=False)]


@app.command("list")
def list_(
    subscriber: Subscriber = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """List events that were given up, newest first: whose, which file, why.

    Example: mediasync events dead-letters list --subscriber gallery
    """
    import asyncio

    from mediasync.cli import event_display, output
    from mediasync.cli.session import configure

    configure()
    letters = asyncio.run(_list(subscriber, limit, coordinator))
    if as_json:
        output.print_json({"dead_letters": [event_display.dead_letter_json(letter) for letter in letters]})
    elif not letters:
        output.note("There are no dead letters.")
    else:
        output.table(
            ["number", "subscriber", "event", "about", "given up", "attempts", "answer", "reason"],
            [
                [
                    letter.number,
                    letter.subscription,
                    letter.event.type.value,
                    event_display.about(letter.event),
                    output.moment(letter.time),
                    letter.attempts,
                    letter.answer,
                    event_display.safe(letter.reason),
                ]
                for letter in letters
            ],
            right=["number", "attempts"],
            cut=["reason"],
        )


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="Its number, as `list` shows it.")],
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Show one event that was given up, with all that it says.

    Example: mediasync events dead-letters show 3
    """
    import asyncio

    from mediasync.cli import event_display, output
    from mediasync.cli.session import configure, connected

    configure()

    async def run() -> DeadLetter:
        async with connected("events dead-letters show", coordinator) as (client, _):
            return await client.get_dead_letter(number)

    letter = asyncio.run(run())
    if as_json:
        output.print_json({**event_display.dead_letter_json(letter), "event": event_display.event_json(letter.event)})
        return
    event = letter.event
    output.pairs(
        [
            ("number", letter.number),
            ("subscriber", letter.subscription),
            ("answer", letter.answer),
            ("reason", event_display.safe(letter.reason)),
            ("attempts", letter.attempts),
            ("first attempt", output.moment(letter.first_attempt_time)),
            ("given up", output.moment(letter.time)),
            ("event", f"{event.type.value} {event.event_id}"),
            ("sequence", event.sequence or "none; it was made again"),
            ("about", event_display.about(event)),
            ("library", event.file.library_root if event.file else ""),
            ("size", output.size(event.file.size_bytes) if event.file else ""),
            ("sha256", event.file.sha256 if event.file else ""),
            ("source", event_display.safe(event.source)),
            ("sync", event.sync_id),
            ("happened", output.moment(event.time)),
        ]
    )
    output.note(f"`mediasync events dead-letters retry {number}` offers it again, `drop {number}` forgets it.")


@app.command()
def retry(numbers: Numbers = None, subscriber: Subscriber = "", as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Offer events again that were given up, each with what came of the same file since. What is accepted is no dead letter any more.

    Example: mediasync events dead-letters retry 3 4

    Example: mediasync events dead-letters retry --subscriber gallery
    """
    from mediasync.cli import output

    count = _done("retry", numbers or [], subscriber, coordinator)
    if as_json:
        output.print_json({"dead_letters": count})
    else:
        output.line(f"{output.count(count, 'dead letter')} offered again")


@app.command()
def drop(
    numbers: Numbers = None,
    subscriber: Subscriber = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Forget events that were given up: the subscriber will never hear of them.

    Example: mediasync events dead-letters drop 3 --yes

    Example: mediasync events dead-letters drop --subscriber gallery --yes
    """
    from mediasync.cli import event_options, output

    _named(numbers or [], subscriber)
    which = output.count(len(numbers), "dead letter") if numbers else f"all dead letters of {subscriber}"
    event_options.confirm(f"{which} will be forgotten", "nothing was forgotten", yes=yes, as_json=as_json)
    count = _done("drop", numbers or [], subscriber, coordinator)
    if as_json:
        output.print_json({"dead_letters": count})
    else:
        output.line(f"{output.count(count, 'dead letter')} forgotten")


def _named(numbers: list[int], subscriber: str) -> None:
    """Raises INVALID_ARGUMENT where nothing is named."""
    from mediasync.cli.sync_options import wrong

    if not numbers and not subscriber:
        raise wrong("NUMBER", "which dead letters? Give their numbers, or --subscriber NAME for all of one")


def _done(verb: str, numbers: list[int], subscriber: str, coordinator: str) -> int:
    import asyncio

    from mediasync.cli.session import configure, connected

    _named(numbers, subscriber)
    configure()

    async def run() -> int:
        async with connected(f"events dead-letters {verb}", coordinator) as (client, _):
            call = client.retry_dead_letters if verb == "retry" else client.drop_dead_letters
            return await call(numbers, subscriber=subscriber)

    return asyncio.run(run())


async def _list(subscriber: str, limit: int, coordinator: str) -> list[DeadLetter]:
    from contextlib import aclosing

    from mediasync.cli.session import connected

    letters: list[DeadLetter] = []
    async with (
        connected("events dead-letters list", coordinator) as (client, _),
        aclosing(client.list_dead_letters(subscriber)) as found,
    ):
        async for letter in found:
            letters.append(letter)
            if len(letters) == limit:
                break
    return letters
