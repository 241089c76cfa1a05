"""Answers of calls that an engine cannot serve."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Refused(Generic[T]):
    """The answers of a call that always fails: an error at the first."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        raise self._error
