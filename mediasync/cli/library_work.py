"""What `mediasync library` does, and how it tells."""

from __future__ import annotations

import base64
import dataclasses
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from mediasync.cli import output
from mediasync.errors import ExitCode
from mediasync.library import AdoptSummary, Finding, FindingCounts, FindingKind, LibraryProgress, VerifyOptions, VerifySummary
from mediasync.model import Job
from mediasync.paths import display

if TYPE_CHECKING:
    from mediasync.cli.targets import Wishes
    from mediasync.client import Client
    from mediasync.config import Configuration

S = TypeVar("S", VerifySummary, AdoptSummary)

_SHOWN = 20
_MOST_LISTED = 100_000
_PLAIN_SECONDS = 2.0
_LOST = (FindingKind.MISSING, FindingKind.CORRUPT)
_WORDS = {
    FindingKind.MISSING: ("✗", "red", "missing"),
    FindingKind.CORRUPT: ("✗", "red", "corrupt"),
    FindingKind.UNREADABLE: ("✗", "red", "unreadable"),
    FindingKind.CHANGED: ("!", "yellow", "changed"),
    FindingKind.MOVED: ("→", "cyan", "moved"),
    FindingKind.UNKNOWN: ("?", "", "unknown"),
    FindingKind.CULLED: ("-", "", "culled"),
}


class Progress:
    """How far it is, on stderr: one line that changes on a terminal, a line now and then elsewhere; nothing when machines read."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and output.coloured(sys.stderr)
        self._began: dict[str, float] = {}
        self._shown_at = 0.0
        self._shown = ""

    def show(self, progress: LibraryProgress) -> None:
        """The newest state."""
        now = time.monotonic()
        began = self._began.setdefault(progress.stage, now)
        if self._quiet or (not self._live and now - self._shown_at < _PLAIN_SECONDS):
            return
        text = progress_line(progress, now - began)
        if text != self._shown:
            sys.stderr.write(f"\r\x1b[K{text}" if self._live else f"{text}\n")
            sys.stderr.flush()
        self._shown, self._shown_at = text, now

    def end(self) -> None:
        """Clears the line."""
        if self._live and self._shown and not self._quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def progress_line(progress: LibraryProgress, seconds: float) -> str:
    """`adopting, 1,200 of 100,000 files, 2.1 GB of 30 GB, 510 MB/s, 1 min 2 s left`."""
    parts = [progress.stage + (" (going on where it was)" if progress.resumed else "")]
    if progress.files_total:
        parts.append(f"{min(progress.files_done, progress.files_total):,} of {output.count(progress.files_total, 'file')}")
    elif progress.files_done:
        parts.append(output.count(progress.files_done, "file"))
    if progress.bytes_done:
        of = f" of {output.size(progress.bytes_total)}" if progress.bytes_total else " read"
        parts.append(output.size(progress.bytes_done) + of)
    if seconds >= 1:
        if progress.bytes_done:
            parts.append(f"{output.size(progress.bytes_done / seconds)}/s")
        share = max(
            progress.bytes_done / progress.bytes_total if progress.bytes_total else 0.0,
            progress.files_done / progress.files_total if progress.files_total and not progress.bytes_total else 0.0,
        )
        if 0 < share < 1 and not progress.resumed:
            parts.append(f"{output.span(seconds * (1 - share) / share)} left")
    return ", ".join(parts)


async def verify(root: str, options: VerifyOptions, repair: bool, as_json: bool, coordinator: str) -> int:
    """The whole command; returns its exit code."""
    from mediasync.cli.session import connected

    async with connected("library verify", coordinator) as (client, _):
        findings, summary = await _heard(client.verify_library(root, options), as_json)
        jobs: list[Job] = []
        without = 0
        if repair and any(summary.findings.get(kind) for kind in _LOST):
            jobs, without = await _repair(client, root, as_json)
            again = dataclasses.replace(options, findings_only=True, restart=False)
            findings, left = await _heard(client.verify_library(root, again), as_json)
            # What was repaired is as on record now.
            summary = dataclasses.replace(summary, findings=left.findings)
    code = ExitCode.SOME_FILES_FAILED if summary.wrong else ExitCode.DONE
    if as_json:
        output.print_json(_verify_json(root, findings, summary, jobs, without, repair))
        return int(code)
    _print_findings(findings, summary.findings)
    if repair:
        brought = sum(job.summary.files_transferred for job in jobs)
        output.line(f"{output.count(brought, 'file')} brought again" + (f"; no source has {without:,} others" if without else ""))
    looked = f"{output.count(summary.files_intact, 'file')} as on record"
    if summary.files_read:
        looked += f", {summary.files_read:,} of them read ({output.size(summary.bytes_read)})"
    if summary.files_left_out:
        looked += f", {summary.files_left_out:,} left out"
    mark = output.style("✓", "green") if not summary.wrong else output.style("✗", "red")
    output.line(f"{mark} {root}: {looked}; {_counted(summary.findings)}")
    if summary.wrong and not repair:
        lost = any(finding.kind in _LOST and finding.source for finding in findings)
        output.note(
            "  → `--repair` brings missing and corrupt files again; `--accept` says that it is meant to be so."
            if lost
            else "  → `--accept` says that it is meant to be so."
        )
    return int(code)


async def adopt(
    root: str, source: str, wishes: Wishes, configuration: Configuration, own_file: bool, as_json: bool, coordinator: str
) -> int:
    """The whole command; returns its exit code."""
    from mediasync.cli import report
    from mediasync.cli.session import connected
    from mediasync.cli.targets import resolve_sync

    ended: Job | None = None
    async with connected("library adopt", coordinator) as (client, _):
        spec = await resolve_sync(client, source, wishes, configuration, own_file=own_file) if source else None
        findings, summary = await _heard(client.adopt_library(root), as_json)
        if spec is not None:
            ended = await _followed(client, (await client.start_sync(spec)).job_id, as_json)
    code = int(ExitCode.SOME_FILES_FAILED if summary.findings.get(FindingKind.UNREADABLE) else ExitCode.DONE)
    if as_json:
        told = {**_counts_json(summary.findings), "findings": _findings_json(findings)}
        adopted = {name: getattr(summary, name) for name in ("files_adopted", "bytes_adopted", "files_known", "others", "files_unsettled")}
        output.print_json({"library": root, **adopted, **told, "sync": report.sync_result(ended) if ended else None})
        return max(code, int(report.exit_code(ended))) if ended else code
    _print_findings([finding for finding in findings if finding.kind is not FindingKind.UNKNOWN], summary.findings)
    known = f"; {summary.files_known:,} were on record already" if summary.files_known else ""
    adopted_text = f"{output.count(summary.files_adopted, 'file')} adopted ({output.size(summary.bytes_adopted)})"
    output.line(f"{output.style('✓', 'green')} {root}: {adopted_text}{known}")
    if summary.files_unsettled:
        output.note(f"  {output.count(summary.files_unsettled, 'file')} were being written; adopt once more to take them.")
    return max(code, int(report.print_result(ended, as_json=False))) if ended else code


async def stats(root: str, as_json: bool, coordinator: str) -> None:
    """The whole command."""
    from mediasync.cli.session import connected

    async with connected("library stats", coordinator) as (client, _):
        found = await client.library_stats(root)
    if as_json:
        told = {field.name: output.plain(getattr(found, field.name)) for field in dataclasses.fields(found) if field.name != "findings"}
        output.print_json({"library": root, **told, **_counts_json(found.findings)})
        return
    duplicates = f"{output.count(found.duplicate_files, 'file')}, {output.size(found.duplicate_bytes)}"
    output.pairs(
        [
            ("library", root),
            ("files", f"{found.files:,} ({output.size(found.size_bytes)})"),
            ("duplicates", duplicates if found.duplicate_files else ""),
            ("incomplete", f"{found.incomplete_files:,}" if found.incomplete_files else ""),
            ("culled", f"{found.culled_files:,} removed by their owner" if found.culled_files else ""),
            ("last sync", output.moment(found.last_sync_time) or "never"),
            ("last verify", output.moment(found.last_verify_time) or "never"),
            ("left of it", _counted(found.findings) if found.last_verify_time else ""),
            ("read back", f"{found.files_read:,} of {output.count(found.files, 'file')}"),
            ("free", f"{output.size(found.free_bytes)} of {output.size(found.capacity_bytes)}"),
        ]
    )
    for title, shares in (("source", found.sources), ("type", found.types)):
        if shares:
            output.line()
            rows = [[share.name, f"{share.files:,}", output.size(share.size_bytes)] for share in shares]
            output.table([title, "files", "size"], rows, right=["files", "size"])


async def _heard(events: AsyncGenerator[LibraryProgress | Finding | S, None], as_json: bool) -> tuple[list[Finding], S]:
    """Shows progress, and gathers what is told."""
    progress = Progress(quiet=as_json)
    findings: list[Finding] = []
    try:
        async with aclosing(events) as stream:
            async for event in stream:
                if isinstance(event, LibraryProgress):
                    progress.show(event)
                elif isinstance(event, Finding):
                    if len(findings) < _MOST_LISTED:
                        findings.append(event)
                else:
                    return findings, event
    finally:
        progress.end()
    raise AssertionError("the stream ends with its summary, or raises")


async def _repair(client: Client, root: str, as_json: bool) -> tuple[list[Job], int]:
    """Brings again what was lost; returns the jobs as they ended."""
    from mediasync.cli import report

    job_ids, without = await client.repair_library(root)
    jobs = []
    for job_id in job_ids:
        job = await _followed(client, job_id, as_json)
        if job.problem is not None and not as_json:
            report.print_result(job, as_json=False)
        jobs.append(job)
    return jobs, without


async def _followed(client: Client, job_id: str, as_json: bool) -> Job:
    """A job to its end. Ctrl-C cancels it."""
    from mediasync.cli.display import open_display
    from mediasync.cli.follow import Interrupt, follow

    with Interrupt(as_json).handled() as interrupt, open_display(quiet=as_json) as shown:
        return await follow(await client.attach(job_id), shown, interrupt)


def _print_findings(findings: Sequence[Finding], counts: FindingCounts) -> None:
    for kind, (mark, colour, word) in _WORDS.items():
        shown = [finding for finding in findings if finding.kind is kind]
        if kind is FindingKind.CULLED:
            continue  # counted; nothing to look at
        for finding in shown[:_SHOWN]:
            notes = [finding.message] if finding.message else []
            if finding.moved_from:
                notes.append(f"from {display(finding.moved_from)}")
            if finding.source:
                notes.append(f"{finding.source} has it")
            more = f" ({'; '.join(notes)})" if notes else ""
            output.line(f"{output.style(mark, colour)} {word:<10} {display(finding.path) or '(the library itself)'}{more}")
        if counts.get(kind, 0) > _SHOWN:
            output.line(f"  … and {counts[kind] - _SHOWN:,} more {word} (`--json` lists them)")


def _counted(counts: FindingCounts) -> str:
    return ", ".join(f"{counts[kind]:,} {words[2]}" for kind, words in _WORDS.items() if counts.get(kind)) or "nothing else"


def _counts_json(counts: FindingCounts) -> dict[str, int]:
    return {f"files_{kind.value}": counts.get(kind, 0) for kind in FindingKind}


def _findings_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """For machines; `path` is for people, `path_base64` holds the exact bytes of the name."""
    return [
        {
            "kind": finding.kind.value,
            "path": display(finding.path),
            "path_base64": base64.b64encode(finding.path).decode("ascii"),
            "moved_from": display(finding.moved_from),
            "size_bytes": finding.size_bytes,
            "source": finding.source,
            "message": finding.message,
        }
        for finding in findings
    ]


def _verify_json(
    root: str, findings: Sequence[Finding], summary: VerifySummary, jobs: Sequence[Job], without: int, repair: bool
) -> dict[str, Any]:
    return {
        "library": root,
        "files_intact": summary.files_intact,
        "files_read": summary.files_read,
        "bytes_read": summary.bytes_read,
        "files_left_out": summary.files_left_out,
        "others": summary.others,
        **_counts_json(summary.findings),
        "wrong": summary.wrong,
        "findings": _findings_json(findings),
        "findings_omitted": max(0, sum(summary.findings.values()) - len(findings)),
        "repair": {"jobs": [job.job_id for job in jobs], "files_brought": sum(job.summary.files_transferred for job in jobs)}
        | {"files_without_source": without}
        if repair
        else None,
    }
