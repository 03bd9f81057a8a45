"""What each function takes as the tables grow: every filter, a usual owner and the heaviest one.

One database for each size, all on one server; a call runs in turn on each. Every owner has the same
rows in each database, and the rest is others'. Plans are generic, as PostgreSQL caches them for any
arguments. A ratio is the time at the largest size over that at the smallest; notes have all sizes.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from datetime import datetime, timedelta, timezone
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

import assessments
from assessments import backoffice
from assessments.testing import migrations, server
from benchmarks import data, measure
from benchmarks.calls import finished

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measure import Figure, Scale

TITLE = "Growth"
ABOUT = "Time on the largest tables over that on the smallest, under generic plans."

_SIZES = {
    "smallest": (1_000, 2_000),
    "usual": (10_000, 100_000, 1_000_000),
    "full": (10_000, 100_000, 1_000_000, 10_000_000),
}
_TURNS = {"smallest": 1, "usual": 9, "full": 15}
_HEAVY_ROWS = {"smallest": 200, "usual": 20_000, "full": 50_000}
_USUAL, _HEAVY = 1, 2
_TOKEN, _HEAVY_TOKEN = UUID(int=1), UUID(int=2)
_OWNERS: dict[str, dict[str, Any]] = {
    "a user": {"user_id": _USUAL},
    "the heaviest user": {"user_id": _HEAVY},
    "the heaviest anonymous": {"anonymous_token": _HEAVY_TOKEN},
}
_SLOW_TURNS = 3

# The owners' rows are spread over the same questions and modules as everybody's.
_FILL = f"""
INSERT INTO assessment_responses
    (user_id, anonymous_token, question_id, module_slug, answer_text, created_at)
SELECT
    CASE WHEN n % 3 > 0 THEN 10 + n % {data.USERS - 10} END,
    CASE WHEN n % 3 = 0 THEN md5((n / 30)::text)::uuid END,
    'question-' || n % 500, 'module-' || n % 50, 'Because leaves are green.',
    now() - n * interval '1 second'
FROM generate_series(1, $1::int) AS n
"""
_FILL_OWNER = """
INSERT INTO assessment_responses
    (user_id, anonymous_token, question_id, module_slug, answer_text, created_at)
SELECT
    $1::bigint, $2::uuid, 'question-' || n % 500, 'module-' || n % 50,
    'Because leaves are green.', now() - n * interval '7 seconds'
FROM generate_series(1, $3::int) AS n
"""
_SCORE = """
INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version)
SELECT response_id, '{"points": 3}', 'model-1', 'p1' FROM assessment_responses
ORDER BY response_id
"""


async def fill(conn: asyncpg.Connection[Any], rows: int, heavy: int) -> None:
    """Store *rows* responses of others and those of the owners, all scored."""
    await conn.execute(f"INSERT INTO users SELECT FROM generate_series(1, {data.USERS})")
    await conn.execute(_FILL, rows)
    for user, token, count in (
        (_USUAL, None, 100),
        (None, _TOKEN, 100),
        (_HEAVY, None, heavy),
        (None, _HEAVY_TOKEN, heavy),
    ):
        await conn.execute(_FILL_OWNER, user, token, count)
    await conn.execute(_SCORE)
    await conn.execute("VACUUM ANALYZE")
    await conn.execute("SET plan_cache_mode = force_generic_plan")


async def open_databases(
    stack: AsyncExitStack, sizes: tuple[int, ...], heavy: int
) -> list[asyncpg.Connection[Any]]:
    """Return a connection to a filled database of each size."""
    url = stack.enter_context(server.running())
    first = await asyncpg.connect(url)
    opened = []
    for size in sizes:
        await first.execute(f"CREATE DATABASE rows_{size}")
        created = urlsplit(url)._replace(path=f"/rows_{size}").geturl()
        await asyncio.to_thread(migrations.apply, created)
        conn = await asyncpg.connect(created)
        stack.push_async_callback(conn.close)
        await fill(conn, size, heavy)
        opened.append(conn)
    await first.close()
    return opened


def owner_calls(owner: dict[str, Any]) -> dict[str, Callable[[Any], Any]]:
    """Return the reads of an owner's responses, in each combination of their filters."""
    found: dict[str, Callable[[Any], Any]] = {}
    module: dict[str, Any] = {"module_slug": "module-7"}
    question: dict[str, Any] = {"question_id": "question-7"}
    filters: dict[str, dict[str, Any]] = {"": {}, " by module": module, " by question": question}
    filters[" by both"] = module | question
    pages: dict[str, Any] = {
        "page of 20": assessments.get_responses,
        "page of 20 with scores": assessments.get_responses_with_latest_score,
    }
    latest: dict[str, Any] = {
        "latest": assessments.get_latest_responses,
        "latest with scores": assessments.get_latest_responses_with_latest_score,
    }
    for (name, get), (by, given) in itertools.product(pages.items(), filters.items()):
        found[name + by] = partial(get, limit=20, **owner, **given)
    for name, get in latest.items():
        asked = {" of 20 questions": {"question_ids": data.QUESTIONS[:20]}, " by module": module}
        for by, given in ({"": {}} | asked).items():
            found[name + by] = partial(get, **owner, **given)
    found["for a question"] = partial(
        assessments.get_responses_for_question, question_id="question-7", **owner
    )
    walks: dict[str, Any] = {
        "batch of a walk": backoffice.iter_responses,
        "batch of a walk with scores": backoffice.iter_responses_with_scores,
    }
    for (name, walk), (by, given) in itertools.product(walks.items(), filters.items()):
        found[name + by] = partial(first_rows, walk, owner | given)
    return found


async def first_rows(walk: Any, given: dict[str, Any], conn: Any) -> list[Any]:
    """Return the first batch of a walk that is at most a day back, to begin inside."""
    since = datetime.now(timezone.utc) - timedelta(days=1)
    found = []
    rows = walk(conn, since=since, batch_size=100, **given)
    async for row in rows:
        found.append(row)
        if len(found) == 100:  # noqa: PLR2004 - the batch
            break
    await rows.aclose()
    return found


def everybodys_calls() -> dict[str, Callable[[Any], Any]]:
    """Return the writes, and what the service does whoever owns the rows."""
    module: dict[str, Any] = {"module_slug": "module-7"}
    question: dict[str, Any] = {"question_id": "question-7"}

    async def submit(conn: Any) -> Any:
        return await assessments.submit_response(conn, user_id=_USUAL, **data.RESPONSE)

    async def claim(conn: Any) -> Any:
        return await assessments.claim_assessment_responses(conn, anonymous_token=_TOKEN, user_id=3)

    return {
        "submit_response": submit,
        "record_score": partial(
            backoffice.record_score, response_id=7, score_data=data.SCORE, model_id="m"
        ),
        "claim of 100": claim,
        "purge, nothing expired": partial(
            backoffice.purge_anonymous_responses, older_than=timedelta(days=3650)
        ),
        "purge of all owners, nothing expired": partial(
            backoffice.purge_responses, older_than=timedelta(days=3650)
        ),
        "100 of a new model": partial(backoffice.get_unscored_responses, model_id="none"),
        "unscored of a scored table": backoffice.get_unscored_responses,
        "unscored of a scored table by module": partial(
            backoffice.get_unscored_responses, **module
        ),
        "unscored of a scored table by question": partial(
            backoffice.get_unscored_responses, **question
        ),
    }


async def measure_call(
    conns: list[asyncpg.Connection[Any]], name: str, call: Callable[[Any], Any], turns: int
) -> Figure:
    """Return the time at the largest size over that at the smallest; all is rolled back."""
    taken: list[list[float]] = [[] for _ in conns]
    for turn in range(-1, turns):
        for index, conn in enumerate(conns):
            transaction = conn.transaction()
            await transaction.start()
            begun = perf_counter()
            await finished(call(conn))
            seconds = perf_counter() - begun
            await transaction.rollback()
            if turn >= 0:
                taken[index].append(seconds)
    note = " / ".join(measure.milliseconds(times).removesuffix(" ms") for times in taken) + " ms"
    return measure.ratio(name, taken[-1], taken[0], note=note)


async def run(scale: Scale) -> list[Figure]:
    """Measure every function and filter on every size."""
    turns = _TURNS[scale]
    async with AsyncExitStack() as stack:
        conns = await open_databases(stack, _SIZES[scale], _HEAVY_ROWS[scale])
        calls = everybodys_calls()
        for owner, given in _OWNERS.items():
            calls |= {f"{name}, {owner}": call for name, call in owner_calls(given).items()}
        return [
            await measure_call(
                conns, name, call, min(turns, _SLOW_TURNS) if "unscored" in name else turns
            )
            for name, call in calls.items()
        ]
