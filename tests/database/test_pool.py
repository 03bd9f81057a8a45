"""A pool that works as handed out, on a direct connection and on a pooler's URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

import assessments
from assessments import create_pool
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def with_parameter(url: str, parameter: str) -> str:
    """Return *url* with one more query parameter."""
    return f"{url}{'&' if '?' in url else '?'}{parameter}"


async def prepared_statements(pool: asyncpg.Pool[Any]) -> int:
    """Return how many statements a connection keeps prepared after two submits."""
    async with pool.acquire() as connection:
        for _ in range(2):
            await submit(connection, anonymous_token=uuid4())
        rows = await connection.fetch(
            "SELECT name FROM pg_prepared_statements WHERE statement LIKE '/* assessments.%'"
        )
        return len(rows)


async def test_a_pool_opens_one_connection_and_caches_statements(database: str) -> None:
    """Without a pooler a pool starts small and prepares each statement once."""
    async with create_pool(database) as pool:
        assert pool.get_size() == 1
        assert await prepared_statements(pool) == 1


async def test_options_of_the_caller_win(database: str) -> None:
    """Anything that asyncpg.create_pool takes may be given, defaults of ours included."""

    async def init(connection: asyncpg.Connection[Any]) -> None:
        await connection.execute("SET application_name TO 'hers'")

    async with create_pool(database, min_size=2, max_size=3, init=init) as pool:
        assert (pool.get_size(), pool.get_max_size()) == (2, 3)
        assert await pool.fetchval("SHOW application_name") == "hers"


async def test_a_pool_may_be_awaited(database: str) -> None:
    """It is an asyncpg.Pool, and is opened as one."""
    pool = await create_pool(database)

    assert isinstance(pool, asyncpg.Pool)
    await pool.close()


@pytest.mark.parametrize(
    "opened",
    [
        lambda url: create_pool(url, pooler="transaction"),
        lambda url: create_pool(with_parameter(url, "pgbouncer=true")),
    ],
    ids=["pooler", "pgbouncer=true"],
)
async def test_behind_a_transaction_pooler_nothing_is_prepared_or_reset(
    database: str, opened: Callable[[str], asyncpg.Pool[Any]]
) -> None:
    """No statement is cached by name, and releasing a connection sends nothing to the server."""
    async with opened(database) as pool:
        assert await prepared_statements(pool) == 0
        await pool.execute("SET work_mem TO '5MB'")  # which a reset would undo
        assert await pool.fetchval("SHOW work_mem") == "5MB"


@pytest.mark.parametrize(
    "parameter",
    [
        "pgbouncer=true",
        "pgbouncer=true&connection_limit=1",
        "connect_timeout=5",
        "statement_cache_size=0",
        "schema=public",
        "pool_timeout=0",
    ],
)
async def test_parameters_for_other_clients_are_taken_out(database: str, parameter: str) -> None:
    """A URL as pasted from a pooler's dashboard connects; asyncpg alone would be refused."""
    url = with_parameter(database, parameter)
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(url)

    async with create_pool(url) as pool:
        assert await pool.fetchval("SELECT 1") == 1


async def test_parameters_that_asyncpg_knows_stay(database: str) -> None:
    """What stands beside a parameter that is taken out is kept."""
    url = with_parameter(database, "application_name=a%20b&pgbouncer=true")

    async with create_pool(url) as pool:
        assert await pool.fetchval("SHOW application_name") == "a b"


@pytest.mark.parametrize(
    ("call", "parameter"),
    [
        (lambda: create_pool("postgresql://", pooler="session"), "pooler"),  # type: ignore[arg-type]
        (lambda: create_pool("postgresql://", pooler=True), "pooler"),  # type: ignore[arg-type]
        (lambda: create_pool(None), "dsn"),  # type: ignore[arg-type]
        (lambda: create_pool("postgresql://u:p[ass@h/db?pgbouncer=true"), "dsn"),
    ],
)
def test_what_is_no_pooler_or_url_is_refused(
    call: Callable[[], Awaitable[Any]], parameter: str
) -> None:
    """A pooler mode that we know nothing of is an error, and not the default."""
    with pytest.raises(assessments.InvalidInput) as raised:
        call()

    assert raised.value.parameter == parameter
