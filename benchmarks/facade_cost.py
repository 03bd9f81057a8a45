"""What a call of the facade costs over the same SQL through bare asyncpg.

Two measurements in one run, in microseconds a call:

1. On a real connection to an embedded PostgreSQL, three ways run the same text in turn, call by
   call, so that the machine's drift affects all of them alike: bare ``Connection.fetch``, aiosql
   with its own asyncpg adapter, and this library, which also validates, decodes JSON and makes
   dicts. What a way adds is the median of its differences to bare within one turn.
2. The library's own work: the same calls on a stand-in that returns at once the very rows that
   PostgreSQL returned. Nothing waits, so this figure is steady where the first one is not.

    python benchmarks/facade_cost.py [TURNS]
"""

from __future__ import annotations

import asyncio
import inspect
import statistics
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import aiosql
import asyncpg

import assessments
from assessments import backoffice
from assessments.queries import folder, queries
from assessments.testing import migrations, server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TURNS = 3000
WARM_UP = 100
ANSWER: dict[str, Any] = {
    "question_id": "photosynthesis-why-green",
    "module_slug": "plant-biology",
    "answer_text": "Leaves look green because chlorophyll absorbs mostly red and blue. " * 5,
}
METADATA = {"locale": "en", "seconds": 184, "client": {"version": "7.1.0"}}
SCORE = {"points": 4, "of": 5, "feedback": "Say why.", "rubric": {"clear": 2, "whole": 2}}


class Case(NamedTuple):
    """One call, three ways: the facade, and the query with the arguments that it takes."""

    title: str
    facade: Callable[[Any], Awaitable[Any]]
    query: str
    arguments: dict[str, Any]


class Replay:
    """A connection that returns at once what a real one returned."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    async def fetch(self, *_: Any) -> list[Any]:
        """Return all rows."""
        return self.rows

    async def fetchrow(self, *_: Any) -> Any:
        """Return the first row."""
        return self.rows[0]


async def main(turns: int) -> None:
    """Measure each case and print a row for it."""
    with server.running() as url:
        migrations.apply(url)
        conn = await asyncpg.connect(url)
        print(f"PostgreSQL {conn.get_server_version().major}, {turns} turns, microseconds a call\n")
        print(f"{'':30}{'bare':>9}{'aiosql adds':>14}{'facade adds':>14}{'own work':>11}")
        for case in await cases(conn):
            bare, stock, facade, own = await measure(ways(conn, case), turns)
            added = [
                statistics.median(b - a for a, b in zip(bare, other, strict=True)) / 1000
                for other in (stock, facade)
            ]
            base, alone = statistics.median(bare) / 1000, statistics.median(own) / 1000
            print(f"{case.title:30}{base:9.1f}{added[0]:14.1f}{added[1]:14.1f}{alone:11.1f}")
        await conn.close()


def ways(conn: asyncpg.Connection[Any], case: Case) -> list[Callable[[], Awaitable[Any]]]:
    """Return the four ways to make the call: bare, aiosql's own, the facade, the facade alone."""
    stock = getattr(aiosql.from_path(folder("sql"), "asyncpg"), case.query)
    text = getattr(queries, case.query).sql
    names = queries.driver_adapter.var_sorted[case.query]
    every = {name: case.arguments.get(name) for name in names}
    replay = Replay([])

    async def bare() -> None:
        replay.rows = await conn.fetch(text, *every.values())

    async def through_aiosql() -> Any:
        answer = stock(conn, **every)
        return [row async for row in answer] if inspect.isasyncgen(answer) else await answer

    return [bare, through_aiosql, lambda: case.facade(conn), lambda: case.facade(replay)]


async def measure(calls: list[Callable[[], Awaitable[Any]]], turns: int) -> list[list[int]]:
    """Return the nanoseconds of each call, way by way."""
    taken: list[list[int]] = [[] for _ in calls]
    for _ in range(turns + WARM_UP):
        for index, call in enumerate(calls):
            start = perf_counter_ns()
            await call()
            taken[index].append(perf_counter_ns() - start)
    return [each[WARM_UP:] for each in taken]


async def cases(conn: asyncpg.Connection[Any]) -> list[Case]:
    """Return the calls to measure, with the rows that they need in place."""
    token, mine = uuid4(), uuid4()
    async with conn.transaction():
        for _ in range(40):
            stored = await assessments.submit_response(
                conn, anonymous_token=mine, answer_metadata=METADATA, **ANSWER
            )
    key = stored["response_id"]
    await backoffice.record_score(conn, response_id=key, score_data=SCORE)
    submitted = {"anonymous_token": token, **ANSWER}
    listed = {"anonymous_token": mine, "max_rows": 1}
    return [
        Case(
            "submit_response",
            lambda on: assessments.submit_response(on, anonymous_token=token, **ANSWER),
            "submit_response",
            {**submitted, "answer_metadata": "{}"},
        ),
        Case(
            "submit_response, metadata",
            lambda on: assessments.submit_response(
                on, anonymous_token=token, answer_metadata=METADATA, **ANSWER
            ),
            "submit_response",
            {**submitted, "answer_metadata": '{"locale":"en","seconds":184,"client":{"v":"7"}}'},
        ),
        Case(
            "submit_response, key",
            lambda on: assessments.submit_response(
                on, anonymous_token=token, submission_key=uuid4(), **ANSWER
            ),
            "submit_response",
            {**submitted, "answer_metadata": "{}"},
        ),
        Case(
            "get_responses, 1 row",
            lambda on: assessments.get_responses(on, anonymous_token=mine, limit=1),
            "get_responses",
            listed,
        ),
        Case(
            "get_responses, 20 rows",
            lambda on: assessments.get_responses(on, anonymous_token=mine, limit=20),
            "get_responses",
            {**listed, "max_rows": 20},
        ),
        Case(
            "get_scores, 1 row",
            lambda on: assessments.get_scores(on, response_id=key, anonymous_token=mine),
            "get_scores",
            {"response_id": key, "anonymous_token": mine},
        ),
        Case(
            "record_score",
            lambda on: backoffice.record_score(on, response_id=key - 1, score_data=SCORE),
            "record_score",
            {"response_id": key - 1, "score_data": '{"points": 4, "of": 5, "feedback": "Why?"}'},
        ),
    ]


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else TURNS))
