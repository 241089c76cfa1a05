"""From a file and the environment to a `Configuration`, or to every mistake in them at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mediasync.config import checks, environment, tree
from mediasync.config.configuration import Configuration, resolve
from mediasync.config.tree import Mistake, Table
from mediasync.config_file import locate
from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.paths import display

MAX_FILE_BYTES = 256 * 1024
_MAX_SHOWN = 100
_REMEDY = "`mediasync config example` prints a configuration with every key explained."


def load(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Configuration:
    """The effective configuration: the environment over the file over the defaults.

    The file is `path`, else `$MEDIASYNC_CONFIG`, else `$XDG_CONFIG_HOME/mediasync/config.yaml`; only the last may be missing. Raises
    MediasyncError with CONFIGURATION_INVALID that lists every mistake in `fields`, and in its message with file and line.
    """
    found = examine(path, environ)
    if found.configuration is None:
        raise _error(found.mistakes, found.file)
    return found.configuration


@dataclass(frozen=True)
class Examination:
    """What became of reading a configuration: it, or what is wrong with it, in order. `file` is None where there is none."""

    configuration: Configuration | None
    mistakes: tuple[Mistake, ...]
    file: Path | None


def examine(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Examination:
    """As `load`, but with mistakes as data. A file that cannot be read at all still raises MediasyncError with CONFIGURATION_INVALID."""
    file, named_by = locate(path, environ)
    text = _read(file, named_by)
    return parse(text or "", None if text is None else file, environ)


def parse(text: str, file: Path | None, environ: Mapping[str, str] = os.environ) -> Examination:
    """The configuration that is written in `text`, with what the environment adds. Relative paths start at the folder of `file`."""
    folder = str(file.parent if file else Path.cwd())
    root, mistakes = tree.parse(text, folder)
    if isinstance(root, tree.Scalar) and root.text is None:
        root = tree.empty(folder)
    if not isinstance(root, Table):
        mistakes.append(Mistake("", root.origin, "expected keys with values, such as `media_base: /media`"))
        root = tree.empty(folder)
    unset = environment.substitute(root, environ)
    mistakes += unset
    mistakes += environment.overlay(root, environ)
    typed, found = checks.validate(root)
    # What a value without its variable looks like is no second mistake.
    told = {mistake.key for mistake in unset}
    mistakes += [mistake for mistake in found if mistake.key not in told]
    if typed is None or mistakes:
        return Examination(None, tuple(sorted(dict.fromkeys(mistakes), key=_place)), file)
    return Examination(resolve(typed, root, file), (), file)


def _place(mistake: Mistake) -> tuple[str, int, int, str]:
    return mistake.origin.variable, mistake.origin.line, mistake.origin.column, mistake.key


def _read(file: Path, named_by: str) -> str | None:
    """The file's text; None when there is none and nobody named it."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if not named_by:
            return None
        raise _unreadable(file, f"there is no configuration file {_shown(file)}, which {named_by} names") from None
    except OSError as error:
        raise _unreadable(file, f"the configuration file {_shown(file)} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise _unreadable(
            file, f"the configuration file {_shown(file)} is larger than {MAX_FILE_BYTES // 1024} KiB, which no configuration is"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _error([Mistake("", tree.Origin(str(file.parent), line), "not UTF-8 text")], file) from None


def _unreadable(file: Path, message: str) -> MediasyncError:
    return MediasyncError(Reason.CONFIGURATION_INVALID, message, _REMEDY, [FieldViolation("", message)], {"file": _shown(file)})


def _shown(file: Path) -> str:
    return display(os.fsencode(file))


def _error(mistakes: Sequence[Mistake], file: Path | None) -> MediasyncError:
    fields = [FieldViolation(mistake.key, f"{mistake.origin}: {mistake.text}") for mistake in mistakes]
    places = {bool(mistake.origin.variable) for mistake in mistakes}
    where = " and ".join([_shown(file) if file else "the configuration"] * (False in places) + ["the environment"] * (True in places))
    lines = [f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''} in {where}:"]
    for mistake in mistakes[:_MAX_SHOWN]:
        key = mistake.key if mistake.key != str(mistake.origin) else ""
        lines.append(f"  {mistake.origin}: {key}{key and ': '}{mistake.text}")
    if len(mistakes) > _MAX_SHOWN:
        lines.append(f"  … and {len(mistakes) - _MAX_SHOWN} more")
    metadata = {"file": _shown(file)} if file else {}
    return MediasyncError(Reason.CONFIGURATION_INVALID, "\n".join(lines), _REMEDY, fields, metadata)
