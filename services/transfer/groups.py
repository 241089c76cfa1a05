"""One error out of a group of tasks: several often fail of the same cause, and a caller wants that cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mediasync.errors import MediasyncError


@contextmanager
def first_error() -> Iterator[None]:
    """Around a TaskGroup: raises, in place of an exception group, the MediasyncError in it, else the OSError, else the only error there
    is, else the group itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        for kind in (MediasyncError, OSError):
            if (leaf := _leaf(group, kind)) is not None:
                raise leaf from None
        if len(group.exceptions) == 1 and not isinstance(group.exceptions[0], BaseExceptionGroup):
            raise group.exceptions[0] from None
        raise


def _leaf(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return next((leaf for inner in error.exceptions if (leaf := _leaf(inner, kind)) is not None), None)
    return error if isinstance(error, kind) else None
