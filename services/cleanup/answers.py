"""Answers of engines, which are left when their user is done with them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def closable(answers: AsyncIterator[T]) -> AsyncGenerator[T]:
    """The same, as a generator to be closed: some engines answer with an iterator that cannot be."""
    try:
        async for answer in answers:
            yield answer
    finally:
        if isinstance(answers, AsyncGenerator):
            await answers.aclose()
