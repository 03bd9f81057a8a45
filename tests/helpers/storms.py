"""Faults in a row, under clients that are at work."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

import assessments
from tests.helpers.cluster import APPLICATION
from tests.helpers.proxy import REPLY, REQUEST, ROW, proxied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.helpers.cluster import Cluster

CLIENTS = 8


class Storm(NamedTuple):
    """Clients to be hit, and what hits them so many times."""

    clients: asyncpg.Pool[Any]
    faults: str
    times: int
    hit: Callable[[], Awaitable[Any]]

    async def rage(self, acknowledged: Callable[[], int], calls: int) -> None:
        """Hit so many times, each time after some more of so many *calls* were acknowledged."""
        for _ in range(self.times):
            goal = acknowledged() + calls // self.times
            while acknowledged() < goal:
                await asyncio.sleep(0.001)
            await self.hit()


@asynccontextmanager
async def clients(
    url: str, *, lock_timeout: str = "0", **options: Any
) -> AsyncIterator[asyncpg.Pool[Any]]:
    """Yield a pool for the clients to be hit."""
    settings = {"application_name": APPLICATION, "lock_timeout": lock_timeout}
    pool = assessments.create_pool(url, max_size=CLIENTS, server_settings=settings, **options)
    await pool
    try:
        yield pool
    finally:
        await asyncio.wait_for(pool.close(), 30)  # without a limit it waits for what has leaked


@asynccontextmanager
async def kills(cluster: Cluster, scale: int) -> AsyncIterator[Storm]:
    """Yield a storm in which backends are killed."""
    async with clients(cluster.url) as pool:
        yield Storm(pool, "kills", 5 * scale, cluster.kill)


@asynccontextmanager
async def restarts(cluster: Cluster, scale: int) -> AsyncIterator[Storm]:
    """Yield a storm in which the server is stopped at once and started again."""
    async with clients(cluster.url) as pool:
        yield Storm(pool, "restarts", 3 * scale, cluster.restart)


@asynccontextmanager
async def terminations(cluster: Cluster, scale: int) -> AsyncIterator[Storm]:
    """Yield a storm in which an administrator ends all backends."""
    async with clients(cluster.url) as pool:
        yield Storm(pool, "terminations", 20 * scale, cluster.terminate)


@asynccontextmanager
async def cuts(cluster: Cluster, scale: int) -> AsyncIterator[Storm]:
    """Yield a storm in which connections are cut, in a request, a reply, a reply with a row."""
    async with proxied(cluster.socket()) as proxy:
        orders = cycle([(REQUEST, b""), (REPLY, b""), (REPLY, ROW)])

        async def cut() -> None:
            await proxy.cut(*next(orders))

        async with clients(cluster.url, host=proxy.folder) as pool:
            yield Storm(pool, "cuts", 300 * scale, cut)


@asynccontextmanager
async def migrations(cluster: Cluster, scale: int) -> AsyncIterator[Storm]:
    """Yield a storm in which migrations lock the table for longer than the clients will wait."""

    async def migrate() -> None:
        connection = await asyncpg.connect(cluster.url)
        async with connection.transaction():
            await connection.execute("ALTER TABLE assessment_responses ADD COLUMN note text")
            await connection.execute("ALTER TABLE assessment_responses DROP COLUMN note")
            await asyncio.sleep(0.1)
        await connection.close()

    async with clients(cluster.url, lock_timeout="20ms") as pool:
        yield Storm(pool, "migrations", 5 * scale, migrate)


STORMS = {each.__name__: each for each in (kills, restarts, terminations, cuts, migrations)}


async def together(*work: Awaitable[Any], minutes: int) -> None:
    """Run *work* side by side; where one fails or it takes too long, end the rest and fail."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait_for(asyncio.gather(*tasks), 60 * minutes)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def leaked(cluster: Cluster, pool: asyncpg.Pool[Any]) -> int:
    """Return how many connections, backends, transactions and locks are not where they should be.

    All of the pool's connections can be had at once and answer; soon nobody else is connected, and
    nothing is open or locked.
    """

    async def answers() -> int:
        async with pool.acquire(timeout=30) as connection:
            await asyncio.sleep(0.1)  # until all are out
            pid: int = await connection.fetchval("SELECT pg_backend_pid()")
            return pid

    pids = await asyncio.gather(*(answers() for _ in range(CLIENTS)))
    for _ in range(100):  # a backend may need a moment to see that its client is gone
        ((left,),) = await cluster.ask(_LEFT, APPLICATION, pids)
        if not left:
            break
        await asyncio.sleep(0.1)
    busy = pool.get_size() - pool.get_idle_size()
    return CLIENTS - len(set(pids)) + busy + int(left)


_LEFT = """
    SELECT
        (SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND pid <> ALL ($2))
        + (SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%')
        + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')
"""
