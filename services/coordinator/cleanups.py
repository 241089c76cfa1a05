"""Which clean-up a client means: the source's own policy with what is asked laid over it, and whether it may be as it is."""

from __future__ import annotations

import dataclasses

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupPolicy, SyncSpec
from services.coordinator import validation
from services.coordinator.sources import Sources


class Cleanups:
    """Turns what is asked into the sync spec of a clean-up."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def fill(self, asked: SyncSpec, *, options_given: bool, request_id: str | None = None) -> SyncSpec:
        """The clean-up that `asked` means. `request_id`, for one that is to be started, is checked along. Raises SOURCE_NOT_FOUND,
        INVALID_ARGUMENT with every field that is wrong, and CLEANUP_UNVERIFIED."""
        spec = await self._sources.fill(asked, options_given=options_given)
        # A clean-up ends, and brings nothing.
        options = dataclasses.replace(spec.options, watch=False, restore=False)
        spec = dataclasses.replace(spec, options=options, cleanup=spec.cleanup or CleanupPolicy())
        wrong = validation.check_request_id(request_id) if request_id is not None else []
        validation.require(wrong + validation.check_spec(spec, "spec", needs_dest=False, apart=False))
        require_meant(spec)
        return spec


def require_meant(spec: SyncSpec) -> None:
    """Raises CLEANUP_UNVERIFIED for a policy that would let files go that the library may not have, unless it says that it means it."""
    policy = spec.cleanup
    if policy is not None and not policy.verify_synced and not policy.i_mean_it:
        raise MediasyncError(
            Reason.CLEANUP_UNVERIFIED,
            f"the clean-up of {spec.source.label} is not to verify that the library has what it deletes",
            "Leave `verify_synced` at true. If that is no mistake, say `i_mean_it: true` beside it: the files then go to a trash folder.",
        )
