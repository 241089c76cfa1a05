"""Checks of what clients ask for. Every wrong field is named at once, by its path in the request."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.model import MAX_PARALLEL_TRANSFERS, SourceSpec, SshConnection, SyncOptions, SyncSpec
from mediasync.paths import MAX_PATH_BYTES, check_relative, display

MAX_REQUEST_ID = 128
MAX_FOLDERS = 1000
MAX_RETRY_ATTEMPTS = 100
MAX_RETRY_DELAY_SECONDS = 3600.0
MAX_SETTLE_SECONDS = 86_400.0
MAX_INCOMPLETE_SECONDS = 366 * 86_400.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "must be 1 to 64 of a-z A-Z 0-9 . _ -, starting with a letter or digit"


def require(violations: Sequence[FieldViolation]) -> None:
    """Raises INVALID_ARGUMENT that lists all `violations`, unless there are none."""
    if violations:
        said = "; ".join(f"{violation.field} {violation.description}" for violation in violations)
        raise MediasyncError(Reason.INVALID_ARGUMENT, f"the request is not valid: {said}", fields=tuple(violations))


def check_request_id(request_id: str) -> list[FieldViolation]:
    """What is wrong with a request id."""
    if not request_id:
        return [FieldViolation("request_id", "must not be empty")]
    if len(request_id) > MAX_REQUEST_ID:
        return [FieldViolation("request_id", f"must be at most {MAX_REQUEST_ID} characters, is {len(request_id)}")]
    return []


def check_name(name: str, field: str) -> list[FieldViolation]:
    """What is wrong with the name of a source."""
    return [] if _NAME.fullmatch(name) else [FieldViolation(field, f"{NAME_RULE}, is {display(name.encode())[:80]!r}")]


def check_source(source: SourceSpec, prefix: str) -> list[FieldViolation]:
    """What is wrong with a source that is to be connected to."""
    found = check_name(source.name, f"{prefix}.name") if source.name else []
    if b"\0" in source.root:
        found.append(FieldViolation(f"{prefix}.root", "must not hold a NUL byte"))
    if len(source.root) > MAX_PATH_BYTES:
        found.append(FieldViolation(f"{prefix}.root", f"must be at most {MAX_PATH_BYTES} bytes, is {len(source.root)}"))
    return found + _check_connection(source.connection, f"{prefix}.ssh")


def check_spec(spec: SyncSpec, prefix: str, *, needs_dest: bool = True) -> list[FieldViolation]:
    """What is wrong with a sync that is to be started, or kept under a name: then its destination may be left to each start."""
    found = check_source(spec.source, f"{prefix}.source")
    if not spec.dest_path:
        found += [FieldViolation(f"{prefix}.dest_path", "must not be empty")] if needs_dest else []
    elif "\0" in spec.dest_path:
        found.append(FieldViolation(f"{prefix}.dest_path", "must not hold a NUL character"))
    elif not os.path.isabs(spec.dest_path):
        found.append(FieldViolation(f"{prefix}.dest_path", f"must be an absolute path, is {display(os.fsencode(spec.dest_path))!r}"))
    return found + check_folders(spec.folders, f"{prefix}.folders") + _check_options(spec.options, f"{prefix}.options")


def check_folders(folders: Sequence[bytes], prefix: str) -> list[FieldViolation]:
    """What is wrong with folders below a source's root. One inside another would be two units of work on the same files."""
    if len(folders) > MAX_FOLDERS:
        return [FieldViolation(prefix, f"must be at most {MAX_FOLDERS}, are {len(folders)}")]
    found = []
    listed = {folder: index for index, folder in reversed(list(enumerate(folders)))}
    for index, folder in enumerate(folders):
        field = f"{prefix}[{index}]"
        try:
            check_relative(folder)
        except MediasyncError:
            found.append(FieldViolation(field, f"must be a relative path without `.` and `..`, is {display(folder[:200])!r}"))
            continue
        if listed[folder] != index:
            found.append(FieldViolation(field, f"lists {display(folder)!r} a second time"))
        parts = folder.split(b"/")
        parent = next((above for depth in range(1, len(parts)) if (above := b"/".join(parts[:depth])) in listed), None)
        if parent is not None:
            found.append(FieldViolation(field, f"{display(folder)!r} lies in {display(parent)!r}, which is listed too"))
    return found


def _check_connection(connection: SshConnection, prefix: str) -> list[FieldViolation]:
    found = []
    if not connection.host:
        found.append(FieldViolation(f"{prefix}.host", "must not be empty"))
    elif not _is_word(connection.host, 255):
        found.append(FieldViolation(f"{prefix}.host", f"must be a host name or address, is {display(connection.host.encode())[:80]!r}"))
    if not 0 <= connection.port <= 65_535:
        found.append(FieldViolation(f"{prefix}.port", f"must be 0 to 65535, is {connection.port}"))
    if connection.user and not _is_word(connection.user, 255):
        found.append(FieldViolation(f"{prefix}.user", f"must be a login name, is {display(connection.user.encode())[:80]!r}"))
    for name, paths in (("identity_files", connection.identity_files), ("known_hosts_files", connection.known_hosts_files)):
        for index, path in enumerate(paths):
            if not os.path.isabs(path) or "\0" in path:
                field = f"{prefix}.{name}[{index}]"
                found.append(FieldViolation(field, f"must be an absolute path, is {display(os.fsencode(path))[:200]!r}"))
    return found


def _is_word(text: str, limit: int) -> bool:
    # A leading dash would be taken for an option by programs that are given the name.
    return len(text) <= limit and text.isprintable() and not text.startswith("-") and not any(c.isspace() for c in text)


def _check_options(options: SyncOptions, prefix: str) -> list[FieldViolation]:
    ranges: tuple[tuple[str, float, float, float, str], ...] = (
        ("parallel_transfers", options.parallel_transfers, 1, MAX_PARALLEL_TRANSFERS, ""),
        ("retry_attempts", options.retry_attempts, 0, MAX_RETRY_ATTEMPTS, ""),
        ("retry_delay", options.retry_delay_seconds, 0, MAX_RETRY_DELAY_SECONDS, " seconds"),
        ("settle_time", options.settle_seconds, 0, MAX_SETTLE_SECONDS, " seconds"),
        ("incomplete_after", options.incomplete_after_seconds, 0, MAX_INCOMPLETE_SECONDS, " seconds"),
    )
    return [
        FieldViolation(f"{prefix}.{name}", f"must be {low:g} to {high:.0f}{unit}, is {value:g}")
        for name, value, low, high, unit in ranges
        if not low <= value <= high
    ]
