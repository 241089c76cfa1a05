"""What `mediasync clean` does: a plan, a question, a job."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mediasync.cli import clean_display, clean_options, output
from mediasync.errors import ExitCode, FieldViolation, MediasyncError, Reason
from mediasync.model import CleanupSummary, SyncSpec

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from mediasync.cleanup_client import CleanupPreview
    from mediasync.cli.follow import Interrupt
    from mediasync.cli.targets import Wishes
    from mediasync.client import Client
    from mediasync.config import Configuration

_LOOKING = "looking at what is there"


def check_somebody_to_ask(as_json: bool) -> None:
    """Raises INVALID_ARGUMENT where a question would reach nobody."""
    if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise MediasyncError(
            Reason.INVALID_ARGUMENT,
            "a clean-up deletes files, and there is nobody to ask whether that is meant",
            "See what would go with --dry-run, then say --yes.",
            [FieldViolation("--yes", "missing")],
        )


def check(source: str, wishes: Wishes, configuration: Configuration) -> None:
    """Says what is wrong with a source and the options before any service is started for it."""
    from mediasync.cli.targets import resolve_folders, spec_from_url
    from mediasync.config import is_url

    if not is_url(source):
        resolve_folders(wishes)
        return
    if not spec_from_url(source, wishes, configuration, needs_dest=False).dest_path:
        raise MediasyncError(
            Reason.INVALID_ARGUMENT,
            "there is no library to compare with",
            "Name the folder that the URL was synced into: --library DIR (or set MEDIA_BASE).",
            [FieldViolation("--library", "missing")],
        )


@dataclass
class Work:
    """One `mediasync clean`: of what, and by which wishes."""

    source: str
    wishes: Wishes
    fields: Mapping[str, Any]
    configuration: Configuration
    own_file: bool
    coordinator: str
    as_json: bool

    async def preview(self) -> int:
        """Tells what would go, file by file, and what would stay; returns the exit code."""
        async with self._connected("clean --dry-run") as (client, spec, _):
            preview = await self._planned(client, spec)
            if self.as_json:
                await clean_display.print_plan_json(preview)
            else:
                assert spec.cleanup is not None
                await clean_display.print_files(preview, spec.cleanup)
                output.line(output.style("Nothing was deleted. A clean-up would do this:", bold=True))
                clean_display.print_plan(preview.plan, spec.cleanup)
            return _code(preview.plan.summary)

    async def clean(self, *, yes: bool, detach: bool) -> int:
        """Cleans up, after a question unless `yes`; returns the exit code."""
        from mediasync.cli.follow import Interrupt

        with Interrupt(self.as_json, kept="what is gone by then is in `mediasync clean history`").handled() as interrupt:
            async with self._connected("clean") as (client, spec, root):
                assert spec.cleanup is not None
                if not yes:
                    preview = await self._planned(client, spec)
                    clean_display.print_plan(preview.plan, spec.cleanup)
                    if not preview.plan.summary.files_deleted:
                        return _code(preview.plan.summary)
                    if spec.cleanup.dry_run:
                        output.note("Nothing was deleted: the source's configuration says `dry_run`.")
                        return _code(preview.plan.summary)
                    if not await _asked(_question(preview.plan.summary)):
                        raise MediasyncError(Reason.CANCELLED, "nothing was deleted")
                    spec = replace(spec, cleanup=replace(spec.cleanup, plan_id=preview.plan_id))
                return await self._run(client, spec, root, interrupt, detach=detach)

    async def _run(self, client: Client, spec: SyncSpec, root: Span, interrupt: Interrupt, *, detach: bool) -> int:
        from mediasync.cli import report
        from mediasync.cli.display import open_display
        from mediasync.cli.follow import follow
        from mediasync.runtime.context import SYNC_ID_BAGGAGE

        with ExitStack() as shown:
            display = shown.enter_context(open_display(quiet=self.as_json or detach))
            job = await client.start_cleanup(spec)
            root.set_attribute(SYNC_ID_BAGGAGE, job.sync_id)
            if detach:
                if self.as_json:
                    output.print_json({"job_id": job.job_id, "sync_id": job.sync_id})
                else:
                    output.line(job.job_id)
                    output.note(f"Follow it with `mediasync jobs watch {job.job_id}`.")
                return int(ExitCode.DONE)
            ended = await follow(job, display, interrupt)
            shown.close()
            code = report.print_result(ended, self.as_json)
            interrupt.job_ended(code)
            return int(code)

    @contextlib.asynccontextmanager
    async def _connected(self, command: str) -> AsyncIterator[tuple[Client, SyncSpec, Span]]:
        from mediasync.cli.session import connected
        from mediasync.cli.targets import resolve_sync

        async with connected(command, self.coordinator) as (client, root):
            spec = await resolve_sync(client, self.source, self.wishes, self.configuration, own_file=self.own_file, needs_dest=False)
            yield client, replace(spec, cleanup=clean_options.overlay(spec.cleanup, self.fields)), root

    async def _planned(self, client: Client, spec: SyncSpec) -> CleanupPreview:
        with _said(_LOOKING, quiet=self.as_json):
            return await client.preview_cleanup(spec)


def _code(summary: CleanupSummary) -> int:
    return int(ExitCode.SOME_FILES_FAILED if summary.errors else ExitCode.DONE)


def _question(summary: CleanupSummary) -> str:
    verb = "Move" if summary.trashed else "Delete"
    end = " to the trash folder" if summary.trashed else ""
    return f"{verb} {output.count(summary.files_deleted, 'file')}, {output.size(summary.space_freed_bytes)}{end}? [y/N]: "


async def _asked(question: str) -> bool:
    """Whether a person says yes. The loop goes on meanwhile, so that Ctrl-C is heard and the services stay ours."""
    sys.stderr.write(question)
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    try:
        await typed.wait()
    except asyncio.CancelledError:
        output.note()
        raise MediasyncError(Reason.CANCELLED, "nothing was deleted") from None
    finally:
        loop.remove_reader(sys.stdin.fileno())
    # A terminal hands out whole lines; its end is a no.
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        output.note()
    return answer.strip().lower() in ("y", "yes")


@contextlib.contextmanager
def _said(text: str, *, quiet: bool) -> Iterator[None]:
    """Says on stderr what is being done while inside."""
    live = sys.stderr.isatty() and output.coloured(sys.stderr)
    if not quiet:
        sys.stderr.write(text if live else f"{text}\n")
        sys.stderr.flush()
    try:
        yield
    finally:
        if live and not quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
