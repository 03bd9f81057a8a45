"""Checks of a database: does it fit this version of the library, and the role that connects?

`check` is for a service; the command ``check`` prints what it finds. `check_before_apply` is for
whoever is about to apply the migrations.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg

from assessments.plans import plan_query
from assessments.queries import folder, named, queries
from assessments.transactions import atomic, rolled_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from assessments.queries import Connection

__all__ = ["Finding", "check"]

Level: TypeAlias = Literal["ok", "note", "warning", "error"]

_OLDEST_SERVER = 15
# The types of the records' columns, in both tables.
_TYPES = {
    "response_id": "bigint",
    "score_id": "bigint",
    "user_id": "bigint",
    "anonymous_token": "uuid",
    "question_id": "text",
    "module_slug": "text",
    "learning_outcome_id": "text",
    "content_id": "uuid",
    "answer_text": "text",
    "answer_metadata": "jsonb",
    "submission_key": "uuid",
    "score_data": "jsonb",
    "model_id": "text",
    "prompt_version": "text",
    "created_at": "timestamp with time zone",
}
_CONSTRAINTS = (
    "assessment_responses_pkey",
    "assessment_responses_user_id_fkey",
    "assessment_responses_exactly_one_owner",
    "assessment_responses_answer_metadata_is_object",
    "assessment_scores_pkey",
    "assessment_scores_response_id_fkey",
    "assessment_scores_score_data_is_object",
)
# The unique index on submission_key is not among them: without it a query fails.
_INDEXES = (
    "idx_assessment_responses_user_id",
    "idx_assessment_responses_anon",
    "idx_assessment_responses_question",
    "idx_assessment_responses_module",
    "idx_assessment_scores_response_id",
)
_INTEGERS = ("smallint", "integer", "bigint")
# Headings of the page on users tables: what fits a database that has no users (user_id).
_EXPECTED = "docs/users.md#what-is-expected"
_COLUMN = "docs/users.md#a-column-in-your-table"
_MAPPING = "docs/users.md#a-mapping-table"
_OTHER_SCHEMA = "docs/users.md#another-schema"
_STAND_IN = "docs/users.md#no-users-table"
# Others queue behind a check that waits for a migration's lock: give up soon.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"


@dataclass(frozen=True)
class Finding:
    """One thing that `check` has looked at.

    Attributes:
        subject: What it is about, such as ``"migrations"`` or ``"rights"``.
        level: ``"error"`` where calls fail or a promise is broken, ``"warning"`` where a promise
            is weaker or a query slow, ``"note"`` where it may be meant so, else ``"ok"``.
        message: One line in plain English. Names roles and objects of the database, no values.
    """

    subject: str
    level: Level
    message: str


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
        facts = await queries.cli.get_server_facts(connection)
        columns = await queries.cli.get_column_types(connection)
        return [finding async for finding in _check_all(connection, facts, columns)]


async def check_before_apply(conn: Connection) -> list[Finding]:
    """Check what the migrations need: the server, a schema to create tables in, the host's users.

    Of a database without the library's tables `check` finds the same.
    """
    async with nothing_changed(conn) as connection:
        facts = await queries.cli.get_server_facts(connection)
        return [*_check_server(facts), _check_schema(facts), await _check_users(connection, facts)]


async def _check_all(conn: Any, facts: Any, columns: Any) -> AsyncIterator[Finding]:
    for finding in _check_server(facts):
        yield finding
    tables = {column["table_name"] for column in columns}
    yield await _check_migrations(conn, facts, tables)
    if not tables:
        yield _check_schema(facts)
        yield await _check_users(conn, facts)
        return
    for column in columns:
        name, kind = column["column_name"], column["type_name"]
        if kind != _TYPES.get(name, kind):
            message = f"{column['table_name']}.{name} is {kind} and not {_TYPES[name]}"
            yield Finding("columns", "error", message)
    existing = {name for (name,) in await queries.cli.get_constraints_and_indexes(conn)}
    for name in _missing(_CONSTRAINTS, existing, tables):
        message = f"constraint {name} is missing or not validated"
        yield Finding("constraints", "error", message)
    for name in _missing(_INDEXES, existing, tables):
        yield Finding("indexes", "warning", f"index {name} is missing or invalid")
    async for finding in _check_queries(conn):
        yield finding
    async for finding in _check_others(conn):
        yield finding
    for finding in _check_settings(conn, facts):
        yield finding


def _check_server(facts: Any) -> Iterator[Finding]:
    fit = facts["version_number"] >= _OLDEST_SERVER * 10_000 and facts["encoding_name"] == "UTF8"
    yield Finding(
        "server",
        "ok" if fit else "error",
        f"PostgreSQL {facts['postgresql_version']}, {facts['encoding_name']}"
        + ("" if fit else f": it has to be {_OLDEST_SERVER} or newer, and UTF8"),
    )
    if facts["is_read_only"]:
        message = "the session is read-only: a standby, or default_transaction_read_only"
        yield Finding("server", "error", message)


def _missing(names: tuple[str, ...], existing: set[str], tables: set[str]) -> Iterator[str]:
    """Return which of *names* are not *existing*, of those that belong to one of *tables*."""
    return (name for name in names if name not in existing and any(t in name for t in tables))


async def _check_migrations(conn: Any, facts: Any, tables: set[str]) -> Finding:
    if not facts["has_migrations"] and not tables:
        return Finding("migrations", "error", "migrations: none is applied")
    if not facts["has_migrations"]:
        message = "migrations: _yoyo_migration is not on the search_path"
        return Finding("migrations", "note", message)
    if not facts["may_read_migrations"]:
        message = f"migrations: {facts['role_name']} may not read which are applied"
        return Finding("migrations", "note", message)
    async with rolled_back(conn):
        applied = {name for (name,) in await queries.cli.get_applied_migrations(conn)}
    expected = sorted(
        path.stem for path in folder("migrations").glob("*.sql") if ".rollback" not in path.name
    )
    if pending := [name for name in expected if name not in applied]:
        message = f"migrations: not applied: {', '.join(pending)}"
        return Finding("migrations", "error", message)
    return Finding("migrations", "ok", f"migrations: all {len(expected)} are applied")


def _check_schema(facts: Any) -> Finding:
    schema, role, path = facts["schema_name"], facts["role_name"], facts["search_path"]
    if schema is None or schema.startswith("pg_temp"):
        message = f"schema: none on search_path ({path}) exists, or {role} has no USAGE on it"
    elif not facts["may_create"]:
        message = f"schema: {role} may not create tables in {schema}, the first on search_path"
    else:
        return Finding("schema", "ok", f"schema: tables are created in {schema}")
    return Finding("schema", "error", message)


async def _check_users(conn: Any, facts: Any) -> Finding:
    tables = await queries.cli.get_users_tables(conn)
    if tables and tables[0]["is_found"]:
        problem = _find_users_problem(tables[0], facts["role_name"])
        message = f"{_describe(tables[0])}{problem}"
        return Finding("users", "error" if problem else "ok", f"users: {message}")
    found = "; ".join(f"found {_describe(table)}: {_find_recipe(table)}" for table in tables)
    message = f"users: no table users with a column user_id on search_path ({facts['search_path']})"
    return Finding("users", "error", f"{message}; {found or f'none: {_STAND_IN}'}")


def _describe(table: Any) -> str:
    """Return the table's name, and its column user_id or else its key, with the type."""
    name, column = table["qualified_name"], table["key_name"]
    if table["user_id_type"] is not None:
        return f"{name} (user_id {table['user_id_type']})"
    return f"{name} ({column} {table['key_type']})" if column else str(name)


def _find_users_problem(table: Any, role: str) -> str:
    """Return why migration 0001 would refuse *table*, the users on search_path; empty if not."""
    if table["user_id_type"] is None:
        return f" has no column user_id: {_COLUMN if table['key_name'] else _MAPPING}"
    if table["user_id_type"] not in _INTEGERS:
        return f": user_id is not an integer: {_MAPPING}"
    if not table["is_unique"]:
        return f": user_id has no unique index of its own: {_EXPECTED}"
    if not table["may_reference"]:
        return f": {role} has no REFERENCES (user_id) on it: {_EXPECTED}"
    return ""


def _find_recipe(table: Any) -> str:
    """Return where the page says what to do with *table*, which is not found as users."""
    fits = table["table_name"] == "users" and table["user_id_type"] in _INTEGERS
    return _OTHER_SCHEMA if fits else _MAPPING


async def _check_queries(conn: Any) -> AsyncIterator[Finding]:
    failed: dict[str, list[str]] = {}
    denied = []
    names = query_names()
    for name in names:
        error = await _plan_error(conn, name)
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            denied.append(name)
        elif error is not None:
            failed.setdefault(str(error.args[0]), []).append(name)
    for message, failing in failed.items():
        yield Finding("queries", "error", f"{message}: {', '.join(failing)}")
    if not failed:
        yield Finding("queries", "ok", f"queries: all {len(names)} fit the schema")
    # Statistics of a table are for every role: to_regclass('assessment_responses') needs no right.
    on_responses = {name for name in names if " assessment_responses" in named(name).sql}
    if on_responses <= set(denied):
        yield Finding("rights", "error", "rights: this role may run no query")
    elif denied:
        yield Finding("rights", "note", f"rights: {', '.join(denied)} are not for this role")


async def _plan_error(conn: Any, name: str) -> asyncpg.PostgresError | None:
    """Return the error of planning the query *name* on this database, if any."""
    try:
        await plan_query(conn, name, with_text=False)
    except (
        asyncpg.LockNotAvailableError,
        asyncpg.OperatorInterventionError,
        asyncpg.PostgresConnectionError,
    ):
        raise  # a lock, a timeout or the connection, not the query
    except asyncpg.PostgresError as error:
        return error
    return None


async def _check_others(conn: Any) -> AsyncIterator[Finding]:
    """Yield what others of the database can do to what the library stores and runs."""
    for trigger in await queries.cli.get_triggers(conn):
        what = f"trigger {trigger['trigger_name']} on {trigger['table_name']}"
        message = f"{what}: a response that it changes conflicts with its retry"
        yield Finding("triggers", "warning", message)
    creators: dict[str, list[str]] = {}
    for row in await queries.cli.get_creators(conn):
        creators.setdefault(row["schema_name"], []).append(row["role_name"])
    for schema, roles in creators.items():
        who = f"{', '.join(roles)} may create objects in it"
        yield Finding("search_path", "warning", f"schema {schema} is on search_path, and {who}")


def _check_settings(conn: Any, facts: Any) -> Iterator[Finding]:
    path = facts["search_path"]
    if "pg_catalog" in path.replace(" ", "").split(",")[1:]:
        danger = "unless pg_catalog comes first, others' functions and operators can take its place"
        yield Finding("search_path", "warning", f"search_path is {path}: {danger}")
    if path.split(",")[-1].strip() != "pg_temp":
        danger = "unless it ends in pg_temp, a temporary table can take a table's place"
        yield Finding("search_path", "warning", f"search_path is {path}: {danger}")
    if facts["synchronous_commit"] == "off":
        message = "synchronous_commit is off: what was acknowledged can be lost in a crash"
        yield Finding("settings", "warning", message)
    if facts["backend_pid"] != conn.get_server_pid():
        message = 'a pooler stands in between: open pools with pooler="transaction"'
        yield Finding("pooler", "note", message)


def query_names() -> list[str]:
    """Return the queries that a service or a command runs: all but those of the check itself."""
    return sorted(
        name
        for name in queries.available_queries
        if not name.endswith("_cursor") and Path(named(name).__code__.co_filename).stem != "check"
    )


@asynccontextmanager
async def nothing_changed(conn: Connection) -> AsyncIterator[Any]:
    """Yield a connection for a block that changes nothing, not even in the caller's transaction."""
    async with atomic(conn) as connection, rolled_back(connection):
        await connection.execute(_LOCK_TIMEOUT)
        yield connection
