"""What a pool behind a transaction-mode pooler leaves on the server when it gets a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from assessments import create_pool
from tests.helpers.polling import until
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from uuid import UUID


async def test_a_call_cut_short_after_others_leaves_no_transaction_open(
    database: str, conn: asyncpg.Connection[Any]
) -> None:
    """A call that fails between its preparation and its run is ended at the release."""
    async with create_pool(database, pooler="transaction") as pool:
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
            assert await connection.fetchval("SELECT $1::bigint", 1) == 1
            with pytest.raises(asyncpg.DataError):
                await connection.fetchval("SELECT $1::bigint", "not a key")

        ended = "SELECT state = 'idle' AND query = 'SELECT' FROM pg_stat_activity WHERE pid = $1"
        await until(conn, ended, pid, seconds=10)


async def test_no_statement_stays_prepared(database: str, token: UUID) -> None:
    """Not even the last one: its name could be another statement's at the next server process."""
    async with create_pool(database, pooler="transaction") as pool, pool.acquire() as connection:
        await submit(connection, anonymous_token=token)

        assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
