"""`mediasync jobs`: what was asked for, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mediasync.cli.arguments import AsJson, Coordinator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mediasync.client import Client
    from mediasync.model import Job, JobState

app = typer.Typer(help="Syncs that were asked for, and what became of them.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="The job's id, or its sync id.")]


@app.command("list")
def list_(
    states: Annotated[list[str] | None, typer.Option("--state", metavar="STATE", help="Only jobs in this state; repeatable.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """List jobs, newest first.

    Example: mediasync jobs list --state failed --limit 5
    """
    import asyncio

    from mediasync.cli import output, report
    from mediasync.cli.session import configure

    wanted = [_state(name) for name in states or ()]
    configure()
    jobs = asyncio.run(_list(wanted, limit, coordinator))
    if as_json:
        output.print_json({"jobs": [report.job_json(job) for job in jobs]})
    elif not jobs:
        output.note("There are no such jobs." if wanted else "There are no jobs yet; `mediasync sync SOURCE DEST` makes the first.")
    else:
        output.table(
            ["job", "state", "kind", "created", "source", "files", "size"],
            [
                [
                    job.job_id,
                    job.state.value,
                    job.kind.value,
                    output.moment(job.create_time),
                    job.spec.source.label,
                    *report.amount(job),
                ]
                for job in jobs
            ],
            right=["files", "size"],
        )


@app.command()
def show(job_id: JobId, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Show one job, with every problem that is on record.

    Example: mediasync jobs show sync_20261121_101112_0a1b2c3d
    """
    import asyncio

    from mediasync.cli import output, report
    from mediasync.cli.session import configure
    from mediasync.model import JobKind

    configure()
    job = asyncio.run(_get(job_id, coordinator))
    if as_json:
        output.print_json(report.job_json(job))
        return
    output.pairs(
        [
            ("job", job.job_id),
            ("sync", job.sync_id),
            ("created", output.moment(job.create_time)),
            ("started", output.moment(job.start_time)),
            ("ended", output.moment(job.end_time)),
            ("retry of", job.retry_of),
            ("limit", "" if job.limit_mbps is None else f"{job.limit_mbps:g} Mbit/s" if job.limit_mbps else "off"),
        ]
    )
    output.pairs([("watch", report.activity_line(activity)) for activity in job.activities])
    if job.kind is JobKind.CLEANUP:
        report.print_cleanup(job, all_problems=True)
    else:
        report.print_summary(job, all_problems=True)
    if job.problem:
        report.print_problems((job.problem,), 1, job)


@app.command()
def watch(job_id: JobId, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Follow a job to its end. Ctrl-C cancels nothing here; the job goes on.

    With --json: one object a line for each step, {"progress": …}, and {"job": …} at the end. The exit code is that of `mediasync sync`.

    Example: mediasync jobs watch job_01KAXYZ…
    """
    import asyncio

    from mediasync.cli.session import configure

    configure()
    code = asyncio.run(_watch(job_id, as_json, coordinator))
    if code:
        raise typer.Exit(code)


@app.command()
def cancel(job_id: JobId, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Ask a job to stop. What had landed in the library stays there.

    Example: mediasync jobs cancel job_01KAXYZ…
    """
    import asyncio

    from mediasync.cli import output, report
    from mediasync.cli.session import configure

    configure()
    job = asyncio.run(_cancel(job_id, coordinator))
    if as_json:
        output.print_json(report.job_json(job))
    elif job.state.terminal:
        output.line(f"{job.job_id} had ended already: {job.state.value}")
    else:
        output.line(f"{job.job_id} was asked to stop")


@app.command()
def pause(job_id: JobId, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Hold a job. It stays paused, also across restarts, until it is resumed or cancelled; what has landed stays.

    Example: mediasync jobs pause job_01KAXYZ…
    """
    _change(
        "pause",
        lambda client: client.pause_job(job_id),
        as_json,
        coordinator,
        "{job} is paused; `mediasync jobs resume {job}` lets it go on",
    )


@app.command()
def resume(job_id: JobId, as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Let a paused job go on with what is left.

    Example: mediasync jobs resume job_01KAXYZ…
    """
    _change("resume", lambda client: client.resume_job(job_id), as_json, coordinator, "{job} goes on")


@app.command()
def limit(
    job_id: JobId,
    rate: Annotated[
        str, typer.Argument(metavar="RATE", help="Such as 20mbit, 2.5MB (a second), off, or `default` for what it began with.")
    ],
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Change how fast a job may be, at once. It counts in place of the source's limit and timetable, for this job only.

    Example: mediasync jobs limit job_01KAXYZ… 20mbit

    Example: mediasync jobs limit job_01KAXYZ… off
    """
    from mediasync.cli import sync_options

    megabits = None if rate.strip().lower() == "default" else sync_options.rate("RATE", rate)
    said = "as fast as it began with" if megabits is None else f"at most {megabits:g} Mbit/s" if megabits else "as fast as it can"
    _change("limit", lambda client: client.limit_job(job_id, megabits), as_json, coordinator, f"{{job}} comes {said}")


@app.command()
def retry(
    job_id: JobId,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the new job's id and return; the job goes on.")] = False,
    as_json: AsJson = False,
    coordinator: Coordinator = "",
) -> None:
    """Start a new job for what an ended one did not bring, and follow it to its end.

    Of folders that it finished, only the files that failed are taken; of others, all that is left.

    Example: mediasync jobs retry job_01KAXYZ…
    """
    import asyncio

    from mediasync.cli.session import configure

    configure()
    code = asyncio.run(_retry(job_id, as_json, detach, coordinator))
    if code:
        raise typer.Exit(code)


def _change(command: str, change: Callable[[Client], Awaitable[Job]], as_json: bool, coordinator: str, said: str) -> None:
    import asyncio

    from mediasync.cli import output, report
    from mediasync.cli.session import configure, connected

    async def run() -> Job:
        async with connected(f"jobs {command}", coordinator) as (client, _):
            return await change(client)

    configure()
    job = asyncio.run(run())
    if as_json:
        output.print_json(report.job_json(job))
    else:
        output.line(said.format(job=job.job_id))


async def _retry(job_id: str, as_json: bool, detach: bool, coordinator: str) -> int:
    from contextlib import ExitStack

    from mediasync.cli import output, report
    from mediasync.cli.display import open_display
    from mediasync.cli.follow import Interrupt, follow
    from mediasync.cli.session import connected

    with Interrupt(as_json).handled() as interrupt, ExitStack() as shown:
        display = shown.enter_context(open_display(quiet=as_json or detach))
        async with connected("jobs retry", coordinator) as (client, _):
            job = await client.retry_job(job_id)
            if detach:
                if as_json:
                    output.print_json({"job_id": job.job_id, "sync_id": job.sync_id})
                else:
                    output.line(job.job_id)
                return 0
            ended = await follow(job, display, interrupt)
            shown.close()
            code = report.print_result(ended, as_json)
            interrupt.job_ended(code)
            return code


def _state(name: str) -> JobState:
    from mediasync.errors import MediasyncError, Reason
    from mediasync.model import JobState
    from mediasync.suggest import did_you_mean

    names = [state.value for state in JobState]
    if name not in names:
        raise MediasyncError(
            Reason.INVALID_ARGUMENT, f"there is no state {name!r}; expected one of {', '.join(names)}{did_you_mean(name, names)}"
        )
    return JobState(name)


async def _list(states: list[JobState], limit: int, coordinator: str) -> list[Job]:
    from contextlib import aclosing

    from mediasync.cli.session import connected

    jobs: list[Job] = []
    async with connected("jobs list", coordinator) as (client, _), aclosing(client.list_jobs(states)) as found:
        async for job in found:
            jobs.append(job)
            if len(jobs) == limit:
                break
    return jobs


async def _get(job_id: str, coordinator: str) -> Job:
    from mediasync.cli.session import connected

    async with connected("jobs show", coordinator) as (client, _):
        return await client.get_job(job_id)


async def _watch(job_id: str, as_json: bool, coordinator: str) -> int:
    from mediasync.cli import output, report
    from mediasync.cli.display import open_display
    from mediasync.cli.session import connected

    async with connected("jobs watch", coordinator) as (client, _):
        handle = await client.attach(job_id)
        with open_display(quiet=as_json) as display:
            async for progress in handle.watch():
                display.update(progress)
                if as_json:
                    output.print_json({"progress": progress})
        job = await handle.result()
        if as_json:
            output.print_json({"job": report.job_json(job)})
            return report.exit_code(job)
        return report.print_result(job, as_json=False)


async def _cancel(job_id: str, coordinator: str) -> Job:
    from mediasync.cli.session import connected

    async with connected("jobs cancel", coordinator) as (client, _):
        return await client.cancel_job(job_id)
