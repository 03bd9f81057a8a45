"""What a read of several things takes in calls of one, and in the one call that is made for it.

On an embedded PostgreSQL with 50,000 scored responses of others, the ways to read the same run in
turn on one connection, under generic plans: statements sent, rows fetched from both tables
(PostgreSQL's own counters), and the median of the milliseconds, also as a multiple of the last way,
which is the one to use.

    python benchmarks/reads.py
"""

from __future__ import annotations

import asyncio
import statistics
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

import assessments
from assessments import backoffice
from assessments.queries import queries
from assessments.testing import migrations, server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

QUESTIONS, ATTEMPTS = 40, 20
TAKER, WRITER = 1, 2
WRITTEN = 2_000
OTHERS = 50_000
EARLY = 500
"""The oldest responses of the others are all there is of the module ``early``."""

LOAD = f"""
INSERT INTO users SELECT FROM generate_series(1, 1000);
INSERT INTO assessment_responses (user_id, question_id, module_slug, answer_text)
SELECT
    3 + n % 998, 'question-' || n % 500, CASE WHEN n <= {EARLY} THEN 'early' ELSE 'biology' END,
    repeat('Because leaves are green. ', 8)
FROM generate_series(1, {OTHERS}) AS n;
INSERT INTO assessment_responses (user_id, question_id, module_slug, answer_text, created_at)
SELECT
    {TAKER}, 'question-' || n % {QUESTIONS}, 'biology', repeat('Because leaves are green. ', 8),
    now() + n * interval '1 minute'
FROM generate_series(1, {QUESTIONS * ATTEMPTS}) AS n;
INSERT INTO assessment_responses (user_id, question_id, module_slug, answer_text)
SELECT {WRITER}, 'question-' || n, 'biology', repeat('Because leaves are green. ', 8)
FROM generate_series(1, {WRITTEN}) AS n;
INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version)
SELECT response_id, '{{"points": 3}}', 'model-1', 'p1' FROM assessment_responses
ORDER BY response_id;
"""
FETCHED = """
SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
FROM pg_stat_xact_user_tables
WHERE relname LIKE 'assessment_%'
"""


class Way(NamedTuple):
    """One way to read, and what it is called in the table."""

    title: str
    read: Callable[[Any], Awaitable[Any]]


class Case(NamedTuple):
    """What is read, in how many turns, and the ways to do it; the last is the one to use."""

    title: str
    turns: int
    ways: list[Way]


async def latest_then_scores(conn: Any) -> list[Any]:
    """Return the newest response to each question, and ask for the scores of each."""
    rows = await assessments.get_latest_responses(conn, user_id=TAKER)
    return [
        (row["response_id"], first_id(await scores_of(conn, row["response_id"], TAKER)))
        for row in rows
    ]


async def every_attempt(conn: Any) -> list[Any]:
    """Return the newest response to each question, out of all attempts with their scores."""
    rows = await assessments.get_responses_with_latest_score(conn, user_id=TAKER)
    newest: dict[str, Any] = {}
    for row in rows:
        newest.setdefault(row["question_id"], row)
    return [ids_of(row) for row in newest.values()]


async def latest_with_scores(conn: Any) -> list[Any]:
    """Return the same from the call that is made for it."""
    rows = await assessments.get_latest_responses_with_latest_score(conn, user_id=TAKER)
    return [ids_of(row) for row in rows]


async def walk_then_scores(conn: Any) -> list[Any]:
    """Return a user's responses, and ask for the scores of each."""
    return [
        (row["response_id"], first_id(await scores_of(conn, row["response_id"], WRITER)))
        async for row in backoffice.iter_responses(conn, user_id=WRITER)
    ]


async def walk_with_scores(conn: Any) -> list[Any]:
    """Return the same from the iteration that is made for it."""
    return [
        (row["response_id"], first_id(row["scores"]))
        async for row in backoffice.iter_responses_with_scores(conn, user_id=WRITER)
    ]


async def backlog_of_one(conn: Any) -> list[Any]:
    """Return a response as the backlog of a model that has scored nothing; nobody owns it."""
    return await backoffice.get_unscored_responses(
        conn, model_id="no-such-model", after=OTHERS, up_to=OTHERS + 1
    )


async def one_by_id(conn: Any) -> list[Any]:
    """Return a response by its id, if the owner is right."""
    return [await assessments.get_response(conn, response_id=OTHERS + 1, user_id=TAKER)]


async def early_and_again(conn: Any) -> list[Any]:
    """Return a module's responses, and ask once more after the last batch."""
    rows = await early(conn)
    after = {"after_response_id": rows[-1], "max_rows": 1000}
    unbounded = dict.fromkeys(("question_id", "since", "until"))
    again = await queries.iter_responses(conn, module_slug="early", **unbounded, **after)
    return [*rows, *again]


async def early(conn: Any) -> list[Any]:
    """Return a module's responses; the last batch is short and so ends the iteration."""
    return [
        row["response_id"] async for row in backoffice.iter_responses(conn, module_slug="early")
    ]


async def scores_of(conn: Any, response_id: int, user_id: int) -> list[Any]:
    """Return the scores of one response."""
    return await assessments.get_scores(conn, response_id=response_id, user_id=user_id)


def first_id(scores: list[Any]) -> Any:
    """Return the id of the newest of *scores*."""
    return scores[0]["score_id"] if scores else None


def ids_of(row: Any) -> tuple[int, Any]:
    """Return the ids of a response and of its newest score."""
    return row["response_id"], first_id([row["latest_score"]] if row["latest_score"] else [])


CASES = [
    Case(
        f"a scored test: the newest of {ATTEMPTS} responses to each of {QUESTIONS} questions",
        30,
        [
            Way("get_latest_responses, get_scores for each", latest_then_scores),
            Way("get_responses_with_latest_score, then pick", every_attempt),
            Way("get_latest_responses_with_latest_score", latest_with_scores),
        ],
    ),
    Case(
        f"{WRITTEN:,} responses, each with its scores",
        3,
        [
            Way("iter_responses, get_scores for each", walk_then_scores),
            Way("iter_responses_with_scores", walk_with_scores),
        ],
    ),
    Case(
        "one response by its id",
        300,
        [
            Way("get_unscored_responses of no model", backlog_of_one),
            Way("get_response", one_by_id),
        ],
    ),
    Case(
        f"a module whose {EARLY} responses are the oldest of {OTHERS + WRITTEN:,}",
        5,
        [
            Way("iter_responses, asking after a short batch", early_and_again),
            Way("iter_responses", early),
        ],
    ),
]


async def main() -> None:
    """Load the tables and print the table of all cases."""
    with server.running() as url:
        migrations.apply(url)
        conn = await asyncpg.connect(url)
        await conn.execute(LOAD)
        await conn.execute("VACUUM ANALYZE")
        await conn.execute("SET plan_cache_mode = force_generic_plan")
        print(f"{'':46}{'statements':>10}{'rows':>9}{'ms':>8}{'ratio':>7}")
        for case in CASES:
            await show(conn, case)
        await conn.close()


async def show(conn: asyncpg.Connection[Any], case: Case) -> None:
    """Run the ways of *case* in turn, and print a line for each."""
    print(case.title)
    counts = [await count(conn, way) for way in case.ways]
    taken: list[list[float]] = [[] for _ in case.ways]
    for _ in range(case.turns):
        for way, times in zip(case.ways, taken, strict=True):
            start = perf_counter()
            await way.read(conn)
            times.append((perf_counter() - start) * 1000)
    medians = [statistics.median(times) for times in taken]
    for way, (sent, fetched, _), median in zip(case.ways, counts, medians, strict=True):
        print(f"  {way.title:44}{sent:10,}{fetched:9,}{median:8.2f}{median / medians[-1]:7.1f}")
    if any(found != counts[0][2] for _, _, found in counts):
        raise SystemExit("the ways do not return the same")


async def count(conn: asyncpg.Connection[Any], way: Way) -> tuple[int, int, Any]:
    """Return how many statements *way* sends, how many rows these fetch, and what it returns."""
    sent: list[str] = []
    transaction = conn.transaction()
    await transaction.start()
    try:
        before = await conn.fetchval(FETCHED)
        with conn.query_logger(lambda record: sent.append(record.query)):
            found = await way.read(conn)
            for _ in range(3):  # asyncpg reports a query one turn of the event loop after it ends
                await asyncio.sleep(0)
        return len(sent), await conn.fetchval(FETCHED) - before, found
    finally:
        await transaction.rollback()


if __name__ == "__main__":
    asyncio.run(main())
