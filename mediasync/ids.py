"""Identifiers, and the digests that make a repeated request recognisable."""

from __future__ import annotations

import hashlib
import secrets
import time

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_job_id() -> str:
    """`job_` and a ULID: 48 bits of milliseconds and 80 random ones, in 26 characters that sort by time."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "job_" + "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def new_sync_id() -> str:
    """`sync_YYYYMMDD_HHMMSS_xxxxxxxx`, in UTC."""
    return f"sync_{time.strftime('%Y%m%d_%H%M%S', time.gmtime())}_{secrets.token_hex(4)}"


def new_request_id() -> str:
    """A request id nobody else draws."""
    return secrets.token_hex(16)


def event_id(*parts: str | bytes) -> str:
    """The id of an event, derived from what it tells, so that a repetition has the same. 32 hex characters."""
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    # Lengths go in too: ("a", "bc") and ("ab", "c") are two events.
    return hashlib.sha256(b"".join([len(part).to_bytes(4, "big") + part for part in raw])).hexdigest()[:32]
