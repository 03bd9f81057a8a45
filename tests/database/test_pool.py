"""A pool that works as created, on a direct connection and on a pooler's URL."""

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
    """Return how many statements a connection keeps prepared after two submissions."""
    async with pool.acquire() as connection:
        for _ in range(2):
            await submit(connection, anonymous_token=uuid4())
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '/* assessments.%'"
        )
        return count


async def test_a_pool_opens_one_connection_and_caches_statements(database: str) -> None:
    """Without a pooler an awaited pool starts small and prepares each statement once."""
    pool = await create_pool(database)

    assert isinstance(pool, asyncpg.Pool)
    assert pool.get_size() == 1
    assert await prepared_statements(pool) == 1
    await pool.close()


async def test_the_caller_s_options_override_the_defaults(database: str) -> None:
    """Any option of asyncpg.create_pool is accepted and wins over a default of ours."""

    async def init(connection: asyncpg.Connection[Any]) -> None:
        await connection.execute("SET application_name TO 'hers'")

    async with create_pool(database, min_size=2, max_size=3, init=init) as pool:
        assert (pool.get_size(), pool.get_max_size()) == (2, 3)
        assert await pool.fetchval("SHOW application_name") == "hers"


@pytest.mark.parametrize("parameter", [None, "pgbouncer=true"])
async def test_behind_a_transaction_pooler_nothing_is_prepared_or_reset(
    database: str, parameter: str | None
) -> None:
    """No statement is cached by name, and releasing a connection sends nothing to the server."""
    pool = (
        create_pool(with_parameter(database, parameter))
        if parameter
        else create_pool(database, pooler="transaction")
    )
    async with pool:
        assert await prepared_statements(pool) == 0
        await pool.execute("SET work_mem TO '5MB'")  # which a reset would undo
        assert await pool.fetchval("SHOW work_mem") == "5MB"


@pytest.mark.parametrize(
    "parameter",
    [
        *("pgbouncer=true", "pgbouncer=true&connection_limit=1", "connect_timeout=5"),
        *("statement_cache_size=0", "schema=public", "pool_timeout=0"),
    ],
)
async def test_parameters_for_other_clients_are_removed(database: str, parameter: str) -> None:
    """A URL from a pooler's dashboard, which asyncpg rejects, connects with its own parameters."""
    url = with_parameter(database, f"application_name=a%20b&{parameter}")
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(url)

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
def test_an_unknown_pooler_mode_or_invalid_url_is_rejected(
    call: Callable[[], Awaitable[Any]], parameter: str
) -> None:
    """An unknown mode does not fall back to the default, and the error names the parameter."""
    with pytest.raises(assessments.InvalidInput) as raised:
        call()

    assert raised.value.parameter == parameter
