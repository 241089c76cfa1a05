"""What a clean-up would do, and what one did: for people and for machines."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any

from mediasync.cli import output
from mediasync.model import WHATEVER_AGE_HOURS, CleanupPlan, CleanupPolicy, CleanupSummary, Kept, KeptReason, PlannedFile, PlannedFolder
from mediasync.paths import display

if TYPE_CHECKING:
    from mediasync.cleanup_client import CleanupPreview

_SHOWN_FOLDERS = 20
_WORDS = {
    KeptReason.UNKNOWN: "for a reason that this version does not know",
    KeptReason.TOO_YOUNG: "younger than {age}",
    KeptReason.RECENT: "modified within the last {recent}",
    KeptReason.FUTURE: "with a time in the future of the source's clock",
    KeptReason.PRESERVED: "preserved by a pattern",
    KeptReason.EXCLUDED: "excluded by a pattern",
    KeptReason.EXTENSION: "with other extensions",
    KeptReason.TOO_SMALL: "smaller than {min_size}",
    KeptReason.KEEP_LAST: "among the newest {keep_last} of their folder",
    KeptReason.COUNTER: "with the highest number of their folder, so that names do not start again",
    KeptReason.COMPANION: "together with a file that is kept",
    KeptReason.NOT_SYNCED: "not synced yet",
    KeptReason.CHANGED: "changed since they were synced; the next sync takes them",
    KeptReason.INCOMPLETE: "incomplete when they were taken",
    KeptReason.INVALID: "damaged: their content is not what the name says",
    KeptReason.CULLED: "deleted by you in the library; --culled lets them go",
    KeptReason.EDITED: "edited in the library, with no copy as it came",
    KeptReason.COPY_MISSING: "with no copy in the library any more",
    KeptReason.COPY_CORRUPT: "whose copy in the library is corrupt",
    KeptReason.COPY_UNREADABLE: "whose copy in the library cannot be read",
    KeptReason.COPY_NOT_FLUSHED: "whose copy may not be on the library's disk yet",
    KeptReason.NO_RESULT: "not results: hidden, temporary, links, or filtered",
    KeptReason.CAP: "beyond what one run may delete; run it again, or --force-cap",
    KeptReason.CHANGED_MEANWHILE: "changed just before their turn",
    KeptReason.REFUSED: "that the source did not let go",
    KeptReason.STOPPED: "not reached before it was stopped",
    KeptReason.UNREADABLE: "that cannot be looked at",
}

# Where the words for many do not fit one.
_ONE = {
    KeptReason.UNKNOWN: "for a reason that this version does not know",
    KeptReason.FUTURE: "its time lies in the future of the source's clock",
    KeptReason.EXTENSION: "its extension is not among those that may go",
    KeptReason.KEEP_LAST: "it is among the newest of its folder",
    KeptReason.COUNTER: "it has the highest number of its folder, and names would start again without it",
    KeptReason.COMPANION: "a file that it goes together with is kept",
    KeptReason.CHANGED: "it changed since it was synced; the next sync takes it",
    KeptReason.INCOMPLETE: "it was incomplete when it was taken",
    KeptReason.INVALID: "it is damaged: its content is not what the name says",
    KeptReason.CULLED: "you deleted it in the library; --culled lets it go",
    KeptReason.EDITED: "its copy in the library was edited, and there is none as it came",
    KeptReason.COPY_MISSING: "its copy in the library is not there any more",
    KeptReason.COPY_CORRUPT: "its copy in the library is corrupt",
    KeptReason.COPY_UNREADABLE: "its copy in the library cannot be read",
    KeptReason.COPY_NOT_FLUSHED: "its copy may not be on the library's disk yet",
    KeptReason.NO_RESULT: "it is no result: hidden, temporary, a link, or filtered",
    KeptReason.CAP: "more is due than one run may delete",
    KeptReason.CHANGED_MEANWHILE: "it changed just before its turn",
    KeptReason.REFUSED: "the source did not let it go",
    KeptReason.STOPPED: "the run was stopped before its turn",
    KeptReason.UNREADABLE: "it cannot be looked at",
}


def why(reason: KeptReason, policy: CleanupPolicy | None = None) -> str:
    """Why files are kept, in words; behind a number of them, or a comma."""
    policy = policy or CleanupPolicy()
    if reason is KeptReason.TOO_YOUNG and policy.age_hours >= WHATEVER_AGE_HOURS:
        return f"not needed for the space that was asked for, younger than {_age(policy.min_age_minutes * 60)}, or kept by another rule"
    return _WORDS[reason].format(
        age=_age(round(policy.age_hours * 3600, 3)),
        recent=_age(round(policy.preserve_recent_minutes * 60, 3)),
        min_size=output.size(policy.min_size_bytes),
        keep_last=f"{policy.keep_last:,}",
    )


def why_one(reason: KeptReason, policy: CleanupPolicy | None = None) -> str:
    """Why a file is kept, as a sentence about it."""
    return _ONE.get(reason) or f"it is {why(reason, policy)}"


def by_reason(summary: CleanupSummary) -> list[tuple[KeptReason, Kept]]:
    """What was kept: what somebody should look at first, then the most frequent reason."""
    return sorted(
        ((reason, kept) for reason, kept in summary.kept.items() if kept.files), key=lambda item: (not item[0].wrong, -item[1].files)
    )


def kept_lines(summary: CleanupSummary, policy: CleanupPolicy | None) -> str:
    """`1,040 files` and below it a line for each reason; empty where nothing was kept."""
    rows = by_reason(summary)
    if not rows:
        return ""
    width = max(len(f"{kept.files:,}") for _, kept in rows)
    lines = []
    for reason, kept in rows:
        text = f"{kept.files:>{width},} {why(reason, policy)}"
        lines.append(output.style(text, "red") if reason.wrong else text)
    return "\n".join([output.count(summary.files_kept, "file"), *lines])


def deleted_text(summary: CleanupSummary) -> str:
    """How many, and how much."""
    text = f"{output.count(summary.files_deleted, 'file')}, {output.size(summary.space_freed_bytes)}"
    return text + (", moved to a trash folder" if summary.trashed else "")


def summary_pairs(summary: CleanupSummary, policy: CleanupPolicy | None) -> list[tuple[str, object]]:
    """What a clean-up did, or would do, below its verdict."""
    deleted = "would go" if summary.dry_run else "moved" if summary.trashed else "deleted"
    free = summary.free_bytes_before if summary.free_bytes_after is None else summary.free_bytes_after
    return [
        (deleted, deleted_text(summary)),
        (
            "vanished",
            f"{output.count(summary.files_vanished, 'file')}, removed by somebody else meanwhile" if summary.files_vanished else "",
        ),
        ("kept", kept_lines(summary, policy)),
        ("folders", f"{output.count(summary.folders_removed, 'empty folder')} removed" if summary.folders_removed else ""),
        ("free there", "" if free is None else output.size(free)),
    ]


def print_notes(summary: CleanupSummary) -> None:
    """What is worth a look."""
    for text in summary.notes:
        output.line(f"  {output.style('!', 'yellow')} {text}")


def print_plan(plan: CleanupPlan, policy: CleanupPolicy) -> None:
    """What would be deleted, from when, of which folders, and what would stay."""
    summary = plan.summary
    if summary.files_deleted:
        what = "be moved to a trash folder" if summary.trashed else "go"
        verdict = f"{output.count(summary.files_deleted, 'file')} of {plan.source} would {what}, {output.size(summary.space_freed_bytes)}"
    else:
        verdict = f"Nothing of {plan.source} would go"
    output.line(output.style(verdict, bold=True))
    output.pairs(
        [
            ("library", plan.library_root),
            ("oldest", output.moment(plan.oldest)),
            ("newest", output.moment(plan.newest)),
            ("looked at", output.count(summary.files_scanned, "file")),
            *[pair for pair in summary_pairs(summary, policy) if pair[0] != "would go"],
        ]
    )
    print_notes(summary)
    going = [folder for folder in plan.folders if folder.files]
    if going:
        if not sys.stdout.isatty():
            output.line()
        output.table(
            ["folder", "would go", "size", "stay"],
            [
                [_folder(folder), f"{folder.files:,}", output.size(folder.size_bytes), f"{folder.files_kept:,}"]
                for folder in going[:_SHOWN_FOLDERS]
            ],
            right=["would go", "size", "stay"],
        )
    if len(going) > _SHOWN_FOLDERS:
        output.line(f"  … and {output.count(len(going) - _SHOWN_FOLDERS, 'more folder')}")


async def print_files(preview: CleanupPreview, policy: CleanupPolicy) -> None:
    """A line a file: a minus before what would go."""
    async for file in preview.files():
        sys.stdout.write(planned_line(file, policy) + "\n")


def planned_line(file: PlannedFile, policy: CleanupPolicy) -> str:
    """A file of a plan in a line."""
    mark = output.style("-", "red", bold=True) if file.kept is None else output.style("=", dim=True)
    if file.kept is not None:
        told = f"{file.kept.value}: {file.message or why_one(file.kept, policy)}"
    else:
        told = "; ".join(text for text in ("goes with the one above" if file.joined else "", file.message) if text)
    more = f"  {output.style(f'({told})', dim=True)}" if told else ""
    return f"{mark} {output.size(file.size_bytes):>8}  {output.moment(file.age_time):19}  {display(file.path)}{more}"


async def print_plan_json(preview: CleanupPreview) -> None:
    """One object, whose `files`, which may be very many, are written while they come."""
    plan = preview.plan
    head = {
        **summary_json(plan.summary),
        "plan_id": preview.plan_id,
        "source": plan.source,
        "library": plan.library_root,
        "oldest": plan.oldest or None,
        "newest": plan.newest or None,
        "folders": output.plain(plan.folders),
    }
    sys.stdout.write(json.dumps(head)[:-1] + ', "files": [')
    before = ""
    async for file in preview.files():
        sys.stdout.write(before + json.dumps(planned_json(file)))
        before = ", "
    output.line("]}")


def planned_json(file: PlannedFile) -> dict[str, Any]:
    """A file of a plan for machines; `path` is for people, `path_base64` holds the exact bytes of the name."""
    return {
        "path": display(file.path),
        "path_base64": base64.b64encode(file.path).decode("ascii"),
        "size_bytes": file.size_bytes,
        "age_time": file.age_time,
        "kept": file.kept.value if file.kept else None,
        "joined": file.joined,
        "message": file.message,
    }


def summary_json(summary: CleanupSummary) -> dict[str, Any]:
    """What a clean-up did, or would do, for machines."""
    return {
        "files_scanned": summary.files_scanned,
        "files_deleted": summary.files_deleted,
        "files_kept": summary.files_kept,
        "space_freed_bytes": summary.space_freed_bytes,
        "errors": summary.errors,
        "dry_run": summary.dry_run,
        "kept_by_reason": {reason.value: kept.files for reason, kept in by_reason(summary)},
        "files_vanished": summary.files_vanished,
        "folders_removed": summary.folders_removed,
        "trashed": summary.trashed,
        "free_bytes_before": summary.free_bytes_before,
        "free_bytes_after": summary.free_bytes_after,
        "notes": list(summary.notes),
    }


def _folder(folder: PlannedFolder) -> str:
    return display(folder.folder) or "(the source's path)"


def _age(seconds: float) -> str:
    """`24 h`, `90 min`, `7 days`."""
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds % unit == 0 and seconds >= (2 * unit if unit == 86_400 else unit):
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:g} s"
