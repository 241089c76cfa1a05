"""What a value in a configuration can be. Every parser takes what was written and says what it expected.

Values come as `Text`, list, dict or None; a parser never shows what it found, because the reader of the mistake is told that by
the caller, who knows which values are secret.
"""

from __future__ import annotations

import enum
import ipaddress
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainValidator, SecretStr
from pydantic_core import PydanticCustomError

from mediasync.bandwidth import parse_timetable_line
from mediasync.config import tree, urls
from mediasync.errors import MediasyncError
from mediasync.model import MAX_PARALLEL_TRANSFERS, SourceType
from mediasync.paths import check_relative
from mediasync.sources.docker.names import check_engine_url
from mediasync.sources.secrets import read_secret
from mediasync.sources.selection import rules
from mediasync.suggest import did_you_mean
from mediasync.times import EXPECTED, OFF, parse_times

E = TypeVar("E", bound=enum.StrEnum)
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PULL = "pull"
"""In place of a subscriber's address: its reader comes to us."""
_WORD = re.compile(r"[^\x00-\x1f\x7f]{1,4096}")


def expected(what: str) -> PydanticCustomError:
    """The error for a value that is not `what`."""
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def refused(why: str) -> PydanticCustomError:
    """The error for a value that has the right form and cannot be used; `why` stands alone, the value is not shown."""
    return PydanticCustomError("refused", "{why}", {"why": why})


def whole(low: int, high: int) -> PlainValidator:
    """A whole number."""

    def parse(value: Any) -> int:
        if not isinstance(value, str) or not re.fullmatch(r"[+-]?[0-9]{1,18}", value) or not low <= int(value) <= high:
            raise expected(f"a whole number from {low} to {high}")
        return int(value)

    return PlainValidator(parse)


def number(low: float, high: float, unit: str = "") -> PlainValidator:
    """A number, with or without a fraction."""

    def parse(value: Any) -> float:
        what = f"a number{unit and ' of ' + unit} from {low:,.15g} to {high:,.15g}"
        if not isinstance(value, str) or not re.fullmatch(r"[+-]?[0-9]{0,18}\.?[0-9]{0,18}", value) or not re.search("[0-9]", value):
            raise expected(what)
        parsed = float(value)
        if not (math.isfinite(parsed) and low <= parsed <= high):
            raise expected(what)
        return parsed

    return PlainValidator(parse)


def one_of(*names: str) -> Callable[[Any], str]:
    """The parser of one of a few words."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in names:
            hint = did_you_mean(value, names) if isinstance(value, str) else ""
            raise PydanticCustomError("expected", "expected {what}", {"what": f"one of {', '.join(names)}", "hint": hint})
        return value.lower()

    return parse


def choice(*names: str) -> PlainValidator:
    """One of a few words."""
    return PlainValidator(one_of(*names))


def member(kind: type[E]) -> PlainValidator:
    """A member of an enumeration, by its value."""
    parse = one_of(*(str(item.value) for item in kind))
    return PlainValidator(lambda value: kind(parse(value)))


def pattern(regex: re.Pattern[str], what: str) -> PlainValidator:
    """A text that matches as a whole."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not regex.fullmatch(value):
            raise expected(what)
        return str(value)

    return PlainValidator(parse)


def _flag(value: Any) -> bool:
    word = value.lower() if isinstance(value, str) else ""
    if word not in _TRUE | _FALSE:
        raise expected("true or false")
    return word in _TRUE


def _host(value: Any) -> str:
    text = value[1:-1] if isinstance(value, str) and value.startswith("[") and value.endswith("]") else value
    if not isinstance(text, str) or not urls.HOST.fullmatch(text):
        raise expected("a host name, an address or an alias of ~/.ssh/config")
    return str(text)


def _source_type(value: Any) -> SourceType:
    return SourceType(one_of(*SourceType)(value))


def remote_path(value: str) -> bytes:
    """A folder of a far side: absolute, or below the login user's home. Raises ValueError that says so."""
    try:
        path = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        path = b""
    home = path == b"~" or path.startswith(b"~/")
    if b"\0" in path or not (home or path.startswith(b"/")):
        raise ValueError("an absolute path, or one that starts with ~/")
    return path.rstrip(b"/") or b"/"


def folder(value: str) -> bytes:
    """A folder below a source's root. Raises ValueError that says so."""
    try:
        return check_relative(value.encode("utf-8", "surrogateescape").removeprefix(b"./").rstrip(b"/"))
    except (UnicodeEncodeError, MediasyncError):
        raise ValueError("a folder below the source's path, such as txt2img-images") from None


def _said(parse: Callable[[str], bytes]) -> PlainValidator:
    def checked(value: Any) -> bytes:
        try:
            return parse(value if isinstance(value, str) else "\0")
        except ValueError as error:
            raise expected(str(error)) from None

    return PlainValidator(checked)


def local_path(value: str, base: str) -> Path:
    """A path on this machine: `~` is the home folder, a relative one starts at `base`. Raises ValueError that says so."""
    try:
        value.encode()
    except UnicodeEncodeError:
        value = ""
    if not value or "\0" in value:
        raise ValueError("a path on this machine, in UTF-8")
    return Path(base, os.path.expanduser(value))


def _local_path(value: Any) -> Path:
    try:
        return local_path(value, _base(value)) if isinstance(value, str) else local_path("", "")
    except ValueError as error:
        raise expected(str(error)) from None


def _base(value: str) -> str:
    return value.folder if isinstance(value, tree.Text) else os.getcwd()


def _secret(value: Any) -> SecretStr:
    if not isinstance(value, str) or not value:
        raise expected("a text that is not empty")
    return SecretStr(str(value))


class SecretOfFile(SecretStr):
    """A secret that a file holds; `path` is the file."""

    def __init__(self, value: str, path: Path) -> None:
        super().__init__(value)
        self.path = path


def _secret_file(value: Any) -> SecretStr:
    path = _local_path(value)
    try:
        text = read_secret(path)
    except ValueError as error:
        raise refused(str(error)) from None
    return SecretOfFile(text, path)


def _source_url(value: Any) -> urls.Place:
    try:
        return urls.parse_place(value if isinstance(value, str) else "", _base(value) if isinstance(value, str) else None)
    except MediasyncError as error:
        raise refused(error.message) from None


def _engine_url(value: Any) -> str:
    try:
        return check_engine_url(value if isinstance(value, str) else "")
    except ValueError as error:
        raise expected(str(error)) from None


def _pattern(value: Any) -> str:
    text = _one_line(value)
    try:
        rules([text])
    except ValueError as error:
        raise refused(str(error)) from None
    return text


def _timetable_line(value: Any) -> str:
    text = _one_line(value)
    try:
        parse_timetable_line(text)
    except ValueError as error:
        raise expected(str(error)) from None
    return text


def _schedule(value: Any) -> str:
    if not isinstance(value, str):
        raise expected(f"{EXPECTED}, or {OFF}")
    if value.lower() == OFF:
        return OFF
    try:
        parse_times(value)
    except ValueError as error:
        raise refused(str(error)) from None
    return str(value)


def _one_line(value: Any) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise expected("a text on one line")
    return str(value)


def _listed(value: Any) -> Any:
    """A single value counts as a list of one."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise expected("a list")
    return value


def _loopback(value: Any) -> str:
    what = "a loopback address with a port, such as 127.0.0.1:7171 (others need mutual TLS, which is not in force yet)"
    host, port = split_address(value) if isinstance(value, str) else ("", 0)
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise expected(what)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    if not re.fullmatch(r"unix:/[^\x00-\x1f\x7f]{1,100}", text) and not split_address(text)[1]:
        raise expected("host:port or unix:/path")
    return str(text)


def _subscriber_address(value: Any) -> str:
    if isinstance(value, str) and value.lower() == PULL:
        return PULL
    try:
        return _address(value)
    except PydanticCustomError:
        raise expected("host:port, unix:/path or pull") from None


def _start(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(?i:beginning|now|snapshot)|[1-9][0-9]{0,17}", value):
        raise expected("beginning, now, snapshot or the number of an event")
    return value.lower()


def _database_url(value: Any) -> SecretStr:
    return SecretStr(_checked_database_url(_secret(value).get_secret_value()))


def _database_url_file(value: Any) -> SecretStr:
    secret = _secret_file(value)
    _checked_database_url(secret.get_secret_value())
    return secret


def _checked_database_url(text: str) -> str:
    """The URL, which may hold a password: what is wrong with it is said without it."""
    if not re.fullmatch(r"postgresql://[^\x00-\x20\x7f]+|sqlite:///[^\x00-\x1f\x7f]+", text):
        raise expected("postgresql://user:password@host/database or sqlite:///path")
    return text


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[address]:port`; two empty values when it is neither."""
    match = re.fullmatch(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", text)
    if not match or int(match["port"]) > 65535:
        return "", 0
    return match["v6"] or match["host"], int(match["port"])


def single(key: str) -> BeforeValidator:
    """Lets a section be written as the value of its only key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


Flag = Annotated[bool, PlainValidator(_flag)]
Port = Annotated[int, whole(1, 65535)]
Parallel = Annotated[int, whole(1, MAX_PARALLEL_TRANSFERS)]
Attempts = Annotated[int, whole(0, 100)]
Seconds = Annotated[float, number(0, 86_400 * 30, "seconds")]
Count = Annotated[int, whole(0, 10**18)]
Amount = Annotated[float, number(0, 10**9)]
Number = Annotated[int, whole(0, 10**9)]
Batch = Annotated[int, whole(1, 100_000)]
Percent = Annotated[float, number(0, 100)]
Schedule = Annotated[str, PlainValidator(_schedule)]
Share = Annotated[float, number(0, 1)]
Megabits = Annotated[float, number(0, 1_000_000, "megabits a second")]
Word = Annotated[str, pattern(_WORD, "a text on one line")]
Mode = Annotated[str, pattern(re.compile("0?[0-7]{3}"), "an octal mode such as 0640")]
Name = Annotated[
    str, pattern(_SOURCE_NAME, "a name of 1 to 64 letters, digits, dots, dashes or underscores, beginning with a letter or digit")
]
Host = Annotated[str, PlainValidator(_host)]
User = Annotated[str, pattern(urls.USER, "a login name")]
Type = Annotated[SourceType, PlainValidator(_source_type)]
RemotePath = Annotated[bytes, _said(remote_path)]
Folder = Annotated[bytes, _said(folder)]
LocalPath = Annotated[Path, PlainValidator(_local_path)]
SourceUrl = Annotated[urls.Place, PlainValidator(_source_url)]
EngineUrl = Annotated[str, PlainValidator(_engine_url)]
Secret = Annotated[SecretStr, PlainValidator(_secret)]
SecretFile = Annotated[SecretStr, PlainValidator(_secret_file)]
Listen = Annotated[str, PlainValidator(_loopback)]
SubscriberAddress = Annotated[str, PlainValidator(_subscriber_address)]
Start = Annotated[str, PlainValidator(_start)]
DatabaseUrl = Annotated[SecretStr, PlainValidator(_database_url)]
DatabaseUrlFile = Annotated[SecretStr, PlainValidator(_database_url_file)]
Folders = Annotated[tuple[Folder, ...], BeforeValidator(_listed)]
LocalPaths = Annotated[tuple[LocalPath, ...], BeforeValidator(_listed)]
Words = Annotated[tuple[Word, ...], BeforeValidator(_listed)]
Extension = Annotated[str, pattern(re.compile(r"\.?[^\x00-\x20/.][^\x00-\x1f/]{0,31}"), "an extension such as png")]
Extensions = Annotated[tuple[Extension, ...], BeforeValidator(_listed)]
Patterns = Annotated[tuple[Annotated[str, PlainValidator(_pattern)], ...], BeforeValidator(_listed)]
Timetable = Annotated[tuple[Annotated[str, PlainValidator(_timetable_line)], ...], BeforeValidator(_listed)]
as_list = BeforeValidator(_listed)
