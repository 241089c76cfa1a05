"""Where a path below the root leads at the far side, and whether it may be gone that way."""

from __future__ import annotations

from collections.abc import Sequence

from mediasync.model import FollowSymlinks
from mediasync.sources.sftp.client import Sftp


def join(folder: bytes, name: bytes) -> bytes:
    """A path; either may be empty."""
    return folder.rstrip(b"/") + b"/" + name if folder and name else folder or name


class Places:
    """The folders of one call. What was learned of a folder is kept until `forget`."""

    def __init__(self, sftp: Sftp, root: bytes, real_root: bytes, named: Sequence[bytes], follow: FollowSymlinks) -> None:
        self._sftp = sftp
        self._root = root
        self._real_root = real_root
        # Longest first: a named folder may lie in another one.
        self._named = sorted(named, key=len, reverse=True)
        self._follow = follow
        self._allowed: dict[bytes, bool] = {}

    def absolute(self, path: bytes) -> bytes:
        """`path` as the server is asked for it."""
        return join(self._root, path)

    def forget(self) -> None:
        """Folders may have been replaced since."""
        self._allowed = {}

    def base(self, folder: bytes) -> bytes:
        """The folder that the user named and that `folder` is in; empty if that is the root."""
        return next((one for one in self._named if folder == one or folder.startswith(one + b"/")), b"")

    async def allowed(self, folder: bytes) -> bool:
        """Whether `folder` is where its path says, by way of no link but those that are followed. Raises `asyncssh.SFTPError`."""
        if folder not in self._allowed:
            base = self.base(folder)
            real_base = await self._sftp.real(self.absolute(base)) if base else self._real_root
            real = await self._sftp.real(self.absolute(folder)) if folder != base else real_base
            straight = real == join(real_base, folder[len(base) :].lstrip(b"/"))
            self._allowed[folder] = straight or (self._follow is FollowSymlinks.ALL and self._inside(real, real_base))
        return self._allowed[folder]

    async def link_allowed(self, path: bytes) -> bool:
        """Whether the link at `path` leads to something inside. Raises `asyncssh.SFTPError`."""
        if self._follow is FollowSymlinks.NONE:
            return False
        base = self.base(path.rpartition(b"/")[0])
        real_base = await self._sftp.real(self.absolute(base)) if base else self._real_root
        return self._inside(await self._sftp.real(self.absolute(path)), real_base)

    def _inside(self, real: bytes, real_base: bytes) -> bool:
        return any(real.startswith(top.rstrip(b"/") + b"/") or real == top for top in (self._real_root, real_base))
