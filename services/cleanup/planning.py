"""Plans: a source is looked at (`looking`), what is old enough is asked of the transfer worker, oldest first, and what may go is written
down (`plan_store`) with what is due and stays.

The source's own clock decides how old a file is: this machine's, corrected by how far the source's was off when the connection was made.
Where a scan finds that it is further behind, the source is looked at once more.

Nothing is deleted here, and nothing read but names and times: that a copy is good is found out when its file is about to go.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import (
    MAX_PROBLEMS,
    CleanupPlan,
    CleanupPolicy,
    CleanupSummary,
    Kept,
    KeptReason,
    PlannedFolder,
    Problem,
    SyncSpec,
)
from mediasync.model.synced import SourceFile, SyncedFile
from mediasync.paths import display
from mediasync.sources.base import Connection, DirectoryUnreadable, Surroundings
from mediasync.sources.units import units_of
from services.cleanup.choosing import Chooser, shortage
from services.cleanup.due_store import DueFile, DueFiles, DueStore
from services.cleanup.entities import OriginLibrary, PlanRow
from services.cleanup.looking import Look, Seen, in_words, selection_of
from services.cleanup.peers import Transfer
from services.cleanup.plan_store import STAYS_FROM, NewPlan, PlanStore
from services.cleanup.policy import SECOND_NS, Terms

OnStage = Callable[[str], object]

_LOOKS = 3
_CLOCK_MARGIN_NS = 2 * SECOND_NS
_CLOCK_NOTE_SECONDS = 300.0
_GROUPS_AT_ONCE = 1000
_MOST_FOLDERS = 200
_MOST_STAYS = 10_000
# Over SFTP nobody says what time it is there: its scans tell the newest time that they saw.
_WITHOUT_A_CLOCK = "sftp"


async def make_plan(
    connection: Connection,
    spec: SyncSpec,
    library: OriginLibrary,
    transfer: Transfer,
    plans: PlanStore,
    on_stage: OnStage = lambda stage: None,
    *,
    gone_before: int = 0,
) -> str:
    """Looks at a source, and keeps what a clean-up would do; returns the plan's id. `on_stage` is told what is being done. `gone_before`
    files went by earlier attempts at the same run, and count for its cap. Raises MediasyncError: CLEANUP_NOTHING_SYNCED or
    CLEANUP_SOURCE_DIFFERENT where the clean-up is refused as a whole."""
    return await _Planning(connection, spec, library, transfer, plans, on_stage, gone_before).run()


def asked_of(spec: SyncSpec) -> bytes:
    """Tells apart what plans are made of."""
    policy = replace(policy_in(spec), plan_id="", dry_run=False, after_sync=False, max_files_per_batch=1)
    return hashlib.sha256(repr((spec.source.key, spec.dest_path, spec.folders, selection_of(spec), policy)).encode()).digest()


def policy_in(spec: SyncSpec) -> CleanupPolicy:
    """The policy of a spec; the usual one where it has none."""
    return spec.cleanup or CleanupPolicy()


def terms_of(policy: CleanupPolicy, now_ns: int, *, space_is_low: bool) -> Terms:
    """The terms of a policy. Raises INVALID_ARGUMENT for a pattern that is none."""
    try:
        return Terms.at(policy, now_ns, space_is_low=space_is_low)
    except ValueError as error:
        raise MediasyncError(Reason.INVALID_ARGUMENT, str(error)) from None


def source_now_ns(connection: Connection) -> int:
    """The source's clock, as far as it is known."""
    return time.time_ns() + int(connection.probe.clock_offset_seconds * SECOND_NS)


def space_of(policy: CleanupPolicy, there: Surroundings) -> tuple[int, str]:
    """How many bytes are to be freed for the sake of space, and what a person should know of that."""
    if not (policy.min_free_space_gb or policy.min_free_space_percent):
        return 0, ""
    if there.free_bytes is None or (policy.min_free_space_percent and not there.total_bytes):
        return 0, "how much space is free at the source is not known: `min_free_space` has no effect"
    wanted = shortage(policy, there.free_bytes, there.total_bytes)
    if not wanted:
        return 0, ""
    return wanted, f"space is low at the source: {_gb(there.free_bytes)} are free, and {_gb(there.free_bytes + wanted)} should be"


@dataclass
class _Comes:
    """What a plan comes to, while it is made."""

    kept: dict[KeptReason, Kept]
    gone: Kept = field(default_factory=Kept)
    oldest_ns: int = 0
    newest_ns: int = 0
    folders: dict[bytes, Kept] = field(default_factory=dict)
    stays: int = 0
    stays_left_out: int = 0

    def goes(self, file: DueFile) -> int:
        """Counts a file that would go; returns its number."""
        one = Kept(1, file.size_bytes)
        self.oldest_ns = min(self.oldest_ns, file.age_ns) if self.gone.files else file.age_ns
        self.newest_ns = max(self.newest_ns, file.age_ns) if self.gone.files else file.age_ns
        self.gone += one
        folder = file.path.rpartition(b"/")[0]
        self.folders[folder] = self.folders.get(folder, Kept()) + one
        return self.gone.files

    def stays_for(self, reason: KeptReason, file: DueFile) -> None:
        """Counts a file that stays."""
        self.kept[reason] = self.kept.get(reason, Kept()) + Kept(1, file.size_bytes)

    def listed(self) -> int | None:
        """The number of a file that is due and stays; None where there is no more room for such."""
        if self.stays >= _MOST_STAYS:
            self.stays_left_out += 1
            return None
        self.stays += 1
        return STAYS_FROM + self.stays


class _Planning:
    def __init__(
        self,
        connection: Connection,
        spec: SyncSpec,
        library: OriginLibrary,
        transfer: Transfer,
        plans: PlanStore,
        on_stage: OnStage,
        gone_before: int,
    ) -> None:
        self._connection = connection
        self._gone_before = gone_before
        self._spec = spec
        self._policy = policy_in(spec)
        self._library = library
        self._transfer = transfer
        self._plans = plans
        self._on_stage = on_stage
        self._notes: list[str] = []

    async def run(self) -> str:
        """Makes a plan."""
        self._on_stage("looking at the source")
        await self._plans.forget_old()
        there = await self._connection.surroundings()
        wanted, note = space_of(self._policy, there)
        offset = self._connection.probe.clock_offset_seconds
        if abs(offset) > _CLOCK_NOTE_SECONDS:
            self._notes.append(f"the source's clock is {in_words(offset)} this machine's; its own is what counts")
        self._notes += [note] if note else []
        units = await units_of(self._connection, self._spec.source, self._spec.folders)
        behind_ns = 0
        for _ in range(_LOOKS):
            now_ns = source_now_ns(self._connection) - behind_ns
            with DueStore(self._plans.folder) as due:
                seen, terms = await self._look(units, due, now_ns, space_is_low=wanted > 0)
                if seen.behind_ns <= _CLOCK_MARGIN_NS or self._connection.probe.engine == _WITHOUT_A_CLOCK:
                    return await self._plan(seen, terms, due, there, wanted)
                behind_ns += seen.behind_ns
        raise MediasyncError(
            Reason.SOURCE_PROTOCOL,
            f"the clock of {self._spec.source.label} went back while it was looked at, {_LOOKS} times",
            "Wait until the source's clock is set.",
        )

    async def _look(self, units: Sequence[bytes], due: DueStore, now_ns: int, *, space_is_low: bool) -> tuple[Seen, Terms]:
        terms = terms_of(self._policy, now_ns, space_is_low=space_is_low)
        look = Look(self._connection, selection_of(self._spec), terms, due)
        for unit in units:
            await look.folder(unit)
        return look.seen, terms

    async def _plan(self, seen: Seen, terms: Terms, due: DueStore, there: Surroundings, wanted: int) -> str:
        source = self._spec.source
        if seen.due and self._policy.verify_synced and not self._library.files:
            where = f"the library {self._library.root}" if self._library.root else "any library"
            raise MediasyncError(
                Reason.CLEANUP_NOTHING_SYNCED,
                f"nothing of {source.label} is on record in {where}, while files are due to be deleted",
            )
        self._on_stage("comparing with what is on record")
        plan_id = uuid.uuid4().hex
        new = NewPlan(plan_id, source.key, source.label, self._library.root, asked_of(self._spec))
        key = await self._plans.begin(new)
        try:
            comes, chooser = await self._write(key, seen, terms, due, wanted)
            if chooser.another_source and not self._policy.force_cap:
                raise MediasyncError(
                    Reason.CLEANUP_SOURCE_DIFFERENT,
                    f"of {chooser.looked_up} files of {source.label} that are due, {chooser.on_record} are on record as they are: "
                    "it holds something else than what was synced",
                )
            if wanted and not chooser.enough:
                self._notes.append("what may go does not free as much as should be free")
            await self._plans.end(key, self._comes_to(seen, comes, there), seen.empty_folders)
        except BaseException:
            await self._plans.drop(key)
            raise
        return plan_id

    async def _write(self, key: int, seen: Seen, terms: Terms, due: DueStore, wanted: int) -> tuple[_Comes, Chooser]:
        comes, chooser = _Comes(dict(seen.kept)), Chooser(self._policy, seen.listed, wanted, self._gone_before)
        groups = due.oldest_first()
        while page := await asyncio.to_thread(_some, groups):
            records = await self._records(page, chooser)
            rows = [row for group in page for row in self._rows(group, records, terms, comes, chooser)]
            await self._plans.add(key, rows)
        return comes, chooser

    async def _records(self, page: Sequence[DueFiles], chooser: Chooser) -> dict[bytes, SyncedFile] | None:
        """What is on record of the files of a page that may go; None where nothing is compared."""
        if not self._policy.verify_synced:
            return None
        wanted = [
            SourceFile(file.path, file.size_bytes, file.mtime_ns, file.inode)
            for group in page
            if not (group.extra and chooser.enough)
            for file in group.files
            if file.kept is None
        ]
        if not wanted:
            return {}
        answers = await self._transfer.synced(self._spec.source, self._library.root, wanted)
        return {file.path: answer for file, answer in zip(wanted, answers, strict=True)}

    def _rows(
        self, group: DueFiles, records: dict[bytes, SyncedFile] | None, terms: Terms, comes: _Comes, chooser: Chooser
    ) -> Iterator[PlanRow]:
        lead = group.files[0]
        if lead.kept is not None:
            # It is counted already.
            if (number := comes.listed()) is not None:
                yield _row(number, lead, kept=lead.kept, message=lead.message)
            return
        young = [file.age_ns > terms.due_ns for file in group.files] if group.extra else None
        known = None if records is None or (young and chooser.enough) else [records[file.path] for file in group.files]
        reasons = chooser.choose([file.size_bytes for file in group.files], known, young)
        cause = "space is low" if group.extra else f"older than {self._policy.age_hours:g} h"
        for at, (file, reason) in enumerate(zip(group.files, reasons, strict=True)):
            if reason is None:
                record = known[at] if known is not None else None
                yield _row(comes.goes(file), file, record, joined=at > 0, cause=cause)
                continue
            comes.stays_for(reason, file)
            if young is None and (number := comes.listed()) is not None:
                yield _row(number, file, kept=reason, joined=at > 0)

    def _comes_to(self, seen: Seen, comes: _Comes, there: Surroundings) -> CleanupPlan:
        kept = dict(comes.kept)
        if seen.filtered:
            kept[KeptReason.NO_RESULT] = Kept(seen.filtered)
        if seen.unreadable_total:
            kept[KeptReason.UNREADABLE] = Kept(seen.unreadable_total)
        if left_out := seen.stays_left_out + comes.stays_left_out:
            self._notes.append(f"{left_out} more files are old enough and stay; they are counted, and not listed")
        summary = CleanupSummary(
            files_scanned=seen.listed + seen.filtered + seen.unreadable_total,
            files_deleted=comes.gone.files,
            space_freed_bytes=comes.gone.size_bytes,
            errors=sum(files.files for reason, files in kept.items() if reason.wrong),
            dry_run=True,
            kept=kept,
            problems=tuple(map(_problem, seen.unreadable[:MAX_PROBLEMS])),
            problems_total=seen.unreadable_total,
            notes=tuple(self._notes),
            free_bytes_before=there.free_bytes,
            trashed=not self._policy.verify_synced,
        )
        most = sorted(comes.folders.items(), key=lambda item: (-item[1].size_bytes, item[0]))[:_MOST_FOLDERS]
        return CleanupPlan(
            summary,
            comes.oldest_ns / SECOND_NS,
            comes.newest_ns / SECOND_NS,
            tuple(PlannedFolder(path, files.files, files.size_bytes, seen.listed_in[path] - files.files) for path, files in most),
            self._library.root,
            self._spec.source.label,
        )


def _some(groups: Iterator[DueFiles]) -> list[DueFiles]:
    return list(itertools.islice(groups, _GROUPS_AT_ONCE))


def _row(
    number: int,
    file: DueFile,
    record: SyncedFile | None = None,
    *,
    kept: KeptReason | None = None,
    joined: bool = False,
    message: str = "",
    cause: str = "",
) -> PlanRow:
    sha256, copies = (record.sha256, record.copies) if record else (b"", ())
    about = (kept, joined, message, cause, file.ctime_ns)
    return PlanRow(number, file.path, file.size_bytes, file.mtime_ns, file.inode, file.age_ns, sha256, copies, *about)


def _problem(record: DirectoryUnreadable) -> Problem:
    text = f"{display(record.path) or 'the root'} at the source cannot be listed: {record.message}"
    return Problem.of(MediasyncError(Reason.FOLDER_UNREADABLE, text), record.path)


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
