"""The first key of a login, shown and signed with in one go: two round trips less, which is a fifth of a login over a long line.

Left to itself, asyncssh asks what the server offers, then whether it would take the key, and only then signs. RFC 4252 lets a client begin
with the signature. It is made for this very connection, to a host whose key was verified, and is worth nothing to anybody else.

Only a key that was read from a file begins so: an agent, or a key on a token, would have to ask its owner for a signature that the server
may not want. If it is refused, everything goes on as it would have: the server is asked whether it lets in without a key, and what else it
offers. That may count as one try more, so nobody begins so who has anything else to show.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncssh
from asyncssh.auth import ClientAuth
from asyncssh.packet import Boolean, String
from asyncssh.public_key import SSHLocalKeyPair


def may_begin(pairs: Sequence[asyncssh.SSHKeyPair]) -> bool:
    """Whether a login that can show these, and nothing else, may begin with its key."""
    return len(pairs) == 1 and isinstance(pairs[0], SSHLocalKeyPair) and not pairs[0].algorithm.startswith(b"sk-")


def begin(connection: asyncssh.SSHClientConnection) -> None:
    """Lets a login begin with its key. To be called when asyncssh says that the login begins, before it has asked anything."""
    if getattr(connection, "_auth_methods", None) != [b"none"]:
        return  # another asyncssh than this was written for: it goes its own way
    usual = connection.try_next_auth

    def ask(*, next_method: bool = False) -> None:
        # The key was refused, and the server has said what it offers. What it gives to everybody it did not say.
        connection.try_next_auth = usual  # type: ignore[method-assign]
        connection._auth_methods.insert(0, b"none")
        usual()

    def first(*, next_method: bool = False) -> None:
        connection.try_next_auth = ask  # type: ignore[method-assign]
        connection._auth = _FirstKey(connection, b"publickey")

    connection.try_next_auth = first  # type: ignore[method-assign]


class _FirstKey(ClientAuth):
    """One attempt with a signature. Its answer is success or failure, which the connection deals with."""

    async def _start(self) -> None:
        pair = await self._conn.public_key_auth_requested()
        if pair is None:
            self._conn.try_next_auth()
            return
        try:
            await self.send_request(Boolean(True), String(pair.algorithm), String(pair.public_data), key=pair, trivial=False)
        except ValueError:
            # It cannot sign.
            self._conn.try_next_auth()
