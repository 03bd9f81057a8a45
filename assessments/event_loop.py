"""Long work beside other tasks of the event loop: in slices, or ahead of its use."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

T = TypeVar("T")
Result = TypeVar("Result")

SLICE_SECONDS = 0.01


async def map_in_slices(function: Callable[[T], Result], items: Iterable[T]) -> list[Result]:
    """Return the results of *function*; other tasks run after every `SLICE_SECONDS` of work."""
    results = []
    end = perf_counter() + SLICE_SECONDS
    for item in items:
        results.append(function(item))
        if perf_counter() > end:
            await asyncio.sleep(0)
            end = perf_counter() + SLICE_SECONDS
    return results


async def read_ahead(items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """Yield the items; while one is used, the next one is got."""
    coming = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await coming) is not None:
            coming = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
