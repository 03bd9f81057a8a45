"""What a lost connection leaves open, and what it says: each case made to happen."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments.transactions import atomic
from examples.retry import UNKNOWN, retried
from tests.helpers.fault_calls import CALLS
from tests.helpers.observe import everything_shown
from tests.helpers.proxy import COMMITTED, REPLY, REQUEST, ROW, Proxy, proxied
from tests.helpers.rows import SECRET, new_user, submit
from tests.helpers.storms import clients, leaked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.helpers.cluster import Cluster

EXECUTION = b"B"  # how the request that runs a prepared statement begins: Bind
CLEAN_UP = b"Q"  # and how the one with which a pool cleans up begins: Query


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[Proxy]:
    """Return a proxy to the server."""
    async with proxied(cluster.socket()) as proxy:
        yield proxy


@pytest.fixture
async def pool(cluster: Cluster, proxy: Proxy) -> AsyncIterator[asyncpg.Pool[Any]]:
    """Return a pool of clients behind the proxy."""
    async with clients(cluster.url, host=proxy.folder) as pool:
        yield pool


async def stored(cluster: Cluster, token: UUID) -> list[Any]:
    """Return the token's responses, as another client sees them."""
    async with asyncpg.create_pool(cluster.url, min_size=1, max_size=1) as quiet:
        return await assessments.get_responses(quiet, anonymous_token=token)


@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("keyed", [False, True])
async def test_a_retry_after_a_lost_reply_is_one_row_with_a_key_and_two_without(
    cluster: Cluster, proxy: Proxy, pool: Any, token: UUID, *, share: float, keyed: bool
) -> None:
    """The reply to a committed submit is cut: only the key shows that the retry is no new one."""
    key: Any = {"submission_key": uuid4()} if keyed else {}
    cut = asyncio.create_task(proxy.cut(REPLY, ROW, share))
    await asyncio.sleep(0)

    returned = await retried(lambda: submit(pool, anonymous_token=token, **key))

    assert (await cut).endswith(COMMITTED)
    rows = await stored(cluster, token)
    assert len(rows) == (1 if keyed else 2)
    assert rows[0] == returned


@pytest.mark.parametrize("share", [0, 0.5])
async def test_a_lost_request_stores_nothing(
    cluster: Cluster, proxy: Proxy, pool: Any, token: UUID, share: float
) -> None:
    """A request that does not arrive whole is not carried out."""
    cut = asyncio.create_task(proxy.cut(REQUEST, EXECUTION, share))
    await asyncio.sleep(0)

    with pytest.raises(UNKNOWN):
        await submit(pool, anonymous_token=token)

    assert cut.done()
    assert await stored(cluster, token) == []


async def test_a_pool_may_fail_a_call_that_was_through(
    cluster: Cluster, proxy: Proxy, pool: Any, token: UUID
) -> None:
    """A connection lost in the pool's own clean-up fails the call, though its row was returned."""
    await submit(pool, anonymous_token=uuid4())
    cut = asyncio.create_task(proxy.cut(REQUEST, CLEAN_UP))
    await asyncio.sleep(0)

    with pytest.raises(UNKNOWN):
        await submit(pool, anonymous_token=token)

    assert cut.done()
    assert len(await stored(cluster, token)) == 1


@pytest.mark.parametrize("way", [REQUEST, REPLY])
@pytest.mark.parametrize("call", CALLS)
async def test_a_lost_connection_ends_every_call_with_an_error_that_quotes_nothing(
    proxy: Proxy, pool: Any, token: UUID, call: Callable[..., Awaitable[Any]], way: str
) -> None:
    """It comes through as one of the recipe's errors, at once, without an answer or a token."""
    row = await submit(pool, anonymous_token=token, answer_text=SECRET)
    user_id = await new_user(pool)
    cut = asyncio.create_task(proxy.cut(way, EXECUTION if way == REQUEST else b"2", 0.5))
    await asyncio.sleep(0)

    with pytest.raises(UNKNOWN) as raised:
        await asyncio.wait_for(call(pool, token, user_id, row["response_id"]), 30)

    assert cut.done()
    assert not isinstance(raised.value, asyncio.TimeoutError)
    assert SECRET not in everything_shown(raised.value)
    assert str(token) not in everything_shown(raised.value)


@pytest.mark.parametrize("in_a_transaction", [False, True])
async def test_a_connection_that_falls_silent_fails_by_command_timeout(
    cluster: Cluster, proxy: Proxy, token: UUID, *, in_a_transaction: bool
) -> None:
    """No call hangs where the network swallows everything, and afterwards the pool is whole."""
    async with clients(cluster.url) as patient:
        row = await submit(patient, anonymous_token=token)
        arguments = token, await new_user(patient), row["response_id"]
    ready: list[None] = []

    async def attempt(call: Callable[..., Awaitable[Any]]) -> None:
        async with pool.acquire() as connection:
            if in_a_transaction:
                await connection.execute("BEGIN", timeout=30)
            ready.append(None)
            await proxy_is_silent()
            await call(connection, *arguments)

    async def proxy_is_silent() -> None:
        while len(ready) < len(CALLS):
            await asyncio.sleep(0.001)
        proxy.passing.clear()

    async with clients(cluster.url, host=proxy.folder, command_timeout=0.5) as pool:
        attempts = asyncio.gather(*map(attempt, CALLS), return_exceptions=True)
        ended = await asyncio.wait_for(attempts, 60)

        assert all(isinstance(error, UNKNOWN) for error in ended), ended
        proxy.passing.set()
        assert await leaked(cluster, pool) == 0


async def test_the_error_in_a_savepoint_outlives_the_loss_of_the_connection(
    cluster: Cluster,
) -> None:
    """What fails in the caller's transaction is what is raised, whatever its undoing runs into."""

    def terminate(pid: int) -> None:
        """End a backend while this thread's loop, and so asyncpg, sees nothing."""
        with ThreadPoolExecutor() as elsewhere:
            end = cluster.ask("SELECT pg_terminate_backend($1, 10000)", pid)
            elsewhere.submit(asyncio.run, end).result()

    async def failing(turns: int) -> None:
        connection = await asyncpg.connect(cluster.url)
        try:
            await connection.execute("BEGIN")
            async with atomic(connection):
                terminate(connection.get_server_pid())
                for _ in range(turns):  # it sees the server's last words first, then the end
                    await asyncio.sleep(0)
                raise assessments.UnknownUser
        finally:
            connection.terminate()

    for turns in range(8):
        with pytest.raises(assessments.UnknownUser):
            await failing(turns)
