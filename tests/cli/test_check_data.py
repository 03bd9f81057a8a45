"""``assessments.check`` gives a service the findings as data, and leaves its transaction alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

import assessments
from assessments import create_pool
from tests.helpers import pgbouncer
from tests.helpers.commands import run
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from uuid import UUID

    Connection = asyncpg.Connection[Any]

BREAK = """
ALTER TABLE assessment_scores DROP COLUMN model_id;
DROP INDEX idx_assessment_responses_anon;
"""
SESSION = """
SELECT json_build_object(
    'settings', (SELECT json_object_agg(name, setting ORDER BY name) FROM pg_settings),
    'statements', (SELECT count(*) FROM pg_prepared_statements WHERE from_sql),
    -- A SERIALIZABLE transaction's SIReadLock blocks nobody.
    'locks', (
        SELECT json_agg(relation::regclass || mode ORDER BY relation, mode) FROM pg_locks
        WHERE pid = pg_backend_pid() AND relation > 16384 AND mode <> 'SIReadLock'
    )
)::text
"""


def levels(findings: list[assessments.Finding]) -> dict[str, str]:
    """Return the subjects of *findings* that are not ok, with their levels."""
    return {each.subject: each.level for each in findings if each.level != "ok"}


async def test_findings_are_what_the_command_prints(database: str, conn: Connection) -> None:
    """In the same order, each once, also on a connection that checked before the schema changed."""
    assert levels(await assessments.check(conn)) == {"search_path": "note"}
    await conn.execute(BREAK)

    found = await assessments.check(conn)

    done = await asyncio.to_thread(run, "check", "--database", database)
    printed = [
        f"{'FAILED' if each.level == 'error' else each.level:8} {each.message}" for each in found
    ]
    assert len(set(found)) == len(found)
    lines = done.stdout.decode().splitlines()
    assert [line for line in lines if line[0] != " "] == printed
    assert levels(found) == {"indexes": "warning", "queries": "error", "search_path": "note"}
    assert {each.subject for each in found if each.level == "ok"} == {"server", "migrations"}


@pytest.mark.parametrize(
    "begin",
    [
        "SELECT",
        "BEGIN",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "BEGIN READ ONLY",
    ],
)
async def test_the_caller_s_transaction_and_session_keep_nothing(
    conn: Connection, other: Connection, token: UUID, begin: str
) -> None:
    """On an unfit database, too: settings, locks, statements and uncommitted rows are the same."""
    await other.execute(BREAK)
    await conn.execute(begin)
    if begin == "BEGIN":
        await submit(conn, anonymous_token=token)
    before = await conn.fetchval(SESSION)

    found = await assessments.check(conn)

    assert "error" in levels(found).values()
    assert await conn.fetchval(SESSION) == before
    assert conn.is_in_transaction() == (begin != "SELECT")
    if begin == "BEGIN":
        await conn.execute("COMMIT")
        assert len(await assessments.get_responses(other, anonymous_token=token)) == 1


async def test_a_pool_gives_one_connection_and_gets_it_back(pool: asyncpg.Pool[Any]) -> None:
    """A start-up hands in its pool; nothing worse than a note is found on a fit database."""
    found = await assessments.check(pool)

    assert levels(found) == {"search_path": "note"}
    assert pool.get_idle_size() == pool.get_size() == 1


async def test_a_lock_is_an_error_of_the_call_and_not_a_finding(
    conn: Connection, other: Connection, token: UUID
) -> None:
    """It gives up as the command does, and the caller's transaction stays usable."""
    await other.execute("BEGIN; LOCK TABLE assessment_scores")
    async with conn.transaction():
        await submit(conn, anonymous_token=token)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await assessments.check(conn)
        assert await conn.fetchval("SHOW lock_timeout") == "0"
    await other.execute("COMMIT")

    assert len(await assessments.get_responses(conn, anonymous_token=token)) == 1


async def test_a_lost_connection_is_an_error_of_the_call_and_not_a_finding(
    conn: Connection, other: Connection
) -> None:
    """What ends the connection says nothing about the queries, and is raised as it came."""
    pid = conn.get_server_pid()
    await other.execute("BEGIN; LOCK TABLE assessment_scores")
    checking = asyncio.create_task(assessments.check(conn))
    await until_waiting_for_lock(other, pid)

    await other.execute(f"SELECT pg_terminate_backend({pid})")

    # asyncpg raises one or the other, by which of two messages it reads first.
    with pytest.raises((asyncpg.ConnectionDoesNotExistError, asyncpg.AdminShutdownError)):
        await asyncio.wait_for(checking, 10)


@pytest.mark.skipif(pgbouncer.binary() is None, reason="PgBouncer is not installed")
async def test_behind_a_pooler_it_finds_the_same(server: str, database: str) -> None:
    """It notes the pooler, and two clients at once do not disturb each other."""
    with pgbouncer.running(server, default_pool_size=2) as url:
        pooled = urlsplit(url)._replace(path=urlsplit(database).path).geturl()
        async with create_pool(pooled, pooler="transaction", min_size=4, max_size=4) as pool:
            every = await asyncio.gather(*(assessments.check(pool) for _ in range(8)))

    assert [levels(found) for found in every] == [{"search_path": "note", "pooler": "note"}] * 8
