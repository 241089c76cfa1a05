"""The trash folder of a source whose clean-up compares with no library: `.mediasync/trash/YYYY-MM-DD/SYNC_ID/`, below the source's root.

Days are of this machine's clock, in UTC: what counts is how long something has been there, and a day more or less is no matter.
"""

from __future__ import annotations

import datetime

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupPolicy, SourceSpec

FOLDER = b".mediasync/trash"


def check_unverified(source: SourceSpec, policy: CleanupPolicy) -> None:
    """Raises CLEANUP_UNVERIFIED for a policy that compares with nothing and does not say that this is meant."""
    if not policy.verify_synced and not policy.i_mean_it:
        raise MediasyncError(
            Reason.CLEANUP_UNVERIFIED,
            f"{source.label} would be cleaned up without a look at what the library has (`verify_synced: false`)",
            "Leave `verify_synced` out; or, to have files moved to a trash folder unseen, set `i_mean_it: true` too.",
        )


def trash_of(sync_id: str, now: float) -> bytes:
    """The folder that a run moves files to, relative to the source's root."""
    return b"/".join((FOLDER, _day(now).encode(), sync_id.encode()))


def emptied_before(policy: CleanupPolicy, now: float) -> str:
    """The day before which folders of the trash are over."""
    return _day(now - policy.trash_days * 86400)


def _day(now: float) -> str:
    return datetime.datetime.fromtimestamp(now, datetime.UTC).date().isoformat()
