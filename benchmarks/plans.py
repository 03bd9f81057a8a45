"""The generic plan of every query on a million rows.

Loads tables of a realistic shape (users with a median of some ten responses, one with 50,000, a
third of all rows anonymous, a score for nearly every response), forces generic plans, runs each
query with typical arguments, and prints the time, the buffers, the indexes and the sorts.

    python benchmarks/plans.py [ROWS] [--full]      --full prints the plans themselves
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter
from typing import Any

import asyncpg

from assessments.queries import queries
from assessments.testing import migrations, server

ROWS = 1_000_000
HEAVY = 50_000
"""Responses of the heaviest user, who has user_id 1."""
UNSCORED = 100
"""The newest responses, not yet scored."""

LOAD = f"""
INSERT INTO users SELECT FROM generate_series(1, $1 / 20);
INSERT INTO assessment_responses
    (user_id, anonymous_token, question_id, module_slug, answer_text, answer_metadata, created_at)
SELECT
    CASE
        WHEN n % ($1 / {HEAVY}) = 0 THEN 1
        WHEN n % 3 > 0 THEN 2 + (power(random(), 2) * ($1 / 20 - 3))::int
    END,
    CASE WHEN n % ($1 / {HEAVY}) > 0 AND n % 3 = 0 THEN md5((n % ($1 / 12))::text)::uuid END,
    'question-' || (random() * 500)::int, 'module-' || (random() * 50)::int,
    repeat('Because leaves are green. ', 8), '{{"locale": "en"}}',
    now() - ($1 - n) * interval '1 minute'
FROM generate_series(1, $1) AS n;
INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version)
SELECT response_id, '{{"points": 3}}', 'model-1', 'p1' FROM assessment_responses
WHERE response_id <= $1 - {UNSCORED} ORDER BY response_id;
"""
ANONYMOUS = "md5('7')::uuid"
TWENTY = "ARRAY[" + ", ".join(f"'question-{n}'" for n in range(1, 21)) + "]"

CASES: list[tuple[str, str, dict[str, str]]] = [
    ("a page of the heaviest user", "get_responses", {"user_id": "1", "max_rows": "20"}),
    (
        "a page of both owners",
        "get_responses",
        {"user_id": "77", "anonymous_token": ANONYMOUS, "max_rows": "20"},
    ),
    ("one question", "get_responses_for_question", {"user_id": "1", "question_id": "'question-7'"}),
    (
        "a page with scores, heaviest user",
        "get_responses_with_latest_score",
        {"user_id": "1", "max_rows": "20"},
    ),
    (
        "latest of 20 questions, heaviest user",
        "get_latest_responses",
        {
            "user_id": "1",
            "anonymous_token": ANONYMOUS,
            "question_ids": TWENTY,
        },
    ),
    (
        "latest of 20 questions, usual user",
        "get_latest_responses",
        {
            "user_id": "77",
            "anonymous_token": ANONYMOUS,
            "question_ids": TWENTY,
        },
    ),
    ("latest of all, usual user", "get_latest_responses", {"user_id": "77"}),
    ("latest of all, anonymous owner", "get_latest_responses", {"anonymous_token": ANONYMOUS}),
    ("latest of all, heaviest user", "get_latest_responses", {"user_id": "1"}),
    (
        "latest of a module, heaviest user",
        "get_latest_responses",
        {"user_id": "1", "module_slug": "'module-7'"},
    ),
    (
        "backlog from its cursor",
        "get_unscored_responses",
        {"after_response_id": "{rows} - 200", "max_rows": "100"},
    ),
    ("backlog from the beginning", "get_unscored_responses", {"max_rows": "100"}),
    (
        "backlog of another prompt",
        "get_unscored_responses",
        {"model_id": "'model-1'", "prompt_version": "'p2'", "max_rows": "100"},
    ),
    (
        "backlog of another prompt, latest attempts of users and anonymous owners",
        "get_unscored_responses",
        {
            "model_id": "'model-1'",
            "prompt_version": "'p2'",
            "latest_attempts_only": "TRUE",
            "skip_human_scored": "TRUE",
            "max_rows": "100",
        },
    ),
    (
        "backlog by model and prompt, from the beginning",
        "get_unscored_responses",
        {"model_id": "'model-1'", "prompt_version": "'p1'", "max_rows": "100"},
    ),
    (
        "a batch of all responses",
        "iter_responses",
        {"after_response_id": "{rows} / 2", "max_rows": "1000"},
    ),
    (
        "a batch of the heaviest user's",
        "iter_owner_responses",
        {"user_id": "1", "after_response_id": "{rows} / 2", "max_rows": "1000"},
    ),
    (
        "a batch of all responses with scores",
        "iter_responses_with_scores",
        {"after_response_id": "{rows} / 2", "max_rows": "1000"},
    ),
    (
        "a batch of the heaviest user's with scores",
        "iter_owner_responses_with_scores",
        {"user_id": "1", "after_response_id": "{rows} / 2", "max_rows": "1000"},
    ),
    (
        "a scored test of 20 questions, heaviest user",
        "get_latest_responses_with_latest_score",
        {"user_id": "1", "question_ids": TWENTY, "human_first": "TRUE"},
    ),
    ("scores of one response", "get_scores", {"response_id": "7", "user_id": "1"}),
    (
        "claim of a token",
        "claim_assessment_responses",
        {"anonymous_token": ANONYMOUS, "user_id": "1", "skip_answered": "TRUE"},
    ),
    ("dry run of a purge", "count_anonymous_responses", {"older_than": "interval '1 day'"}),
    (
        "purge of 10,000",
        "purge_anonymous_responses",
        {"older_than": "interval '1 day'", "max_rows": "10000"},
    ),
    ("erasure of an anonymous owner", "delete_responses", {"anonymous_token": ANONYMOUS}),
    ("erasure of the heaviest user", "delete_responses", {"user_id": "1"}),
]


async def main(rows: int, *, full: bool) -> None:
    """Load *rows* responses and print a line for each case."""
    with server.running() as url:
        migrations.apply(url)
        conn = await asyncpg.connect(url)
        started = perf_counter()
        for statement in LOAD.split(";\n")[:-1]:
            await conn.execute(statement.replace("$1", str(rows)))
        await conn.execute("VACUUM ANALYZE")
        loaded = perf_counter() - started
        print(
            f"PostgreSQL {conn.get_server_version().major}, {rows:,} responses in {loaded:.0f} s\n"
        )
        await conn.execute(
            "SET plan_cache_mode = force_generic_plan; SET jit = off; SET statement_timeout = '60s'"
        )
        for title, name, arguments in CASES:
            await show(conn, title, name, arguments, rows, full=full)
        await conn.close()


async def show(
    conn: asyncpg.Connection[Any],
    title: str,
    name: str,
    arguments: dict[str, str],
    rows: int,
    *,
    full: bool,
) -> None:
    """Run the query *name* twice, take the second, roll back, and print its figures."""
    query = getattr(queries, name)
    await conn.execute(f"DEALLOCATE ALL; PREPARE {name} AS {query.sql}")
    order = queries.driver_adapter.var_sorted[name]
    values = ", ".join([arguments.get(each, "NULL").replace("{rows}", str(rows)) for each in order])
    for _ in range(2):
        transaction = conn.transaction()
        await transaction.start()
        (answer,) = await conn.fetchrow(  # type: ignore[misc]
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name} ({values})"
        )
        await transaction.rollback()
    plan = json.loads(answer)[0]
    top, nodes = plan["Plan"], list(nodes_of(plan["Plan"]))
    indexes = sorted({node["Index Name"] for node in nodes if "Index Name" in node})
    sorts = [
        f"{sum(child['Actual Rows'] for child in node['Plans']):.0f} -> {node['Actual Rows']:.0f}"
        for node in nodes
        if node["Node Type"].endswith("Sort")
    ]
    scans = sorted({node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"})
    buffers = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    taken, rows_returned = plan["Execution Time"], top["Actual Rows"]
    print(f"{title}: {taken:.2f} ms, {buffers:,} buffers, {rows_returned:.0f} rows")
    print(f"    {name}: {', '.join(indexes)}")
    if sorts or scans:
        print(f"    sorts {'; '.join(sorts) or 'nothing'}; scans {', '.join(scans) or 'no table'}")
    if full:
        print(json.dumps(top, indent=1))


def nodes_of(node: dict[str, Any]) -> Any:
    """Yield *node* and every node below it."""
    yield node
    for child in node.get("Plans", []):
        yield from nodes_of(child)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    asyncio.run(main(numbers[0] if numbers else ROWS, full="--full" in sys.argv))
