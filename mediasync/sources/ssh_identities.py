"""What is shown to be let in: keys of files, certificates, and the keys of an ssh-agent, in the order in which they are offered.

A server takes few tries (OpenSSH: six), so that what was named comes first: for each file its certificates, then the key itself, opened
with the passphrase or, where that does not fit, by way of the agent if that holds the same key; only then what else the agent
has. asyncssh's own order begins with everything in the agent, and is not used.

Says of everything that was offered, or could not be, how it is called and what is the matter with it: for the message when nobody lets
us in. What is the matter with a passphrase is said without it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from mediasync.sources import ssh_errors

DEFAULT_FILES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
AGENT_SECONDS = 5.0
MAX_FILE_BYTES = 1 << 20
_USER_CERTIFICATE = 1
_PRIVATE = b"PRIVATE KEY-----"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """Where keys are. `required` says that `files` were named by the source itself: one that cannot be read is an error then."""

    files: tuple[str, ...] = DEFAULT_FILES
    required: bool = False
    certificates: tuple[str, ...] = ()
    agent_path: str = ""
    agent_only_same: bool = False
    """Of the agent's keys only those that `files` name are offered (`IdentitiesOnly` of ssh_config)."""


@dataclass
class _File:
    """One identity file. Without `key` it could not be opened, for `trouble`; `public` is what is known of it all the same."""

    path: str
    key: asyncssh.SSHKey | None = None
    public: asyncssh.SSHKey | None = None
    certificates: list[tuple[str, asyncssh.SSHCertificate]] = field(default_factory=list)
    trouble: str = ""


class Identities:
    """The pairs of a login, what is said of each, and of what could not be offered. To be closed after it: the agent signs."""

    def __init__(
        self,
        pairs: Sequence[asyncssh.SSHKeyPair] = (),
        offered: Sequence[str] = (),
        useless: Sequence[str] = (),
        agent: asyncssh.SSHAgentClient | None = None,
    ) -> None:
        self.pairs = tuple(pairs)
        self.offered = tuple(offered)
        self.useless = tuple(useless)
        self._agent = agent

    async def close(self) -> None:
        """Lets go of the agent."""
        if self._agent is not None:
            self._agent.close()
            await self._agent.wait_closed()


async def gather(wish: Wish, passphrase: str, user: str) -> Identities:
    """Reads the files and asks the agent. Raises AUTHENTICATION_FAILED for a file that the source names and that is no key."""
    files, notes = await asyncio.to_thread(_read_files, wish, passphrase)
    agent, of_agent, trouble = await _ask_agent(wish.agent_path)
    try:
        pairs, offered, useless = _in_order(files, agent, of_agent, wish.agent_only_same, user)
    except BaseException:
        await Identities(agent=agent).close()
        raise
    return Identities(pairs, offered, [*useless, *notes, *([trouble] if trouble else [])], agent)


def plain_files(wish: Wish) -> tuple[str, ...]:
    """The files that hold a key which opens without a passphrase and that only its owner can read: what any client could use as it is.
    Empty where more belongs to a login than such files."""
    if wish.certificates:
        return ()
    plain = []
    for name in wish.files:
        path = Path(name).expanduser()
        try:
            with path.open("rb") as source:
                data = source.read(MAX_FILE_BYTES)
                private = _PRIVATE in data and not os.fstat(source.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO)
            if private and _opened(data, "")[0] is not None:
                plain.append(str(path))
        except (OSError, asyncssh.KeyImportError):
            continue  # who logs in with all there is says what is the matter with it
    return tuple(plain)


def _in_order(
    files: Sequence[_File],
    agent: asyncssh.SSHAgentClient | None,
    of_agent: Sequence[asyncssh.SSHKeyPair],
    only_same: bool,
    user: str,
) -> tuple[list[asyncssh.SSHKeyPair], list[str], list[str]]:
    pairs: list[asyncssh.SSHKeyPair] = []
    said: list[str] = []
    useless: list[str] = []
    by_key = {pair.public_data: pair for pair in of_agent}
    used: set[bytes] = set()
    for file in files:
        public = file.key or file.public
        through_agent = by_key.get(public.public_data) if public is not None and file.key is None else None
        for path, certificate in file.certificates:
            if file.key is not None:
                pairs.append(asyncssh.load_keypairs([(file.key, certificate)])[0])
            elif through_agent is not None and agent is not None:
                pairs.append(_with_certificate(agent, through_agent, certificate))
            else:
                continue
            said.append(f"{path} ({_worth(certificate, user)})")
        if file.key is not None:
            pairs += asyncssh.load_keypairs([file.key])
            said.append(" ".join(filter(None, (file.key.get_algorithm(), file.key.get_comment(errors="replace"), f"({file.path})"))))
            used.add(file.key.public_data)
        elif through_agent is not None:
            pairs.append(through_agent)
            said.append(f"{file.path} (by the agent)")
            used.add(through_agent.public_data)
        else:
            useless.append(f"{file.path} ({file.trouble})")
    named = {certificate.public_data for file in files for _, certificate in file.certificates}
    for pair in of_agent:
        if pair.public_data not in used and not (only_same and pair.public_data not in named):
            pairs.append(pair)
            said.append(f"{pair.get_algorithm()} {_comment(pair)} (agent)")
    return pairs, said, useless


def _comment(pair: asyncssh.SSHKeyPair) -> str:
    return pair.get_comment(errors="replace") or "(no comment)"


def _with_certificate(
    agent: asyncssh.SSHAgentClient, pair: asyncssh.SSHKeyPair, certificate: asyncssh.SSHCertificate
) -> asyncssh.SSHKeyPair:
    # A copy: the pair itself is offered without the certificate too.
    copy = asyncssh.SSHAgentKeyPair(agent, pair.key_algorithm, pair.key_public_data, pair.get_comment_bytes() or b"")
    copy.set_certificate(certificate)
    return copy


def _worth(certificate: asyncssh.SSHCertificate, user: str) -> str:
    """What a server will think of a certificate, as far as it can be told here."""
    if not isinstance(certificate, asyncssh.public_key.SSHOpenSSHCertificate):
        return "certificate"
    for principal in (None, user):
        try:
            certificate.validate(_USER_CERTIFICATE, principal)
        except ValueError as error:
            text = str(error)
            if "principal" in text:
                return f"certificate for {', '.join(certificate.principals)}, not for {user}"
            known = {"Certificate expired": "expired certificate", "Certificate not yet valid": "certificate that is not valid yet"}
            return known.get(text, "certificate of a host, not of a user")
    return "certificate"


async def _ask_agent(path: str) -> tuple[asyncssh.SSHAgentClient | None, Sequence[asyncssh.SSHKeyPair], str]:
    """The agent, its keys, and what is the matter with it."""
    if not path:
        return None, (), ""
    agent = None
    try:
        async with asyncio.timeout(AGENT_SECONDS):
            agent = await asyncssh.connect_agent(path)
            pairs = await agent.get_keys()
    except (OSError, TimeoutError, ValueError, asyncssh.Error) as error:
        if agent is not None:
            agent.close()
        why = getattr(error, "strerror", None) or str(error) or "it does not answer"
        return None, (), f"the agent at {path} (cannot be asked: {why})"
    return agent, pairs, "" if pairs else f"the agent at {path} (it has no keys)"


def _read_files(wish: Wish, passphrase: str) -> tuple[list[_File], list[str]]:
    files: list[_File] = []
    notes: list[str] = []
    for name in wish.files:
        path = str(Path(name).expanduser())
        try:
            files.append(_read_file(path, passphrase))
        except OSError as error:
            why = error.strerror or str(error)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            why = str(error)
        else:
            continue
        if wish.required:
            raise ssh_errors.key_unusable(path, why)
        if name not in DEFAULT_FILES:
            notes.append(f"{path} ({why})")
    for name in wish.certificates:
        path = str(Path(name).expanduser())
        try:
            certificate = asyncssh.read_certificate(path)
        except (OSError, asyncssh.KeyImportError) as error:
            notes.append(f"{path} ({getattr(error, 'strerror', None) or error})")
            continue
        fitting = [file for file in files if (file.key or file.public) and _public(file) == certificate.key.public_data]
        for file in fitting:
            file.certificates.insert(0, (path, certificate))
        if not fitting:
            notes.append(f"{path} (certificate of a key that is not among the files)")
    return files, notes


def _public(file: _File) -> bytes:
    key = file.key or file.public
    return key.public_data if key is not None else b""


def _read_file(path: str, passphrase: str) -> _File:
    """One file and what lies beside it. Raises OSError, or KeyImportError for one that is no key."""
    with open(path, "rb") as source:
        data = source.read(MAX_FILE_BYTES)
        if _PRIVATE in data:
            _warn_of_readers(path, source.fileno())
    file = _File(path)
    if _PRIVATE not in data:
        # A public key stands for the private one that the agent has.
        file.public = asyncssh.import_public_key(data)
        file.trouble = "public key; the agent does not have the private one"
    else:
        file.key, file.trouble = _opened(data, passphrase)
        if file.key is None:
            file.public = _public_half(path)
    beside = f"{path}-cert.pub"
    try:
        certificate = asyncssh.read_certificate(beside)
    except (OSError, asyncssh.KeyImportError):
        return file
    if (file.key or file.public) is None:
        file.public = certificate.key
    if _public(file) == certificate.key.public_data:
        file.certificates.append((beside, certificate))
    return file


def _opened(data: bytes, passphrase: str) -> tuple[asyncssh.SSHKey | None, str]:
    """The key, or why the passphrase does not open it."""
    try:
        return asyncssh.import_private_key(data), ""
    except asyncssh.KeyEncryptionError:
        pass
    except asyncssh.KeyImportError as error:
        if not str(error).startswith("Passphrase"):
            raise
    if not passphrase:
        return None, "encrypted: give its passphrase, or add it to the agent with ssh-add"
    try:
        return asyncssh.import_private_key(data, passphrase), ""
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError):
        return None, "encrypted: the passphrase that was given does not open it"


def _public_half(path: str) -> asyncssh.SSHKey | None:
    for name in (f"{path}.pub", path):  # OpenSSH's own format says the public half of an encrypted key too
        try:
            return asyncssh.read_public_key(name)
        except (OSError, asyncssh.KeyImportError):
            continue
    return None


def _warn_of_readers(path: str, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if status.st_uid == os.getuid() and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        _warn_once(path)


@functools.cache
def _warn_once(path: str) -> None:
    _logger.warning("the key %s can be read by others; ssh itself would refuse it: chmod 600 it", path)
