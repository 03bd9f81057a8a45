"""The locks that the statements of a migration take."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from assessments.migration_files import LOCK_MODES, TABLES
from tests.helpers.yoyo import MIGRATIONS

if TYPE_CHECKING:
    import asyncpg

# As pg_locks writes them.
MODES = {f"{mode.title().replace(' ', '')}Lock": mode for mode in LOCK_MODES}
_HELD = "SELECT relation, mode FROM pg_locks WHERE pid = $1 AND relation = ANY ($2)"
_WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)"


async def taken(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], name: str
) -> dict[str, str]:
    """Run the migration or rollback *name*; return the strongest mode on each table before it.

    Between its statements *other* looks; what builds or drops concurrently first waits for a
    writer's transaction, which *other* holds open until then.
    """
    text = (MIGRATIONS / f"{name}.sql").read_text(encoding="utf-8")
    oids = await _oids(conn)
    if not is_standing_alone(name):
        async with conn.transaction():
            await conn.execute(text)
            return _strongest(await conn.fetch(_HELD, conn.get_server_pid(), list(oids)), oids)
    found: list[asyncpg.Record] = []
    for statement in re.sub(r"--.*", "", text).split(";"):
        if "CONCURRENTLY" in statement:
            found += await _watched(conn, other, statement, list(oids))
        elif statement.lstrip().startswith("SET "):
            await conn.execute(statement)
        elif statement.strip():
            async with conn.transaction():
                await conn.execute(statement)
                found += await conn.fetch(_HELD, conn.get_server_pid(), list(oids))
    await conn.execute("RESET lock_timeout; RESET statement_timeout")
    return _strongest(found, oids)


def is_standing_alone(name: str) -> bool:
    """Return whether yoyo runs this migration, and so its rollback, without a transaction."""
    path = MIGRATIONS / f"{name.removesuffix('.rollback')}.sql"
    return "-- transactional: false" in path.read_text(encoding="utf-8")


async def _oids(conn: asyncpg.Connection[Any]) -> dict[int, str]:
    tables = await conn.fetch("SELECT to_regclass(t)::oid, t FROM unnest($1::text[]) AS t", TABLES)
    return {oid: table for oid, table in tables if oid}


async def _watched(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], statement: str, oids: list[int]
) -> list[asyncpg.Record]:
    """Run *statement* beside an open writer; return the locks that it holds or asks for."""
    pid = conn.get_server_pid()
    found: list[asyncpg.Record] = []
    writer = other.transaction()
    await writer.start()
    for table in (await _oids(other)).values():
        await other.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
    running = asyncio.create_task(conn.execute(statement))
    while not (running.done() or await other.fetchval(_WAITS, pid)):
        await asyncio.sleep(0.005)
    found += await other.fetch(_HELD, pid, oids)
    await writer.rollback()
    await asyncio.wait_for(running, 60)
    return found


def _strongest(locks: list[asyncpg.Record], oids: dict[int, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for oid, mode in locks:
        if mode in MODES:
            either = (MODES[mode], found.get(oids[oid], "ROW SHARE"))
            found[oids[oid]] = max(either, key=LOCK_MODES.index)
    return found
