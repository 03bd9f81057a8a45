"""A skewed data set, the generic plan of each query on it, and what a call reads there."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from assessments.queries import folder, named, queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import asyncpg

NAMES = sorted(name for name in queries.available_queries if not name.endswith("_cursor"))


def names_in(file: str) -> set[str]:
    """Return the names of the queries in a *file* of ``sql/``, such as ``cli/report.sql``."""
    text = (folder("sql") / file).read_text(encoding="utf-8")
    prefix = "cli." if file.startswith("cli/") else ""
    return {prefix + name for name in re.findall(r"^-- name: (\w+)", text, re.MULTILINE)}


EXEMPT = {name for file in ("check", "report", "explain") for name in names_in(f"cli/{file}.sql")}
"""Queries of catalogues, and of all rows by design: no rule on indexes holds for them."""
PROMISING = sorted(set(NAMES) - EXEMPT)

# Row n of the responses has response_id n. Its owner: user 1 if n is even, else one of 1,500 users
# and one of 1,500 tokens in turn.
_DATA = """
INSERT INTO users SELECT FROM generate_series(1, 2000);
INSERT INTO assessment_responses (
    user_id, anonymous_token, submission_key, question_id, module_slug, answer_text,
    answer_metadata, created_at
)
SELECT
    CASE WHEN n % 2 = 0 THEN 1 WHEN n % 4 = 1 THEN 2 + n / 4 % 1500 END,
    CASE WHEN n % 4 = 3 THEN md5((n / 4 % 1500)::text)::uuid END,
    CASE WHEN n % 10 < 2 THEN md5('key ' || n)::uuid END,
    CASE
        WHEN n % 1000 = 0 OR n % 2 = 1 AND n <= 6000 THEN 'welcome'
        ELSE 'question-' || n * 7919 / 2 % 499
    END,
    CASE WHEN n / 2 % 10 < 7 THEN 'biology' ELSE 'module-' || n / 3 % 47 END,
    repeat('Because leaves are green. ', 8), '{"locale": "en"}',
    '2025-01-01 00:00+00'::timestamptz + n * interval '5 minutes'
FROM generate_series(1, 60000) AS n;
INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version, created_at)
SELECT r.response_id, '{"points": 3}', s.model_id, s.prompt_version, r.created_at + s.delay
FROM assessment_responses AS r
CROSS JOIN (
    VALUES ('model-1', 'p1', interval '1 minute'), (NULL, NULL, interval '1 day')
) AS s (model_id, prompt_version, delay)
WHERE r.response_id <= 59900 AND (s.model_id IS NOT NULL OR r.response_id % 10 = 0)
ORDER BY r.response_id, s.model_id;
"""
# Statistics of all rows and not of a sample, and no others later.
_STATISTICS = """
SET default_statistics_target = 300;
ALTER TABLE users SET (autovacuum_enabled = off);
ALTER TABLE assessment_responses SET (autovacuum_enabled = off);
ALTER TABLE assessment_scores SET (autovacuum_enabled = off);
"""
_TABLES = "assessment_responses, assessment_scores, users"
# The planner's own defaults, whatever the server is configured to; then what could wobble.
_SETTINGS = """
SELECT set_config(name, boot_val, FALSE) FROM pg_settings
WHERE category LIKE 'Query Tuning%' AND context = 'user' AND setting <> boot_val;
SET plan_cache_mode = force_generic_plan;
SET jit = off;
SET max_parallel_workers_per_gather = 0;
SET work_mem = '4MB';
SET hash_mem_multiplier = 2;
SET timezone = 'UTC';
"""

_FIRST = 100
"""Parameters are numbered from here on, so that PostgreSQL 15's $0 of an InitPlan is none."""


async def load(conn: asyncpg.Connection[Any]) -> None:
    """Fill the tables, which are empty, and analyse all of their rows."""
    await conn.execute(_DATA + _STATISTICS)
    await conn.execute(f"VACUUM ANALYZE {_TABLES}")


@asynccontextmanager
async def prepared(
    conn: asyncpg.Connection[Any], name: str, arguments: dict[str, str]
) -> AsyncIterator[str]:
    """Prepare the query *name* for a generic plan; yield what executes it.

    *arguments* are SQL expressions; one that is not given is null.
    """
    order = queries.driver_adapter.var_sorted[name]
    assert arguments.keys() <= set(order), arguments
    await conn.execute(_SETTINGS)
    columns = [f"({arguments.get(each, 'NULL')})::text" for each in order]
    (values,) = await conn.fetch(f"SELECT {', '.join(columns)}")
    literals = [await conn.fetchval("SELECT quote_nullable($1::text)", value) for value in values]
    call = ", ".join(["NULL"] * _FIRST + literals)
    types = ", ".join(["boolean"] * _FIRST + ["unknown"] * len(order))
    sql = re.sub(r"\$(\d+)", lambda found: f"${_FIRST + int(found[1])}", named(name).sql)
    await conn.execute(f"PREPARE plan_of ({types}) AS {sql}")
    try:
        yield f"EXECUTE plan_of ({call})"
    finally:
        await conn.execute("DEALLOCATE plan_of")


async def generic_plan(conn: asyncpg.Connection[Any], name: str) -> str:
    """Return the plan of the query *name* that PostgreSQL caches for any arguments."""
    order = queries.driver_adapter.var_sorted[name]
    async with prepared(conn, name, {}) as execute:
        plan = await _explain(conn, execute)
    return re.sub(r"\$(\d{3})", lambda found: f":{order[int(found[1]) - _FIRST - 1]}", plan)


async def _explain(conn: asyncpg.Connection[Any], execute: str) -> str:
    lines = await conn.fetch(f"EXPLAIN (COSTS OFF) {execute}")
    return "\n".join(line for (line,) in lines)


async def is_planned_anew(
    conn: asyncpg.Connection[Any], name: str, arguments: dict[str, str]
) -> bool:
    """Return whether PostgreSQL, left alone, still plans the query *name* at its seventh call."""
    async with prepared(conn, name, arguments) as execute:
        await conn.execute("SET plan_cache_mode = auto")
        for _ in range(7):  # five by a plan for the call only, then by the cheaper one
            await _explain(conn, execute)
        kept = "SELECT generic_plans = 0 FROM pg_prepared_statements WHERE name = 'plan_of'"
        return bool(await conn.fetchval(kept))


def writes(plan: str) -> bool:
    """Return whether *plan* stores, changes or deletes rows."""
    return re.search(r"\b(?:Insert|Update|Delete) on ", plan) is not None


class Call(NamedTuple):
    """What a call reads: buffers of tables and indexes, rows, and what becomes of the rows."""

    buffers: int
    rows_read: int
    rows_returned: int
    rows_sorted: int
    shape: list[tuple[str, str | None]]


# Index entries and rows of sequential scans, in this transaction.
_COUNTERS = """
SELECT
    sum(pg_stat_get_xact_blocks_fetched(oid))::bigint,
    sum(pg_stat_get_xact_tuples_returned(oid))::bigint
FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'i', 't')
"""


async def measure(conn: asyncpg.Connection[Any], name: str, arguments: dict[str, str]) -> Call:
    """Run the query *name* by its generic plan in a transaction that is rolled back."""
    async with prepared(conn, name, arguments) as execute:
        transaction = conn.transaction()
        await transaction.start()
        before = await conn.fetchrow(_COUNTERS)
        explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, FORMAT JSON)"
        shown = await conn.fetchval(f"{explain} {execute}")
        after = await conn.fetchrow(_COUNTERS)
        await transaction.rollback()
        if writes(await _explain(conn, execute)):
            await conn.execute(f"VACUUM {_TABLES}")  # of what was rolled back
    assert before
    assert after
    top = json.loads(shown)[0]["Plan"]
    nodes = list(_nodes_of(top))
    changes = top["Node Type"] == "ModifyTable" and not top["Actual Rows"]
    return Call(
        after[0] - before[0],
        after[1] - before[1],
        round(top["Plans"][-1]["Actual Rows"] if changes else top["Actual Rows"]),
        max(
            (_rows(node["Plans"][-1]) for node in nodes if node["Node Type"].endswith("Sort")),
            default=0,
        ),
        [(node["Node Type"], node.get("Index Name")) for node in nodes],
    )


def _nodes_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield *node* and every node below it."""
    yield node
    for child in node.get("Plans", []):
        yield from _nodes_of(child)


def _rows(node: dict[str, Any]) -> int:
    return int(node["Actual Rows"] * node["Actual Loops"])


async def buffers_of_a_page(conn: asyncpg.Connection[Any]) -> int:
    """Return how many buffers the newest 20 responses of user 1 touch."""
    page = await measure(conn, "get_responses", {"user_id": "1", "max_rows": "20"})
    assert page.rows_returned == 20
    return page.buffers


def indexes(plan: str) -> set[str]:
    """Return the indexes of this library's tables that *plan* uses."""
    return set(re.findall(r"\b(?:idx_assessment_\w+|assessment_\w+_pkey)\b", plan))
