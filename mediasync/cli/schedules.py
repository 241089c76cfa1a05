"""`mediasync schedules`: what `mediasync up` begins at its times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mediasync.cli.arguments import AsJson, Coordinator

if TYPE_CHECKING:
    from mediasync.model.schedules import Schedule

app = typer.Typer(help="What `mediasync up` begins at its times: syncs and clean-ups of the configuration.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The schedule's name, as `list` shows it.", show_default=False)]


@app.command("list")
def list_(as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """List the schedules of the configuration, and when each is due next.

    Example: mediasync schedules list
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure, connected

    configure()

    async def run() -> list[Schedule]:
        async with connected("schedules list", coordinator) as (client, _):
            return [schedule async for schedule in client.list_schedules()]

    schedules = asyncio.run(run())
    if as_json:
        output.print_json({"schedules": [schedule_json(schedule) for schedule in schedules]})
    elif not schedules:
        output.note("Nothing has a schedule, or no `mediasync up` runs; `schedule:` on a source or in its `cleanup:` gives it one.")
    else:
        output.table(
            ["name", "what", "source", "times", "next", "last", "job"],
            [
                [
                    item.name,
                    item.kind.value,
                    item.source,
                    item.times,
                    "paused" if item.paused else output.moment(item.next_time),
                    output.moment(item.last_time) or "never",
                    item.last_job_id,
                ]
                for item in schedules
            ],
        )


@app.command()
def pause(name: Name, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Hold a schedule: it begins nothing until it is resumed, also across restarts. A job that it has begun goes on.

    Example: mediasync schedules pause cleanup:forge
    """
    _hold(name, True, as_json, coordinator)


@app.command()
def resume(name: Name, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Let a schedule go on.

    Example: mediasync schedules resume cleanup:forge
    """
    _hold(name, False, as_json, coordinator)


def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """A schedule for machines."""
    from mediasync.cli.output import plain

    fields: dict[str, Any] = plain(schedule)
    return fields


def _hold(name: str, paused: bool, as_json: bool, coordinator: str) -> None:
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.session import configure, connected

    configure()

    async def run() -> Schedule:
        async with connected(f"schedules {'pause' if paused else 'resume'}", coordinator) as (client, _):
            return await client.pause_schedule(name, paused)

    schedule = asyncio.run(run())
    if as_json:
        output.print_json(schedule_json(schedule))
    elif schedule.paused:
        output.line(f"{schedule.name} is held; `mediasync schedules resume {schedule.name}` lets it go on")
    else:
        output.line(f"{schedule.name} goes on; next at {output.moment(schedule.next_time) or 'its time'}")
