"""Checks of the server, of its settings, and of what others can do to rows and statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.checks.findings import Finding
from assessments.queries import queries
from assessments.transactions import rolled_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_OLDEST_SERVER = 15
_DEFAULT_PATH = '"$user", public'
_PATH = "ALTER ROLE … SET search_path = SCHEMA, pg_temp"
_MOST_IDENTITY_USED = 0.5
_LARGEST = 2**63 - 1


def check_server(facts: Any) -> Iterator[Finding]:
    """Yield the server's version and encoding, and whether it takes writes."""
    fit = facts["version_number"] >= _OLDEST_SERVER * 10_000 and facts["encoding_name"] == "UTF8"
    yield Finding(
        "server",
        "ok" if fit else "error",
        f"PostgreSQL {facts['postgresql_version']}, {facts['encoding_name']}"
        + ("" if fit else f": it has to be {_OLDEST_SERVER} or newer, and UTF8"),
    )
    if facts["is_read_only"]:
        standby = facts["is_standby"]
        why = "the server is a standby" if standby else "by a setting or its transaction"
        yield Finding(
            "server",
            "error",
            f"the session is read-only: {why}",
            "nothing can be stored",
            remedy="connect to the primary" if standby else None,
        )


async def check_others(conn: Any) -> AsyncIterator[Finding]:
    """Yield what others of the database can do to what the library stores and runs."""
    for trigger in await queries.cli.get_triggers(conn):
        what = f"trigger {trigger['trigger_name']} on {trigger['table_name']}"
        message = f"{what}: a response that it changes conflicts with its retry"
        yield Finding("triggers", "warning", message)
    creators: dict[str, list[str]] = {}
    for row in await queries.cli.get_creators(conn):
        creators.setdefault(row["schema_name"], []).append(row["role_name"])
    for schema, roles in creators.items():
        who = ", ".join(roles)
        yield Finding(
            "search_path",
            "warning",
            f"schema {schema} is on search_path, and {who} may create objects in it",
            "a function or operator of theirs can be called in the place of PostgreSQL's",
            remedy=f"REVOKE CREATE ON SCHEMA {schema} FROM {who}",
        )


async def check_settings(conn: Any, facts: Any) -> AsyncIterator[Finding]:
    """Yield the settings that weaken a promise, and a pooler."""
    for finding in _check_path(facts["search_path"]):
        yield finding
    if facts["synchronous_commit"] == "off":
        message = "synchronous_commit is off"
        effect = "what was acknowledged can be lost in a crash"
        yield Finding("settings", "warning", message, effect)
    tables = await queries.cli.get_table_facts(conn)
    unvacuumed = [each["table_name"] for each in tables if each["is_autovacuum_off"]]
    for where in [] if facts["is_autovacuum_on"] else ["on the server"]:
        yield _autovacuum(where, "set autovacuum and track_counts to on")
    for table in unvacuumed:
        yield _autovacuum(f"for {table}", f"ALTER TABLE {table} RESET (autovacuum_enabled)")
    async for finding in _check_identities(conn):
        yield finding
    if facts["backend_pid"] != conn.get_server_pid():
        yield _check_pooler(conn)


async def _check_identities(conn: Any) -> AsyncIterator[Finding]:
    try:
        async with rolled_back(conn):
            columns = await queries.cli.get_identity_columns(conn)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError):
        return  # reported elsewhere
    for column in columns:
        used = (column["largest"] or 0) / column["max_value"]
        if used > _MOST_IDENTITY_USED:
            name, table = column["column_name"], column["table_name"]
            yield Finding(
                "identity",
                "warning",
                f"{name} of {table} has used {used:.0%} of its range",
                "at its end no row can be stored",
                remedy=f"ALTER TABLE {table} ALTER {name} SET MAXVALUE {_LARGEST}",
            )


def _check_path(path: str) -> Iterator[Finding]:
    if path == _DEFAULT_PATH:
        yield Finding(
            "search_path",
            "note",
            f"search_path is {path}, PostgreSQL's default",
            "a temporary table can take a table's place",
            remedy=_PATH,
        )
        return
    if "pg_catalog" in path.replace(" ", "").split(",")[1:]:
        danger = "unless pg_catalog comes first, others' functions and operators can take its place"
        message = f"search_path is {path}: {danger}"
        yield Finding("search_path", "warning", message, remedy=_PATH)
    if not path.replace(" ", "").endswith(",pg_temp"):
        danger = "unless it ends in pg_temp, a temporary table can take a table's place"
        message = f"search_path is {path}: {danger}"
        yield Finding("search_path", "warning", message, remedy=_PATH)


def _autovacuum(where: str, remedy: str) -> Finding:
    effect = "dead rows of claims and erasures stay, and statistics for plans grow old"
    return Finding("settings", "warning", f"autovacuum is off {where}", effect, remedy=remedy)


def _check_pooler(conn: Any) -> Finding:
    # What asyncpg keeps of its options has no public name; a host's own proxy may have none.
    config = getattr(conn, "_config", None)
    remedy = 'open pools with pooler="transaction"'
    if getattr(config, "statement_cache_size", 0) == 0:
        return Finding("pooler", "note", "a pooler stands in between", remedy=remedy)
    return Finding(
        "pooler",
        "warning",
        "a pooler stands in between, and asyncpg caches statements on this connection",
        "calls fail or run another statement, unless the pooler supports prepared statements",
        remedy=remedy,
    )
