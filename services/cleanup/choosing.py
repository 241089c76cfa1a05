"""Which of the groups that a policy would let go do: what is on record of their files, the cap, and how much space is to be freed.

Pure, as `policy` is, which has the whole of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mediasync.model import CleanupPolicy, KeptReason
from mediasync.model.synced import SyncedFile, SyncedState

_GB = 10**9
_HASH_BYTES = 32
_SOME_FILES, _FEW_SHARE = 10, 0.05
_ON_RECORD = {
    SyncedState.CHANGED: KeptReason.CHANGED,
    SyncedState.INCOMPLETE: KeptReason.INCOMPLETE,
    SyncedState.INVALID: KeptReason.INVALID,
    SyncedState.CULLED: KeptReason.CULLED,
    SyncedState.EDITED: KeptReason.EDITED,
    SyncedState.NOT_FLUSHED: KeptReason.COPY_NOT_FLUSHED,
}


def on_record(file: SyncedFile, policy: CleanupPolicy) -> KeptReason | None:
    """Why a file is kept for what is on record of it; None if it may go."""
    reason: KeptReason | None = _ON_RECORD.get(file.state, KeptReason.NOT_SYNCED)
    if file.state is SyncedState.CULLED and policy.clean_culled:
        reason = None
    elif file.state is SyncedState.SYNCED:
        reason = None if file.copies else KeptReason.COPY_MISSING
    # Without a hash nothing can be compared, whatever the record says.
    return reason if reason is not None or len(file.sha256) == _HASH_BYTES else KeptReason.NOT_SYNCED


def shortage(policy: CleanupPolicy, free_bytes: int, total_bytes: int | None) -> int:
    """How many bytes are to be freed at the source; 0 while there is space enough."""
    total = total_bytes or 0
    least = round(max(policy.min_free_space_gb * _GB, policy.min_free_space_percent / 100 * total))
    target = round(max(policy.target_free_space_gb * _GB, policy.target_free_space_percent / 100 * total, least))
    return target - free_bytes if free_bytes < least else 0


def cap_of(policy: CleanupPolicy, files_listed: int, gone_before: int = 0) -> int:
    """How many files may go at most. `gone_before` went by earlier attempts at the same run, and are not listed any more."""
    if policy.force_cap:
        return files_listed
    # A share as people write it is not quite what a computer makes of it: 0.07 of 100 files are 7.
    share = math.ceil(round(policy.max_delete_share * (files_listed + gone_before), 6))
    return max(min(policy.max_delete_files - gone_before, share - gone_before, files_listed), 0)


class Chooser:
    """Which groups go. They are offered oldest first, each once. `shortage_bytes` is what is to be freed for the sake of space;
    `gone_before` is as in `cap_of`."""

    def __init__(self, policy: CleanupPolicy, files_listed: int, shortage_bytes: int = 0, gone_before: int = 0) -> None:
        self._policy = policy
        self._room = cap_of(policy, files_listed, gone_before)
        self._shortage = shortage_bytes
        self.looked_up = 0
        self.on_record = 0

    @property
    def enough(self) -> bool:
        """Whether what goes already frees what is to be freed."""
        return self._shortage <= 0

    def choose(
        self, sizes: Sequence[int], records: Sequence[SyncedFile] | None, young: Sequence[bool] | None = None
    ) -> list[KeptReason | None]:
        """Why each file of a group is kept; None for all of them if they go. `records` is None where nothing is compared with a library.
        Of an `extra` group `young` says which of its files are too young but for low space."""
        reasons: list[KeptReason | None] = [None] * len(sizes)
        if young is not None and self.enough:
            return _ordinary(young)
        if records is not None:
            self.looked_up += len(records)
            self.on_record += sum(record.state not in (SyncedState.UNKNOWN, SyncedState.CHANGED) for record in records)
            reasons = [on_record(record, self._policy) for record in records]
            if any(reasons):
                return _ordinary(young) if young is not None else [reason or KeptReason.COMPANION for reason in reasons]
        if len(sizes) > self._room:
            return _ordinary(young) if young is not None else [KeptReason.CAP] * len(sizes)
        self._room -= len(sizes)
        self._shortage -= sum(sizes)
        return reasons

    @property
    def another_source(self) -> bool:
        """Whether so little of what was looked up is on record that this can hardly be the source that was synced."""
        return self.looked_up >= _SOME_FILES and self.on_record < _FEW_SHARE * self.looked_up


def _ordinary(young: Sequence[bool]) -> list[KeptReason | None]:
    return [KeptReason.TOO_YOUNG if one else KeptReason.COMPANION for one in young]
