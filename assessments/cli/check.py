"""``assessments check`` and ``explain``: the library's needs against a live database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.cli import options, runner
from assessments.cli.errors import CommandError
from assessments.cli.output import say
from assessments.queries import folder, named, queries

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Iterator

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
# Others queue behind a command that waits for a migration's lock: give up soon.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"


def add_commands(commands: Any) -> None:
    """Add both commands to the parser's."""
    check = commands.add_parser(
        "check",
        help="check that a database fits this version of the library; status 1 if not",
        description="Checks server, migrations, column types, constraints, indexes and every query "
        "against the live schema, and what the role that connects may run. Changes nothing. For "
        "deploy scripts: after the migrations, before the service, with the URL that the service "
        "gets.",
    )
    options.add_database(check)
    check.set_defaults(run=run)
    explain = commands.add_parser(
        "explain",
        help="print the plan of every query on a database, for any arguments",
        description="Prints the generic plan of every query. Runs none of them.",
    )
    options.add_database(explain)
    explain.set_defaults(run=run_explain)


def run(arguments: argparse.Namespace) -> int:
    """Check; return the exit status."""
    return runner.run(arguments.database, _check)


def run_explain(arguments: argparse.Namespace) -> int:
    """Print the plans; return the exit status."""
    return runner.run(arguments.database, _explain)


async def _check(pool: asyncpg.Pool[Any]) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(_LOCK_TIMEOUT)
        facts = await queries.cli.get_server_facts(conn)
        findings = [finding async for finding in _check_all(conn, facts)]
    for level, text in findings:
        say(f"{level:8} {text}")
    if any(level == "FAILED" for level, _ in findings):
        raise CommandError("this database is not fit for this version of assessments")


async def _check_all(conn: Any, facts: Any) -> AsyncIterator[tuple[str, str]]:
    fit = facts["version_number"] >= _OLDEST_SERVER * 10_000 and facts["encoding_name"] == "UTF8"
    yield (
        "ok" if fit else "FAILED",
        f"PostgreSQL {facts['postgresql_version']}, {facts['encoding_name']}"
        + ("" if fit else f": it has to be {_OLDEST_SERVER} or newer, and UTF8"),
    )
    if facts["is_read_only"]:
        yield "FAILED", "the session is read-only: a standby, or default_transaction_read_only"
    columns = await queries.cli.get_column_types(conn)
    tables = {column["table_name"] for column in columns}
    yield await _check_migrations(conn, facts, tables)
    for column in columns:
        name, kind = column["column_name"], column["type_name"]
        if kind != _TYPES.get(name, kind):
            yield "FAILED", f"{column['table_name']}.{name} is {kind} and not {_TYPES[name]}"
    existing = {name for (name,) in await queries.cli.get_constraints_and_indexes(conn)}
    for name in _missing(_CONSTRAINTS, existing, tables):
        yield "FAILED", f"constraint {name} is missing or not validated"
    for name in _missing(_INDEXES, existing, tables):
        yield "warning", f"index {name} is missing or invalid"
    async for finding in _check_queries(conn):
        yield finding
    async for finding in _check_others(conn):
        yield finding
    for finding in _check_settings(conn, facts):
        yield finding


def _missing(names: tuple[str, ...], existing: set[str], tables: set[str]) -> Iterator[str]:
    """Return which of *names* are not *existing*, of those that belong to one of *tables*."""
    return (name for name in names if name not in existing and any(t in name for t in tables))


async def _check_migrations(conn: Any, facts: Any, tables: set[str]) -> tuple[str, str]:
    if not facts["has_migrations"] and not tables:
        return "FAILED", "migrations: none is applied"
    if not facts["has_migrations"]:
        return "note", "migrations: _yoyo_migration is not on the search_path"
    if not facts["may_read_migrations"]:
        return "note", f"migrations: {facts['role_name']} may not read which are applied"
    async with _rolled_back(conn):
        applied = {name for (name,) in await queries.cli.get_applied_migrations(conn)}
    expected = sorted(
        path.stem for path in folder("migrations").glob("*.sql") if ".rollback" not in path.name
    )
    if pending := [name for name in expected if name not in applied]:
        return "FAILED", f"migrations: not applied: {', '.join(pending)}"
    return "ok", f"migrations: all {len(expected)} are applied"


async def _check_queries(conn: Any) -> AsyncIterator[tuple[str, str]]:
    failed: dict[str, list[str]] = {}
    denied = []
    names = _query_names()
    for name in names:
        error = await _plan_error(conn, name)
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            denied.append(name)
        elif error is not None:
            failed.setdefault(str(error.args[0]), []).append(name)
    for message, failing in failed.items():
        yield "FAILED", f"{message}: {', '.join(failing)}"
    if not failed:
        yield "ok", f"queries: all {len(names)} fit the schema"
    # Statistics of a table are for every role: to_regclass('assessment_responses') needs no right.
    on_responses = {name for name in names if " assessment_responses" in named(name).sql}
    if on_responses <= set(denied):
        yield "FAILED", "rights: this role may run no query"
    elif denied:
        yield "note", f"rights: {', '.join(denied)} are not for this role"


async def _plan_error(conn: Any, name: str) -> asyncpg.PostgresError | None:
    """Return the error of planning the query *name* on this database, if any."""
    try:
        await _plan(conn, name)
    except (asyncpg.LockNotAvailableError, asyncpg.OperatorInterventionError):
        raise  # a lock or a timeout, not the query
    except asyncpg.PostgresError as error:
        return error
    return None


async def _check_others(conn: Any) -> AsyncIterator[tuple[str, str]]:
    """Yield what others of the database can do to what the library stores and runs."""
    for trigger in await queries.cli.get_triggers(conn):
        what = f"trigger {trigger['trigger_name']} on {trigger['table_name']}"
        yield (
            "warning",
            f"{what}: a response that it changes conflicts with its retry",
        )
    creators: dict[str, list[str]] = {}
    for row in await queries.cli.get_creators(conn):
        creators.setdefault(row["schema_name"], []).append(row["role_name"])
    for schema, roles in creators.items():
        yield (
            "warning",
            f"schema {schema} is on search_path, and {', '.join(roles)} may create objects in it",
        )


def _check_settings(conn: Any, facts: Any) -> Iterator[tuple[str, str]]:
    path = facts["search_path"]
    if "pg_catalog" in path.replace(" ", "").split(",")[1:]:
        danger = "unless pg_catalog comes first, others' functions and operators can take its place"
        yield "warning", f"search_path is {path}: {danger}"
    if path.split(",")[-1].strip() != "pg_temp":
        danger = "unless it ends in pg_temp, a temporary table can take a table's place"
        yield "warning", f"search_path is {path}: {danger}"
    if facts["synchronous_commit"] == "off":
        yield "warning", "synchronous_commit is off: what was acknowledged can be lost in a crash"
    if facts["backend_pid"] != conn.get_server_pid():
        yield "note", 'a pooler stands in between: open pools with pooler="transaction"'


def _query_names() -> list[str]:
    """Return the queries that a service or a command runs: all but those of the check itself."""
    return sorted(
        name
        for name in queries.available_queries
        if not name.endswith("_cursor")
        and Path(named(name).__code__.co_filename).stem != Path(__file__).stem
    )


async def _plan(conn: Any, name: str) -> list[str]:
    """Return the lines of the generic plan."""
    arguments = ", ".join(["NULL"] * len(queries.driver_adapter.var_sorted[name]))
    async with _rolled_back(conn):
        await conn.execute(f"PREPARE assessments_plan AS {named(name).sql}")
        try:
            async with conn.transaction():
                await conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                call = f"assessments_plan ({arguments})" if arguments else "assessments_plan"
                return [line for (line,) in await conn.fetch(f"EXPLAIN EXECUTE {call}")]
        finally:
            await conn.execute("DEALLOCATE assessments_plan")


@asynccontextmanager
async def _rolled_back(conn: Any) -> AsyncIterator[None]:
    """Run a block in a savepoint and roll it back, which releases its locks."""
    savepoint = conn.transaction()
    await savepoint.start()
    try:
        yield
    finally:
        await savepoint.rollback()


async def _explain(pool: asyncpg.Pool[Any]) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(_LOCK_TIMEOUT)
        for name in _query_names():
            try:
                lines = await _plan(conn, name)
            except asyncpg.InsufficientPrivilegeError:
                lines = ["not for this role"]
            say("\n".join([f"-- {name}", *lines, ""]))
