"""What the sections of ``python -m benchmarks`` share: figures, sizes, interleaved timing.

A section is a module with a ``TITLE``, a sentence on what its ratios compare (``ABOUT``), and
``async def measure(scale: Scale) -> list[Figure]``.
"""

from __future__ import annotations

import gc
import itertools
import random
import statistics
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import asyncpg

from assessments.testing import migrations, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

Scale: TypeAlias = Literal["smallest", "usual", "full"]
"""How much is measured: seconds, for a test; minutes; as long as it takes."""

_SLICES = 15
_WARM_UP = 10


@dataclass(frozen=True)
class Figure:
    """One measured figure; *value* is a median, *low* and *high* are the quartiles around it."""

    name: str
    value: float
    low: float
    high: float
    unit: str = "×"
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the figure as it is kept, with four digits."""
        rounded = {name: float(f"{getattr(self, name):.4g}") for name in ("value", "low", "high")}
        return asdict(self) | rounded


class Way(NamedTuple):
    """One way to do the work. What *prepare* returns is handed to *call*, and is not timed."""

    name: str
    call: Callable[[Any], Awaitable[Any]]
    prepare: Callable[[], Awaitable[Any]] | None = None


async def interleave(ways: Sequence[Way], turns: int, warm_up: int = _WARM_UP) -> list[list[float]]:
    """Return the seconds of each turn, way by way.

    All run in each turn, in an order drawn anew, so that the machine's drift and the caches that
    one leaves to the next affect all alike. The garbage collector runs between the turns only.
    """
    taken: list[list[float]] = [[] for _ in ways]
    order, draw = list(range(len(ways))), random.Random(1)  # noqa: S311 - the same in each run
    gc.collect()
    gc.disable()
    try:
        for turn in range(-min(warm_up, turns), turns):
            draw.shuffle(order)
            for index in order:
                prepare, call = ways[index].prepare, ways[index].call
                given = await prepare() if prepare else None
                start = perf_counter()
                await call(given)
                seconds = perf_counter() - start
                if turn >= 0:
                    taken[index].append(seconds)
            if turn % 50 == 0:
                gc.collect()
    finally:
        gc.enable()
    return taken


def ratio(
    name: str, taken: Sequence[float], base: Sequence[float], *, unit: str = "×", note: str = ""
) -> Figure:
    """Return *taken* over *base*, both of the same turns.

    The turns are cut into slices; each gives the ratio of its two medians. The figure is the median
    of these, between their quartiles.
    """
    count = max(1, min(_SLICES, len(taken)))
    bounds = [round(len(taken) * number / count) for number in range(count + 1)]
    ratios = [
        statistics.median(taken[low:high]) / statistics.median(base[low:high])
        for low, high in itertools.pairwise(bounds)
    ]
    return spread(name, ratios, unit=unit, note=note)


def spread(name: str, values: Sequence[float], *, unit: str = "×", note: str = "") -> Figure:
    """Return the median of *values* between their quartiles."""
    if len(values) == 1:
        return Figure(name, values[0], values[0], values[0], unit, note)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(name, middle, low, high, unit, note)


def milliseconds(seconds: Sequence[float]) -> str:
    """Return the median of *seconds* for a note: absolute times are the machine's."""
    return f"{statistics.median(seconds) * 1000:.3g} ms"


@asynccontextmanager
async def database(load: str = "") -> AsyncIterator[tuple[str, asyncpg.Connection[Any]]]:
    """Yield the URL of a migrated database on an embedded server, and a connection to it."""
    with server.running() as url:
        migrations.apply(url)
        conn = await asyncpg.connect(url)
        try:
            if load:
                await conn.execute(load)
            await conn.execute("VACUUM ANALYZE")
            yield url, conn
        finally:
            await conn.close()
