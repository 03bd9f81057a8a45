"""Checks of a database: does it fit this version of the library, and the role that connects?

`check` is for a service; the command ``check`` prints what it finds. `check_before_apply` is for
whoever is about to apply the migrations.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from assessments.checks import planning, schema, surroundings, users
from assessments.checks.findings import Finding
from assessments.queries import queries
from assessments.transactions import atomic, rolled_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assessments.queries import Connection

__all__ = ["Finding", "check"]

# Others queue behind a check that waits for a migration's lock: give up soon.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"


async def check(conn: Connection) -> list[Finding]:
    """Check that a database fits this version of the library and the role that connects.

    It looks at server, migrations, column types, constraints, indexes, settings, triggers, and at
    every query against the live schema. It runs in a transaction or savepoint that it rolls back:
    nothing is changed, and no lock is kept. It is for the start of a service: a readiness probe,
    which comes every few seconds, needs only ``SELECT 1``.

    Args:
        conn: An asyncpg connection or pool.

    Returns:
        The findings, in a fixed order. A database is fit where none has the level ``"error"``.

    Raises:
        asyncpg.LockNotAvailableError: A migration held a lock for more than 2 seconds.
    """
    async with nothing_changed(conn) as connection:
        return [finding async for finding in _check(connection)]


async def check_before_apply(conn: Connection) -> list[Finding]:
    """Check what the migrations need: the server, a schema to create tables in, the host's users.

    Of a database without the library's tables `check` finds the same.
    """
    async with nothing_changed(conn) as connection:
        facts = await queries.cli.get_server_facts(connection)
        found = [*surroundings.check_server(facts), users.check_schema(facts)]
        return [*found, await users.check_users(connection, facts)]


async def _check(conn: Any) -> AsyncIterator[Finding]:
    facts = await queries.cli.get_server_facts(conn)
    columns = await queries.cli.get_column_types(conn)
    tables = {column["table_name"] for column in columns}
    for finding in surroundings.check_server(facts):
        yield finding
    applied = await schema.applied_migrations(conn, facts)
    yield schema.check_migrations(facts, tables, applied)
    async for finding in schema.check_deploy(conn, facts):
        yield finding
    if not tables:
        yield users.check_schema(facts)
        yield await users.check_users(conn, facts)
        return
    for finding in schema.check_columns(columns):
        yield finding
    async for finding in schema.check_objects(conn, tables, applied):
        yield finding
    async for finding in planning.check_queries(conn):
        yield finding
    async for finding in surroundings.check_others(conn):
        yield finding
    async for finding in surroundings.check_settings(conn, facts):
        yield finding


@asynccontextmanager
async def nothing_changed(conn: Connection) -> AsyncIterator[Any]:
    """Yield a connection for a block that changes nothing, not even in the caller's transaction."""
    async with atomic(conn) as connection, rolled_back(connection):
        await connection.execute(_LOCK_TIMEOUT)
        yield connection
