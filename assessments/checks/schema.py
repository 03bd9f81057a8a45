"""Checks of what the migrations build: are all applied, and is everything still there?"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from assessments.checks.findings import Finding
from assessments.checks.planning import query_names
from assessments.migration_files import migration_ids, read_migration
from assessments.queries import promised_indexes, queries
from assessments.transactions import rolled_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

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
_APPLY = "apply the migrations: `assessments migrate`"
_COMMENT = re.compile(r"--.*")
_CHANGE = re.compile(
    r"\b(CREATE|DROP|ALTER|ADD)?\s*(?:UNIQUE\s+)?(INDEX|CONSTRAINT)\s+(?:CONCURRENTLY\s+)?"
    r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(\w+)(?:\s+RENAME\s+TO\s+(\w+))?"
)


@cache
def _built() -> dict[str, dict[str, str]]:
    """Return what the migrations build, by kind: names, and the migration that has each."""
    built: dict[str, dict[str, str]] = {"INDEX": {}, "CONSTRAINT": {}}
    for migration in migration_ids():
        text = _COMMENT.sub("", read_migration(migration))
        for change, kind, name, new_name in _CHANGE.findall(text):
            if new_name:
                built[kind][new_name] = built[kind].pop(name, migration)
            elif change == "DROP":
                built[kind].pop(name, None)
            elif change != "ALTER":
                built[kind].setdefault(name, migration)
    return built


async def applied_migrations(conn: Any, facts: Any) -> set[str] | None:
    """Return the ids of all that yoyo has applied here, the host's too; None if unknown."""
    if not facts["may_read_migrations"]:
        return None
    async with rolled_back(conn):
        return {name for (name,) in await queries.cli.get_applied_migrations(conn)}


def check_migrations(facts: Any, tables: set[str], applied: set[str] | None) -> Finding:
    """Say which migrations are not applied."""
    if not facts["has_migrations"] and not tables:
        return Finding("migrations", "error", "migrations: none is applied", remedy=_APPLY)
    if not facts["has_migrations"]:
        message = "migrations: _yoyo_migration is not on the search_path"
        return Finding("migrations", "note", message)
    if applied is None:
        message = f"migrations: {facts['role_name']} may not read which are applied"
        return Finding("migrations", "note", message)
    expected = migration_ids()
    if pending := [name for name in expected if name not in applied]:
        behind = f"{len(pending)} of {len(expected)}"
        message = f"migrations: {behind} not applied: {', '.join(pending)}"
        return Finding("migrations", "error", message, remedy=_APPLY)
    return Finding("migrations", "ok", f"migrations: all {len(expected)} are applied")


async def check_deploy(conn: Any, facts: Any) -> AsyncIterator[Finding]:
    """Yield the lock that yoyo takes for a deploy, and leaves behind where it is killed."""
    if not facts["may_read_lock"]:
        return
    async with rolled_back(conn):
        locks = await queries.cli.get_yoyo_locks(conn)
    for lock in locks:
        held = f"deploy: yoyo_lock is held since {lock['locked_at']} UTC by process {lock['pid']}"
        if lock["deploys"]:
            message = f"{held}; a deploy is at work: session {lock['deploys']}"
            yield Finding("deploy", "note", message)
        else:
            older = lock["older_sessions"]
            left = f"its own can only be session {older}" if older else "no session is left of it"
            yield Finding(
                "deploy",
                "warning",
                f"{held}, and {left}",
                "the next `yoyo apply` waits 10 seconds and gives up",
                remedy="`yoyo break-lock`, as in docs/deploying.md#when-a-deploy-was-killed",
            )


def check_columns(columns: Any) -> Iterator[Finding]:
    """Yield the columns that have other types than the queries expect."""
    for column in columns:
        name, kind = column["column_name"], column["type_name"]
        if kind != _TYPES.get(name, kind):
            message = f"{column['table_name']}.{name} is {kind} and not {_TYPES[name]}"
            yield Finding("columns", "error", message)


async def check_objects(
    conn: Any, tables: set[str], applied: set[str] | None
) -> AsyncIterator[Finding]:
    """Yield the constraints and indexes of applied migrations that are not there, or not valid."""
    valid: dict[str, bool] = {}
    for name, is_valid in await queries.cli.get_constraints_and_indexes(conn):
        valid[name] = is_valid and valid.get(name, True)

    def lacking(kind: str) -> Iterator[tuple[str, str, str]]:
        for name, migration in _built()[kind].items():
            is_due = applied is None or migration in applied
            if is_due and not valid.get(name) and any(table in name for table in tables):
                state = "missing" if name not in valid else "not valid"
                yield name, state, f"migrations/{migration}.sql"

    for name, state, file in lacking("CONSTRAINT"):
        verb = "VALIDATE CONSTRAINT it" if state == "not valid" else "add it again"
        yield Finding(
            "constraints",
            "error",
            f"constraint {name} is {state}",
            "rows that break the rule it states can be stored, or are there",
            remedy=f"{verb}: {file}",
        )
    for name, state, file in lacking("INDEX"):
        hurt = tuple(query for query in query_names() if name in promised_indexes(query))
        again = f"REINDEX INDEX CONCURRENTLY {name}"
        yield Finding(
            "indexes",
            "warning",
            f"index {name} is {state}",
            "these queries read whole tables or more than they return" if hurt else None,
            hurt,
            again if state == "not valid" else f"build it CONCURRENTLY, as in {file}",
        )
