"""Checks of every query on the live schema: can it run, may it, and by which indexes?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.checks.findings import Finding
from assessments.plans import Plan, plan_query
from assessments.queries import named, promised_indexes, queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# Below, a plan that reads the whole table may be the cheapest, and means nothing.
_ROWS_FOR_AN_INDEX = 10_000


def query_names() -> list[str]:
    """Return the queries that a service or a command runs: all but those of the check itself."""
    return sorted(
        name
        for name in queries.available_queries
        if not name.endswith("_cursor") and Path(named(name).__code__.co_filename).stem != "check"
    )


async def check_queries(conn: Any) -> AsyncIterator[Finding]:
    """Plan every query; yield which cannot run, which this role may not, and unused indexes."""
    results = {name: await _plan(conn, name) for name in query_names()}
    denied = [n for n, r in results.items() if isinstance(r, asyncpg.InsufficientPrivilegeError)]
    plans = {name: result for name, result in results.items() if isinstance(result, Plan)}
    unplanned = [name for name, result in results.items() if result is None]
    failed: dict[str, list[str]] = {}
    for name, result in results.items():
        if isinstance(result, asyncpg.PostgresError) and name not in denied:
            failed.setdefault(str(result.args[0]), []).append(name)
    for message, failing in failed.items():
        effect = "calls that run them fail"
        yield Finding("queries", "error", f"queries: {message}", effect, tuple(failing))
    if not failed:
        yield Finding("queries", "ok", f"queries: all {len(results)} fit the schema")
    if unplanned:
        message = f"queries: {len(unplanned)} have no generic plan on this server"
        yield Finding("plans", "note", message, queries=tuple(unplanned))
    for finding in _check_rights(denied):
        yield finding
    for facts in await queries.cli.get_table_facts(conn):
        if facts["row_estimate"] >= _ROWS_FOR_AN_INDEX:
            for finding in _check_promises(plans, facts["table_name"], facts["index_names"]):
                yield finding


async def _plan(conn: Any, name: str) -> Plan | asyncpg.PostgresError | None:
    """Return the plan of the query *name*, or the error of planning it on this database."""
    try:
        return await plan_query(conn, name, with_text=False)
    except (
        asyncpg.LockNotAvailableError,
        asyncpg.OperatorInterventionError,
        asyncpg.PostgresConnectionError,
    ):
        raise  # a lock, a timeout or the connection, not the query
    except asyncpg.PostgresError as error:
        return error


def _check_rights(denied: list[str]) -> Iterator[Finding]:
    # Statistics of a table are for every role: to_regclass('assessment_responses') needs no right.
    on_responses = {name for name in query_names() if " assessment_responses" in named(name).sql}
    remedy = "grant them, where this role is to run them: docs/reviewing.md#rights"
    if on_responses <= set(denied):
        yield Finding("rights", "error", "rights: this role may run no query", remedy=remedy)
    elif denied:
        message = f"rights: {len(denied)} queries are not for this role"
        yield Finding("rights", "note", message, queries=tuple(denied), remedy=remedy)


def _check_promises(plans: dict[str, Plan], table: str, valid: list[str]) -> Iterator[Finding]:
    """Yield the valid indexes of a large *table* that are promised, and not in the plans."""
    for index in sorted(valid):
        unkept = [
            name
            for name, plan in plans.items()
            if index in promised_indexes(name) and index not in plan.indexes
        ]
        if unkept:
            yield Finding(
                "plans",
                "note",
                f"plans: index {index} is promised and not used",
                f"it is slower, unless few rows of {table} are worth an index here",
                tuple(unkept),
                f"ANALYZE {table}, then `assessments explain {unkept[0]}`",
            )
