"""What a sync of a folder would do, file by file, without doing any of it: nothing is taken, and nothing remembered.

Everything is listed, also what has not moved since the last sync. What only the content could tell is not found out, and said so: whether a
file with new times holds new bytes, and whether a half-written one is complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from mediasync.model import FilterReason, PreviewDecision, PreviewedFile, PreviewSummary
from mediasync.sources.base import DirectoryScanned, FileEntry, FileFiltered
from services.transfer.diff import DirectoryDiff
from services.transfer.parts import Parts
from services.transfer.scanning import FolderScan, missing_copies

_FILES_AT_ONCE = 500
_UNLESS_CHANGED = "taken only if its content differs"

OnFiles = Callable[[Sequence[PreviewedFile]], Awaitable[None]]


class FolderPreview:
    """One preview. `on_files` gets some files at a time, and slows the preview down by taking its time."""

    def __init__(self, parts: Parts, on_files: OnFiles) -> None:
        self._parts = parts
        self._on_files = on_files
        self._files: list[PreviewedFile] = []
        self._counts: Counter[PreviewDecision] = Counter()
        self._bytes_to_take = 0

    async def run(self) -> PreviewSummary:
        """What a sync would do. Raises MediasyncError when the source is lost."""

        async def start_over() -> None:
            self._counts.clear()
            self._bytes_to_take = 0

        scan = FolderScan(self._parts, on_directory=self._directory, on_filtered=self._filtered)
        result = await scan.exact(start_over)
        result.close()
        for record in result.unreadable:
            await self._add(PreviewedFile(record.path, 0, PreviewDecision.UNREADABLE, record.message))
        await self._flush()
        gone = [path for path, names in result.vanished.items() if names is None]
        vanished = sum(len(names) for names in result.vanished.values() if names is not None)
        vanished += await self._parts.manifest.files_in(self._parts.unit.origin, gone)
        counts = self._counts
        return PreviewSummary(
            files_to_take=counts[PreviewDecision.TAKE],
            bytes_to_take=self._bytes_to_take,
            files_unchanged=counts[PreviewDecision.UNCHANGED],
            files_filtered=counts[PreviewDecision.FILTERED],
            files_unsettled=counts[PreviewDecision.UNSETTLED],
            files_culled=counts[PreviewDecision.CULLED],
            files_unreadable=counts[PreviewDecision.UNREADABLE],
            files_vanished=vanished,
        )

    async def _directory(self, record: DirectoryScanned, difference: DirectoryDiff, there: Sequence[FileEntry]) -> None:
        parts = self._parts
        listed = [*difference.wanted, *difference.doubtful, *difference.unchanged]
        rows = await parts.manifest.rows(parts.unit.origin, [entry.path for entry in listed])
        missing = await parts.run(missing_copies, parts.unit.origin.library.root, rows)
        for entry in difference.wanted:
            row = rows.get(entry.path)
            reason = "new" if row is None else "changed"
            if row is not None and row.size_bytes == entry.size_bytes and entry.path in missing:
                reason = "deleted in the library, and to be restored"
            await self._add(PreviewedFile(entry.path, entry.size_bytes, PreviewDecision.TAKE, reason))
        for entry in there:
            reason = f"the library has a file of this name and size; {_UNLESS_CHANGED}"
            await self._add(PreviewedFile(entry.path, entry.size_bytes, PreviewDecision.UNCHANGED, reason))
        for entry in difference.doubtful:
            decision = PreviewDecision.CULLED if entry.path in missing else PreviewDecision.UNCHANGED
            reason = f"deleted in the library; {_UNLESS_CHANGED}" if entry.path in missing else f"its times moved; {_UNLESS_CHANGED}"
            await self._add(PreviewedFile(entry.path, entry.size_bytes, decision, reason))
        for entry in difference.unchanged:
            if entry.path in missing:
                await self._add(PreviewedFile(entry.path, entry.size_bytes, PreviewDecision.CULLED, "deleted in the library"))
            else:
                await self._add(PreviewedFile(entry.path, entry.size_bytes, PreviewDecision.UNCHANGED, "taken earlier"))

    async def _filtered(self, record: FileFiltered) -> None:
        young = record.reason is FilterReason.TOO_YOUNG
        decision = PreviewDecision.UNSETTLED if young else PreviewDecision.FILTERED
        await self._add(PreviewedFile(record.path, record.size_bytes, decision, record.reason.because))

    async def _add(self, file: PreviewedFile) -> None:
        self._counts[file.decision] += 1
        if file.decision is PreviewDecision.TAKE:
            self._bytes_to_take += file.size_bytes
        self._files.append(file)
        if len(self._files) >= _FILES_AT_ONCE:
            await self._flush()

    async def _flush(self) -> None:
        files, self._files = self._files, []
        if files:
            await self._on_files(files)
