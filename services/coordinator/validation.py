"""Checks of what clients ask for. Every wrong field is named at once, by its path in the request."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from mediasync import cleanup_policy
from mediasync.bandwidth import parse_timetable_line
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.model import (
    MAX_PARALLEL_TRANSFERS,
    DockerConnection,
    LocalConnection,
    SourceConnection,
    SourceSpec,
    SshConnection,
    SyncOptions,
    SyncSpec,
)
from mediasync.paths import MAX_PATH_BYTES, check_relative, display
from mediasync.profiles import PROFILES, engines_of
from mediasync.sources.docker.names import CONTEXT, check_engine_url, is_container
from mediasync.sources.selection import rules

MAX_REQUEST_ID = 128
MAX_FOLDERS = 1000
MAX_RETRY_ATTEMPTS = 100
MAX_RETRY_DELAY_SECONDS = 3600.0
MAX_SETTLE_SECONDS = 86_400.0
MAX_INCOMPLETE_SECONDS = 366 * 86_400.0
MAX_MEGABITS = 1e6
MAX_SIZE_BYTES = 10**18
MAX_AGE = 1e9
MAX_LISTED = 1000

_MODE = re.compile("0?[0-7]{3}")
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
    possible = engines_of(source.connection)
    if source.engine not in possible:
        found.append(FieldViolation(f"{prefix}.engine", f"must be one of {', '.join(possible)} for {source.scheme}, is {source.engine}"))
    if isinstance(source.connection, LocalConnection) and source.root and not source.root.startswith(b"/"):
        found.append(FieldViolation(f"{prefix}.root", f"must be an absolute path, is {display(source.root)[:200]!r}"))
    return found + _check_connection(source.connection, prefix)


def check_spec(spec: SyncSpec, prefix: str, *, needs_dest: bool = True, apart: bool = True) -> list[FieldViolation]:
    """What is wrong with a sync that is to be started, or kept under a name: then its destination may be left to each start. A clean-up
    says itself what is no place for it, so that source and library need not be `apart`."""
    found = check_source(spec.source, f"{prefix}.source")
    if not spec.dest_path:
        found += [FieldViolation(f"{prefix}.dest_path", "must not be empty")] if needs_dest else []
    elif "\0" in spec.dest_path:
        found.append(FieldViolation(f"{prefix}.dest_path", "must not hold a NUL character"))
    elif not os.path.isabs(spec.dest_path):
        found.append(FieldViolation(f"{prefix}.dest_path", f"must be an absolute path, is {display(os.fsencode(spec.dest_path))!r}"))
    elif apart and isinstance(spec.source.connection, LocalConnection) and spec.source.root:
        found += _check_apart(spec, prefix)
    found += check_folders(spec.folders, f"{prefix}.folders")
    return found + check_options(spec.options, f"{prefix}.options") + _check_cleanup(spec, prefix)


def _check_cleanup(spec: SyncSpec, prefix: str) -> list[FieldViolation]:
    wrong = cleanup_policy.mistakes(spec.cleanup) if spec.cleanup else ()
    return [FieldViolation(f"{prefix}.cleanup.{name}", said) for name, said in wrong]


def _check_apart(spec: SyncSpec, prefix: str) -> list[FieldViolation]:
    """A library inside of what is synced into it would be taken into itself, again and again."""
    library = os.path.realpath(os.fsencode(spec.dest_path))
    for folder in spec.folders or PROFILES[spec.source.type].folders or (b"",):
        source = os.path.realpath(os.path.join(spec.source.root, folder))
        for inner, outer, said in ((library, source, "lies in"), (source, library, "holds")):
            if inner == outer or inner.startswith(outer.rstrip(b"/") + b"/"):
                what = f"must not be, or lie in, or hold what is synced into it: {display(library)} {said} {display(source)}"
                return [FieldViolation(f"{prefix}.dest_path", what)]
    return []


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


def _check_connection(connection: SourceConnection, prefix: str) -> list[FieldViolation]:
    match connection:
        case SshConnection():
            return _check_ssh(connection, f"{prefix}.ssh")
        case DockerConnection():
            return _check_docker(connection, f"{prefix}.docker")
        case LocalConnection():
            return []


def _check_ssh(connection: SshConnection, prefix: str) -> list[FieldViolation]:
    found = []
    if not connection.host:
        found.append(FieldViolation(f"{prefix}.host", "must not be empty"))
    elif not _is_word(connection.host, 255):
        found.append(FieldViolation(f"{prefix}.host", f"must be a host name or address, is {display(connection.host.encode())[:80]!r}"))
    if not 0 <= connection.port <= 65_535:
        found.append(FieldViolation(f"{prefix}.port", f"must be 0 to 65535, is {connection.port}"))
    if connection.user and not _is_word(connection.user, 255):
        found.append(FieldViolation(f"{prefix}.user", f"must be a login name, is {display(connection.user.encode())[:80]!r}"))
    files = (
        *((f"identity_files[{index}]", path) for index, path in enumerate(connection.identity_files)),
        *((f"known_hosts_files[{index}]", path) for index, path in enumerate(connection.known_hosts_files)),
        *((name, path) for name in ("password_file", "passphrase_file") if (path := getattr(connection, name))),
    )
    for name, path in files:
        if not os.path.isabs(path) or "\0" in path:
            found.append(FieldViolation(f"{prefix}.{name}", f"must be an absolute path, is {display(os.fsencode(path))[:200]!r}"))
    return found


def _check_docker(connection: DockerConnection, prefix: str) -> list[FieldViolation]:
    found = []
    if not is_container(connection.container):
        shown = display(connection.container.encode("utf-8", "replace"))[:80]
        found.append(
            FieldViolation(f"{prefix}.container", f"must be a name or id, label:KEY=VALUE or service:[PROJECT:]NAME, is {shown!r}")
        )
    if connection.context and not CONTEXT.fullmatch(connection.context):
        shown = display(connection.context.encode("utf-8", "replace"))[:80]
        found.append(FieldViolation(f"{prefix}.context", f"must be the name of a Docker context, is {shown!r}"))
    if connection.engine_url:
        try:
            check_engine_url(connection.engine_url)
        except ValueError as error:
            # Not shown: a URL may hold a password.
            found.append(FieldViolation(f"{prefix}.engine_url", f"must be {error}"))
        if connection.context:
            found.append(FieldViolation(f"{prefix}.engine_url", "must be empty where a context is named"))
    return found


def _is_word(text: str, limit: int) -> bool:
    # A leading dash would be taken for an option by programs that are given the name.
    return len(text) <= limit and text.isprintable() and not text.startswith("-") and not any(c.isspace() for c in text)


def check_options(options: SyncOptions, prefix: str) -> list[FieldViolation]:
    ranges: tuple[tuple[str, float, float, float, str], ...] = (
        ("parallel_transfers", options.parallel_transfers, 1, MAX_PARALLEL_TRANSFERS, ""),
        ("retry_attempts", options.retry_attempts, 0, MAX_RETRY_ATTEMPTS, ""),
        ("retry_delay", options.retry_delay_seconds, 0, MAX_RETRY_DELAY_SECONDS, " seconds"),
        ("settle_time", options.settle_seconds, 0, MAX_SETTLE_SECONDS, " seconds"),
        ("incomplete_after", options.incomplete_after_seconds, 0, MAX_INCOMPLETE_SECONDS, " seconds"),
        ("bandwidth_limit_mbps", options.bandwidth_limit_mbps, 0, MAX_MEGABITS, ""),
        ("min_size_bytes", options.min_size_bytes, 0, MAX_SIZE_BYTES, ""),
        ("max_size_bytes", options.max_size_bytes, 0, MAX_SIZE_BYTES, ""),
        ("min_age_minutes", options.min_age_minutes, 0, MAX_AGE, ""),
        ("max_age_days", options.max_age_days, 0, MAX_AGE, ""),
        ("min_free_space_gb", options.min_free_space_gb, 0, MAX_AGE, ""),
    )
    found = [
        FieldViolation(f"{prefix}.{name}", f"must be {low:g} to {high:.0f}{unit}, is {value:g}")
        for name, value, low, high, unit in ranges
        if not low <= value <= high
    ]
    if options.max_size_bytes and options.max_size_bytes < options.min_size_bytes:
        found.append(FieldViolation(f"{prefix}.max_size_bytes", f"must not be below min_size_bytes, which is {options.min_size_bytes}"))
    if options.max_age_days and options.max_age_days * 1440 < options.min_age_minutes:
        found.append(FieldViolation(f"{prefix}.max_age_days", f"must not be below min_age_minutes, which is {options.min_age_minutes:g}"))
    for name in ("file_mode", "dir_mode"):
        mode = getattr(options, name)
        if mode and not _MODE.fullmatch(mode):
            found.append(FieldViolation(f"{prefix}.{name}", f"must be an octal mode such as 0640, is {_shown(mode)}"))
    found += [
        FieldViolation(f"{prefix}.{name}", f"must be a name or a number, is {_shown(value)}")
        for name, value in (("owner", options.owner), ("group", options.group))
        if value and not _is_word(value, 255)
    ]
    return found + _check_lists(options, prefix)


_LISTS: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("bandwidth_timetable", parse_timetable_line),
    ("allowed_extensions", lambda text: _word(text, "an extension such as png")),
    ("include_patterns", lambda text: rules([text])),
    ("excluded_patterns", lambda text: rules([text])),
    ("temporary_suffixes", lambda text: _word(text, "the end of a name, such as .part")),
    ("rewritten_patterns", lambda text: rules([text])),
)


def _check_lists(options: SyncOptions, prefix: str) -> list[FieldViolation]:
    found = []
    for name, parse in _LISTS:
        items: tuple[str, ...] = getattr(options, name)
        if len(items) > MAX_LISTED:
            found.append(FieldViolation(f"{prefix}.{name}", f"must be at most {MAX_LISTED}, are {len(items)}"))
            continue
        for index, item in enumerate(items):
            try:
                if len(item) > MAX_PATH_BYTES:
                    raise ValueError(f"at most {MAX_PATH_BYTES} characters")
                parse(item)
            except ValueError as error:
                found.append(FieldViolation(f"{prefix}.{name}[{index}]", f"cannot be used: {error}; is {_shown(item)}"))
    return found


def _word(text: str, what: str) -> str:
    if not text.strip(".") or "/" in text or not text.isprintable():
        raise ValueError(f"expected {what}")
    return text


def _shown(text: str) -> str:
    return repr(display(text.encode("utf-8", "replace"))[:200])
