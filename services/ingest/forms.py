"""Whether a subscription can work: its name, the way to its address, what it wants to hear of.

Says nothing of whether anybody is at that address.
"""

from __future__ import annotations

import ipaddress
import re

from mediasync.errors import FieldViolation, MediasyncError, Reason
from services.ingest.events import MAX_BATCH_SIZE, Filter, Subscription
from services.ingest.filtering import check_paths

MAX_PATTERNS = 100
MAX_PATTERN_CHARACTERS = 1000
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def violations(subscription: Subscription) -> list[FieldViolation]:
    """What is wrong with the form of a subscription."""
    found = []
    if not NAME.fullmatch(subscription.name):
        found.append(FieldViolation("name", "1 to 64 of a-z A-Z 0-9 . _ -"))
    if not subscription.pull and not host_of(subscription.address) and not subscription.address.startswith("unix:/"):
        found.append(FieldViolation("address", "host:port or unix:/path"))
    if not 1 <= subscription.batch_size <= MAX_BATCH_SIZE:
        found.append(FieldViolation("batch_size", f"1 to {MAX_BATCH_SIZE}"))
    found += _filter_violations(subscription.filter)
    if subscription.pull and (subscription.tls or subscription.token_file):
        found.append(FieldViolation("tls_ca_file", "absent, with the token's file, where the reader comes to us"))
    for path in _files(subscription):
        if not path.startswith("/"):
            found.append(FieldViolation("tls_ca_file", f"an absolute path on the services' machine, not {path!r}, as are the other files"))
    return found


def check(subscription: Subscription, reason: Reason) -> None:
    """Raises MediasyncError with `reason` for a subscription of the wrong form, ADDRESS_NOT_LOOPBACK for one that would send names and
    prompts over a network in the clear."""
    if found := violations(subscription):
        said = "; ".join(f"{violation.field} must be {violation.description}" for violation in found)
        raise MediasyncError(reason, f"the subscription {subscription.name!r} cannot be used: {said}", fields=found)
    if not subscription.pull and subscription.tls is None and not _on_this_machine(subscription.address):
        raise MediasyncError(
            Reason.ADDRESS_NOT_LOOPBACK,
            f"the subscription {subscription.name!r} is at {subscription.address}, which is not on this machine, and has no TLS",
            "Give it `tls_ca_file` (`--tls-ca`), so that no name, prompt or token crosses the network in the clear.",
        )


def check_filter(wanted: Filter) -> None:
    """Raises INVALID_ARGUMENT for one that cannot be applied."""
    if found := _filter_violations(wanted):
        said = "; ".join(f"{violation.field} must be {violation.description}" for violation in found)
        raise MediasyncError(Reason.INVALID_ARGUMENT, said, fields=found)


def _filter_violations(wanted: Filter) -> list[FieldViolation]:
    found = []
    for field, patterns in (("filter.sources", wanted.sources), ("filter.paths", wanted.paths)):
        if len(patterns) > MAX_PATTERNS:
            found.append(FieldViolation(field, f"at most {MAX_PATTERNS}, not {len(patterns)}"))
        if not all(0 < len(pattern) <= MAX_PATTERN_CHARACTERS for pattern in patterns):
            found.append(FieldViolation(field, f"1 to {MAX_PATTERN_CHARACTERS} characters each"))
    if not found:
        try:
            check_paths(wanted.paths)
        except ValueError as error:
            found.append(FieldViolation("filter.paths", f"patterns as in .gitignore: {error}"))
    return found


def host_of(address: str) -> str:
    """The host of `host:port` or `[address]:port`; empty for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        return ""
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return "" if ":" in host or "/" in host else host


def _on_this_machine(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = host_of(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _files(subscription: Subscription) -> list[str]:
    tls = subscription.tls
    files = [subscription.token_file, *((tls.ca_file, tls.cert_file, tls.key_file) if tls else ())]
    return [str(path) for path in files if path is not None]
