"""`mediasync jobs`: what was asked for, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mediasync.cli.arguments import AsJson, Coordinator

if TYPE_CHECKING:
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
            ["job", "state", "created", "source", "files", "size"],
            [
                [
                    job.job_id,
                    job.state.value,
                    output.moment(job.create_time),
                    job.spec.source.label,
                    f"{job.summary.files_transferred:,}",
                    output.size(job.summary.bytes_transferred),
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
        ]
    )
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
