"""What a login is asked while it happens: whether the host is who it should be, and for a password.

A password is sent only after the host's key was verified, to that host alone, and at most once in each way that the host offers, so that
a wrong one locks no account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import asyncssh

from mediasync.errors import MediasyncError
from mediasync.model import HostKeyTrust, SshConnection
from mediasync.sources import hostkeys, ssh_first_key
from mediasync.sources.hostkeys import Host, HostKeys


class Asked(Protocol):
    """The host that is logged in to."""

    @property
    def spelled(self) -> SshConnection:
        """How the user reaches it."""

    @property
    def host(self) -> Host:
        """Who it has to be."""

    @property
    def keys(self) -> HostKeys:
        """The keys on record."""


class Client(asyncssh.SSHClient):
    """Hears of a host key that is not on record, and answers for a password. `offered` are the ways in that the server named; of those
    that were not needed it may be silent. With `begins_with_key` the key is shown before the server has said what it offers."""

    def __init__(self, target: Asked, password: str = "", only_ask: bool = False) -> None:
        self._target = target
        self._password = password
        self._sent: set[str] = set()
        self._answered = ""
        self.only_ask = only_ask
        self.begins_with_key = False
        self._connection: asyncssh.SSHClientConnection | None = None
        self.shown: asyncssh.SSHKey | None = None
        self.refusal: MediasyncError | None = None
        self.offered: dict[str, None] = {}
        self.questions: list[str] = []

    @property
    def has_password(self) -> bool:
        """Whether there is one to give."""
        return bool(self._password)

    @property
    def password_sent(self) -> bool:
        """Whether the server was given the password."""
        return bool(self._sent)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Whether an unknown key is taken."""
        self.shown = key
        if self.only_ask:
            return False
        target = self._target
        trust, known = target.keys.trust(target.host, key)
        if trust is HostKeyTrust.CHANGED and known is not None:
            self.refusal = hostkeys.changed(target.host, key, known)
        elif trust is HostKeyTrust.UNKNOWN and target.spelled.accept_new_host_key:
            try:
                target.keys.remember(target.host, key)
            except MediasyncError as error:
                self.refusal = error
        elif trust is HostKeyTrust.UNKNOWN:
            self.refusal = hostkeys.unknown(target.host, key, target.spelled)
        return self.refusal is None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Whose login this is about."""
        self._connection = conn

    def begin_auth(self, username: str) -> None:
        """The login begins."""
        if self.begins_with_key and self._connection is not None:
            ssh_first_key.begin(self._connection)

    def public_key_auth_requested(self) -> None:
        """Every key was refused."""
        self.offered["a key"] = None

    def password_auth_requested(self) -> str | None:
        """The password, once."""
        self.offered["a password"] = None
        return self._once("password")

    def kbdint_auth_requested(self) -> str | None:
        """Whether questions are answered."""
        self.offered["a password"] = None
        return "" if self._password else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> Sequence[str] | None:
        """The password for the one question whose answer is not shown; nothing is known for any other."""
        if not prompts:
            return []  # something to read
        text, shown = prompts[0]
        if len(prompts) == 1 and not shown:
            if (password := self._once("questions")) is not None:
                self._answered = text
                return [password]
            if text == self._answered:
                return None  # asked again: it was wrong
        self.questions += [text for text, _ in prompts]
        return None

    def _once(self, way: str) -> str | None:
        if not self._password or way in self._sent:
            return None
        self._sent.add(way)
        return self._password
