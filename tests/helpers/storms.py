"""Clients at work under a series of faults."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import assessments
from tests.helpers.cluster import APPLICATION
from tests.helpers.proxy import REPLY, REQUEST, ROW, proxied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sized
    from random import Random

    import asyncpg

    from tests.helpers.cluster import Cluster

CLIENTS = 8
STORMS = {"kills": 5, "restarts": 3, "terminations": 20, "cuts": 300, "migrations": 5}
"""The kinds of faults, and how many of each a storm consists of."""


class Storm(NamedTuple):
    """A pool of clients, and the faults that they are to survive."""

    pool: asyncpg.Pool[Any]
    faults: str
    inject: Callable[[], Awaitable[Any]]
    scale: int

    @property
    def counts(self) -> dict[str, int]:
        """Return how many faults there are, by their kind."""
        return {self.faults: STORMS[self.faults] * self.scale}

    async def strike(
        self, work: Callable[[], Awaitable[Any]], acknowledged: Sized, *, workers: int, calls: int
    ) -> None:
        """Let *workers* repeat *work*, and spread the faults over *calls* acknowledged calls."""
        over = asyncio.Event()

        async def inject_faults() -> None:
            (times,) = self.counts.values()
            for fault in range(times + 1):
                goal = len(acknowledged) + calls * self.scale // (times + 1)
                while len(acknowledged) < goal:
                    await asyncio.sleep(0.001)
                if fault < times:  # the last calls show that the clients recover
                    await self.inject()
            over.set()

        async def repeat() -> None:
            while not over.is_set():
                await work()

        tasks = (repeat() for _ in range(workers))
        await run_together(inject_faults(), *tasks, minutes=3 * self.scale)


@asynccontextmanager
async def storm(cluster: Cluster, faults: str, scale: int, chance: Random) -> AsyncIterator[Storm]:
    """Yield a storm of one kind of *faults*, *scale* times CI's size."""
    async with proxied(cluster.socket()) as proxy:
        cuts = cycle([(REQUEST, b""), (REPLY, b""), (REPLY, ROW)])
        storms: dict[str, tuple[Callable[[], Awaitable[Any]], dict[str, Any]]] = {
            "kills": (lambda: cluster.kill(chance), {}),
            "restarts": (cluster.restart, {}),
            "terminations": (cluster.terminate, {}),
            "cuts": (lambda: proxy.cut(*next(cuts), chance.random()), {"host": proxy.folder}),
            "migrations": (cluster.migrate, {"lock_timeout": "20ms"}),
        }
        inject, options = storms[faults]
        async with clients(cluster.url, **options) as pool:
            yield Storm(pool, faults, inject, scale)


@asynccontextmanager
async def clients(
    url: str, *, lock_timeout: str = "0", size: int = CLIENTS, **options: Any
) -> AsyncIterator[asyncpg.Pool[Any]]:
    """Yield a pool of clients to inject faults into."""
    settings = {"application_name": APPLICATION, "lock_timeout": lock_timeout}
    pool = assessments.create_pool(url, max_size=size, server_settings=settings, **options)
    await pool
    try:
        yield pool
    finally:
        await asyncio.wait_for(pool.close(), 30)  # without a limit it waits for what has leaked


async def run_together(*work: Awaitable[Any], minutes: int) -> None:
    """Run *work* concurrently; where one fails or it takes too long, cancel the rest and fail."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait_for(asyncio.gather(*tasks), 60 * minutes)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_LEAKED = """
    SELECT
        (SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND pid <> ALL ($2))
        + (SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%')
        + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')
"""


async def count_leaked(cluster: Cluster, pool: asyncpg.Pool[Any]) -> int:
    """Return how many connections, backends, transactions and advisory locks have leaked.

    The pool has to hand out all of its connections at once, each alive; soon no other client is
    connected, and no transaction or lock is left.
    """
    size = pool.get_max_size()

    async def backend() -> int:
        async with pool.acquire(timeout=30) as connection:
            await asyncio.sleep(0.1)  # until all are acquired
            pid: int = await connection.fetchval("SELECT pg_backend_pid()")
            return pid

    pids = await asyncio.gather(*(backend() for _ in range(size)))
    for _ in range(100):  # a backend may need a moment to see that its client has disconnected
        ((left,),) = await cluster.fetch(_LEAKED, APPLICATION, pids)
        if not left:
            break
        await asyncio.sleep(0.1)
    acquired = pool.get_size() - pool.get_idle_size()
    return size - len(set(pids)) + acquired + int(left)
