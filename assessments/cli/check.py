"""``assessments check`` and ``explain``: what the queries find on a live database."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.cli import connection
from assessments.queries import folder, named, queries

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Iterator

_OLDEST = 15


def _names() -> list[str]:
    """Return the queries that a service or a command runs: all but those of the check itself."""
    return sorted(
        name
        for name in queries.available_queries
        if not name.endswith("_cursor")
        and Path(named(name).__code__.co_filename).stem != Path(__file__).stem
    )


# The types that the records rest on, in both tables.
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
# The submission key's is not among them: without it a query fails.
_INDEXES = (
    "idx_assessment_responses_user_id",
    "idx_assessment_responses_anon",
    "idx_assessment_responses_question",
    "idx_assessment_responses_module",
    "idx_assessment_scores_response_id",
)
# Nobody is to wait for long behind a command that waits for a migration.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"


def add_commands(commands: Any) -> None:
    """Add both commands to the parser's."""
    check = commands.add_parser(
        "check",
        help="see whether a database is fit for this version of the library; status 1 if not",
        description="Checks server, migrations, column types, constraints, indexes and every query "
        "against the live schema, and what the role that connects may run. Changes nothing. For "
        "deploy scripts: after the migrations, before the service, with the URL that the service "
        "gets.",
    )
    connection.add_database(check)
    check.set_defaults(run=run)
    explain = commands.add_parser(
        "explain",
        help="print the plan of every query on a database, for any arguments",
        description="Prints the generic plan of every query. Runs none of them.",
    )
    connection.add_database(explain)
    explain.set_defaults(run=run_explain)


def run(options: argparse.Namespace) -> int:
    """Check; return the exit status."""
    return connection.run(options.database, _check)


def run_explain(options: argparse.Namespace) -> int:
    """Print the plans; return the exit status."""
    return connection.run(options.database, _explain)


async def _check(pool: asyncpg.Pool[Any]) -> None:
    failed = False
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(_LOCK_TIMEOUT)
        facts = await queries.cli.get_server_facts(conn)
        findings = [finding async for finding in _findings(conn, facts)]
    for level, text in findings:
        failed |= level == "FAILED"
        _say(f"{level:8} {text}")
    if failed:
        raise connection.CommandError("this database is not fit for this version of assessments")


async def _findings(conn: Any, facts: Any) -> AsyncIterator[tuple[str, str]]:
    fit = facts["version_number"] >= _OLDEST * 10_000 and facts["encoding_name"] == "UTF8"
    yield (
        "ok" if fit else "FAILED",
        f"PostgreSQL {facts['postgresql_version']}, {facts['encoding_name']}"
        + ("" if fit else f": it has to be {_OLDEST} or newer, and UTF8"),
    )
    if facts["is_read_only"]:
        yield "FAILED", "the session is read-only: a standby, or default_transaction_read_only"
    columns = await queries.cli.get_column_types(conn)
    tables = {column["table_name"] for column in columns}
    yield await _migrations(conn, facts, tables)
    for column in columns:
        name, kind = column["column_name"], column["type_name"]
        if kind != _TYPES.get(name, kind):
            yield "FAILED", f"{column['table_name']}.{name} is {kind} and not {_TYPES[name]}"
    there = {name for (name,) in await queries.cli.get_constraints_and_indexes(conn)}
    for name in _missing(_CONSTRAINTS, there, tables):
        yield "FAILED", f"constraint {name} is missing or not validated"
    for name in _missing(_INDEXES, there, tables):
        yield "warning", f"index {name} is missing or invalid"
    async for finding in _queries(conn):
        yield finding
    for finding in _settings(conn, facts):
        yield finding


def _missing(names: tuple[str, ...], there: set[str], tables: set[str]) -> Iterator[str]:
    """Return which of *names* are not *there*, of those that belong to one of *tables*."""
    return (name for name in names if name not in there and any(t in name for t in tables))


async def _migrations(conn: Any, facts: Any, tables: set[str]) -> tuple[str, str]:
    if not facts["has_migrations"] and not tables:
        return "FAILED", "migrations: none is applied"
    if not facts["has_migrations"]:
        return "note", "migrations: _yoyo_migration is not on the search_path"
    if not facts["may_read_migrations"]:
        return "note", f"migrations: {facts['role_name']} may not read which are applied"
    async with _undone(conn):
        applied = {
            migration_id for (migration_id,) in await queries.cli.get_applied_migrations(conn)
        }
    ours = sorted(
        path.stem for path in folder("migrations").glob("*.sql") if ".rollback" not in path.name
    )
    if pending := [name for name in ours if name not in applied]:
        return "FAILED", f"migrations: not applied: {', '.join(pending)}"
    return "ok", f"migrations: all {len(ours)} are applied"


async def _queries(conn: Any) -> AsyncIterator[tuple[str, str]]:
    failed: dict[str, list[str]] = {}
    refused = []
    for name in _names():
        error = await _error(conn, name)
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            refused.append(name)
        elif error is not None:
            failed.setdefault(str(error.args[0]), []).append(name)
    for message, names in failed.items():
        yield "FAILED", f"{message}: {', '.join(names)}"
    if not failed:
        yield "ok", f"queries: all {len(_names())} fit the schema"
    on_ours = {name for name in _names() if "assessment_responses" in named(name).sql}
    if on_ours <= set(refused):
        yield "FAILED", "rights: this role may run no query"
    elif refused:
        yield "note", f"rights: {', '.join(refused)} are not for this role"


async def _error(conn: Any, name: str) -> asyncpg.PostgresError | None:
    """Return what is wrong with the query *name* here."""
    try:
        await _plan(conn, name)
    except (asyncpg.LockNotAvailableError, asyncpg.OperatorInterventionError):
        raise  # says nothing about the query
    except asyncpg.PostgresError as error:
        return error
    return None


def _settings(conn: Any, facts: Any) -> Iterator[tuple[str, str]]:
    path = facts["search_path"]
    if path.split(",")[-1].strip() != "pg_temp":
        danger = "unless it ends in pg_temp, a temporary table can take a table's place"
        yield "warning", f"search_path is {path}: {danger}"
    if facts["synchronous_commit"] == "off":
        yield "warning", "synchronous_commit is off: what was acknowledged can be lost in a crash"
    if facts["backend_pid"] != conn.get_server_pid():
        yield "note", 'a pooler stands in between: open pools with pooler="transaction"'


async def _plan(conn: Any, name: str) -> list[str]:
    """Return the lines of the plan for any arguments."""
    arguments = ", ".join(["NULL"] * len(queries.driver_adapter.var_sorted[name]))
    async with _undone(conn):
        await conn.execute(f"PREPARE assessments_plan AS {named(name).sql}")
        try:
            async with conn.transaction():
                await conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                call = f"assessments_plan ({arguments})" if arguments else "assessments_plan"
                return [line for (line,) in await conn.fetch(f"EXPLAIN EXECUTE {call}")]
        finally:
            await conn.execute("DEALLOCATE assessments_plan")


@asynccontextmanager
async def _undone(conn: Any) -> AsyncIterator[None]:
    """Run a block in a savepoint and roll it back, which lets go of its locks."""
    savepoint = conn.transaction()
    await savepoint.start()
    try:
        yield
    finally:
        await savepoint.rollback()


async def _explain(pool: asyncpg.Pool[Any]) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(_LOCK_TIMEOUT)
        for name in _names():
            try:
                lines = await _plan(conn, name)
            except asyncpg.InsufficientPrivilegeError:
                lines = ["not for this role"]
            _say("\n".join([f"-- {name}", *lines, ""]))


def _say(line: str) -> None:
    connection.write(sys.stdout.buffer, [f"{line}\n".encode()])
