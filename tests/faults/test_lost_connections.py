"""What a lost connection leaves stored, and the error with which the call ends."""

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
from tests.helpers.calls import Call, Subject, catalogue
from tests.helpers.observe import everything_shown
from tests.helpers.proxy import COMMITTED, REPLY, REQUEST, ROW, Proxy, proxied
from tests.helpers.rows import SECRET, new_user, submit
from tests.helpers.storms import clients, count_leaked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.helpers.cluster import Cluster

# How requests and replies begin, by the letter of their first message.
BIND, BIND_COMPLETE = b"B", b"2"  # a prepared statement is executed
QUERY = b"Q"  # a pool resets a connection at its release


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[Proxy]:
    """Return a proxy to the server."""
    async with proxied(cluster.socket()) as proxy:
        yield proxy


@pytest.fixture
async def pool(cluster: Cluster, proxy: Proxy) -> AsyncIterator[asyncpg.Pool[Any]]:
    """Return a pool of clients behind the proxy, connected and with a statement prepared."""
    async with clients(cluster.url, host=proxy.folder) as pool:
        await submit(pool, anonymous_token=uuid4())
        yield pool


async def get_stored(cluster: Cluster, token: UUID) -> list[Any]:
    """Return the token's responses, as another client sees them."""
    async with asyncpg.create_pool(cluster.url, min_size=1, max_size=1) as direct:
        return await assessments.get_responses(direct, anonymous_token=token)


async def new_calls(pool: Any, token: UUID) -> dict[str, Call]:
    """Return a call of every function, about a response of the token's."""
    row = await submit(pool, anonymous_token=token, answer_text=SECRET)
    subject = Subject(await new_user(pool), token, row["response_id"], {"anonymous_token": token})
    return catalogue(subject)


@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("keyed", [False, True])
async def test_a_retry_after_a_lost_reply_stores_one_row_with_a_key_and_two_without(
    cluster: Cluster, proxy: Proxy, pool: Any, token: UUID, *, share: float, keyed: bool
) -> None:
    """Where the reply to a committed submission is lost, only the key makes a retry idempotent."""
    key: Any = {"submission_key": uuid4()} if keyed else {}
    cut = proxy.cut(REPLY, ROW, share)

    returned = await retried(lambda: submit(pool, anonymous_token=token, **key))

    assert (await cut).endswith(COMMITTED)
    rows = await get_stored(cluster, token)
    assert len(rows) == (1 if keyed else 2)
    assert rows[0] == returned


@pytest.mark.parametrize(
    ("begins", "share", "rows"),
    [
        pytest.param(BIND, 0, 0, id="request lost"),
        pytest.param(BIND, 0.5, 0, id="half the request lost"),
        pytest.param(QUERY, None, 1, id="lost at release, after the commit"),
    ],
)
async def test_the_outcome_of_a_submission_whose_connection_is_lost_is_unknown(
    cluster: Cluster, proxy: Proxy, pool: Any, token: UUID, *, begins: bytes, share: Any, rows: int
) -> None:
    """The same errors follow an incomplete request, which stores nothing, and a committed call."""
    cut = proxy.cut(REQUEST, begins, share)

    with pytest.raises(UNKNOWN):
        await submit(pool, anonymous_token=token)

    assert cut.done()
    assert len(await get_stored(cluster, token)) == rows


@pytest.mark.parametrize(("way", "begins"), [(REQUEST, BIND), (REPLY, BIND_COMPLETE)])
@pytest.mark.parametrize("name", catalogue())
async def test_every_call_on_a_lost_connection_fails_without_private_data_in_the_error(
    proxy: Proxy, pool: Any, token: UUID, *, name: str, way: str, begins: bytes
) -> None:
    """It fails immediately, with an error that the recipe retries and no answer or token in it."""
    call = (await new_calls(pool, token))[name]
    cut = proxy.cut(way, begins, 0.5)

    with pytest.raises(UNKNOWN) as raised:
        await asyncio.wait_for(call(pool), 30)

    assert cut.done()
    assert not isinstance(raised.value, asyncio.TimeoutError)
    assert SECRET not in everything_shown(raised.value)
    assert str(token) not in everything_shown(raised.value)


@pytest.mark.parametrize("in_a_transaction", [False, True])
async def test_every_call_on_a_silent_connection_fails_by_command_timeout(
    cluster: Cluster, proxy: Proxy, token: UUID, *, in_a_transaction: bool
) -> None:
    """No call hangs where the network drops everything, and no connection leaks."""
    async with clients(cluster.url) as direct:
        calls = await new_calls(direct, token)
    ready = asyncio.Semaphore(0)

    async def attempt(pool: Any, call: Call) -> None:
        async with pool.acquire() as connection:
            if in_a_transaction:
                await connection.execute("BEGIN", timeout=30)
            ready.release()
            while proxy.passing.is_set():
                await asyncio.sleep(0.001)
            await call(connection)

    options: Any = {"host": proxy.folder, "command_timeout": 0.5}
    async with clients(cluster.url, size=len(calls), **options) as silent:
        attempts = asyncio.gather(
            *(attempt(silent, call) for call in calls.values()), return_exceptions=True
        )
        for _ in calls:
            await asyncio.wait_for(ready.acquire(), 30)
        proxy.passing.clear()
        results = await asyncio.wait_for(attempts, 60)

        assert all(isinstance(error, UNKNOWN) for error in results), results
        proxy.passing.set()
        assert await count_leaked(cluster, silent) == 0


async def test_the_loss_of_the_connection_does_not_mask_the_error_in_a_savepoint(
    cluster: Cluster,
) -> None:
    """The error of the block is raised although its rollback fails."""

    def terminate(pid: int) -> None:
        """Terminate a backend while this thread's loop is blocked, so that asyncpg cannot see."""
        end = cluster.fetch("SELECT pg_terminate_backend($1, 10000)", pid)
        with ThreadPoolExecutor() as elsewhere:
            elsewhere.submit(asyncio.run, end).result()

    async def fail(connection: Any, turns: int) -> None:
        async with atomic(connection):
            terminate(connection.get_server_pid())
            for _ in range(turns):
                await asyncio.sleep(0)
            raise assessments.UnknownUser

    for turns in range(8):  # asyncpg sees the server's last message first, then the end
        connection = await asyncpg.connect(cluster.url)
        await connection.execute("BEGIN")
        with pytest.raises(assessments.UnknownUser):
            await fail(connection, turns)
        connection.terminate()
