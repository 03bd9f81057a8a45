"""What other ways to the same tables take, over the library's call.

Bare asyncpg, aiosql's own adapter and psycopg 3 run the library's SQL and make the same dicts.
SQLAlchemy and Django run what they make of their own expressions, and return their own rows or
objects: a transaction for each call with SQLAlchemy, autocommit with Django. No peer checks what it
is given, and their claims take no locks. All run in turn, on one connection each.
"""

from __future__ import annotations

import inspect
import json
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiosql
import asyncpg

import assessments
from assessments import backoffice
from assessments.queries import folder, named, queries
from benchmarks import data, measure
from benchmarks.calls import first_response, response, score, scored_response
from tests.helpers import pgbouncer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.measure import Figure, Scale

    Work = Callable[[str, Any], Awaitable[Any]]
    """Does the work of a name, with what was prepared for it."""

TITLE = "Peers on the same tables"
ABOUT = "Time of each peer over the library's call: above 1 the library is faster."

WORK = {
    "submit": 1,
    "submit, metadata": 1,
    "record_score": 1,
    "page of 20": 1,
    "page of 100": 3,
    "page of 20 with scores": 2,
    "latest of 50 questions": 2,
    "claim of 10": 2,
}
"""What is done, and by how much its turns are fewer."""
_POOLED = ("submit", "page of 20")
_TURNS = {"smallest": 2, "usual": 240, "full": 1500}
LIBRARY = "library"


def library(conn: Any) -> Work:
    """Return the library's way."""
    mine: dict[str, Any] = {"user_id": data.READER}
    owned = {"anonymous_token": uuid4(), **data.RESPONSE}
    by = {"model_id": "model-2", "prompt_version": "p2"}
    calls: dict[str, Callable[[Any], Awaitable[Any]]] = {
        "submit": lambda _: assessments.submit_response(conn, **owned),
        "submit, metadata": lambda _: assessments.submit_response(
            conn, answer_metadata=data.METADATA, **owned
        ),
        "record_score": lambda key: backoffice.record_score(
            conn, response_id=key, score_data=data.SCORE, **by
        ),
        "page of 20": lambda _: assessments.get_responses(conn, limit=20, **mine),
        "page of 100": lambda _: assessments.get_responses(conn, limit=100, **mine),
        "page of 20 with scores": lambda _: assessments.get_responses_with_latest_score(
            conn, limit=20, **mine
        ),
        "latest of 50 questions": lambda _: assessments.get_latest_responses(
            conn, question_ids=data.QUESTIONS, **mine
        ),
        "claim of 10": lambda token: assessments.claim_assessment_responses(
            conn, anonymous_token=token, user_id=data.CLAIMER
        ),
    }
    return lambda work, given: calls[work](given)


def statement(work: str, given: Any) -> tuple[str, dict[str, Any], Callable[[Any], Any]]:
    """Return the library's query for *work*, its arguments, and what makes the dict of a row."""
    mine = {"user_id": data.READER}
    owned = {"anonymous_token": _TOKEN, **data.RESPONSE}
    if work == "submit":
        return "submit_response", {**owned, "answer_metadata": "{}"}, response
    if work == "submit, metadata":
        encoded = {"answer_metadata": json.dumps(data.METADATA)}
        return "submit_response", owned | encoded, response
    if work == "record_score":
        by = {"model_id": "model-2", "prompt_version": "p2"}
        encoded = {"score_data": json.dumps(data.SCORE)}
        return "record_score", {"response_id": given, **by, **encoded}, score
    if work == "page of 20 with scores":
        page = {**mine, "max_rows": 20, "human_first": False}
        return "get_responses_with_latest_score", page, scored_response
    return "get_responses", {**mine, "max_rows": int(work.rpartition(" ")[2])}, response


_TOKEN = UUID("5ec2e700-70ce-4000-8000-00000000be4c")


class SameSql:
    """A way that runs the library's SQL: *fetch* returns the rows of a named query."""

    def __init__(self, fetch: Callable[[str, dict[str, Any]], Awaitable[list[Any]]]) -> None:
        self._fetch = fetch

    async def __call__(self, work: str, given: Any) -> Any:
        """Do *work*."""
        name, arguments, record = statement(work, given)
        return [record(row) for row in await self._fetch(name, arguments)]


def positional(name: str, arguments: dict[str, Any]) -> list[Any]:
    """Return *arguments* in the order of the query's numbers."""
    return [arguments.get(each) for each in queries.driver_adapter.var_sorted[name]]


def bare(conn: Any) -> SameSql:
    """Return asyncpg's way."""

    async def fetch(name: str, arguments: dict[str, Any]) -> list[Any]:
        rows: list[Any] = await conn.fetch(named(name).sql, *positional(name, arguments))
        return rows

    return SameSql(fetch)


def stock_aiosql(conn: Any) -> SameSql:
    """Return the way of aiosql's own adapter."""
    stock: Any = aiosql.from_path(folder("sql"), "asyncpg")

    async def fetch(name: str, arguments: dict[str, Any]) -> list[Any]:
        query = getattr(stock, name)
        every = {each: arguments.get(each) for each in queries.driver_adapter.var_sorted[name]}
        answer = query(conn, **every)
        if inspect.isasyncgen(answer):
            return [row async for row in answer]
        return [await answer]

    return SameSql(fetch)


def psycopg_3(conn: Any) -> SameSql:
    """Return the way of psycopg 3, whose raw cursor takes the same text."""

    async def fetch(name: str, arguments: dict[str, Any]) -> list[Any]:
        cursor = await conn.execute(named(name).sql, positional(name, arguments))
        rows: list[Any] = await cursor.fetchall()
        return rows

    return SameSql(fetch)


async def connect_psycopg(stack: AsyncExitStack, url: str, **options: Any) -> Any:
    """Return a connection of psycopg 3 in autocommit, with dicts for rows."""
    from psycopg import AsyncConnection, AsyncRawCursor  # noqa: PLC0415 - of the extra bench
    from psycopg.rows import dict_row  # noqa: PLC0415

    connected: Any = AsyncConnection.connect(
        url, autocommit=True, row_factory=dict_row, cursor_factory=AsyncRawCursor, **options
    )
    return await stack.enter_async_context(await connected)


async def open_ways(stack: AsyncExitStack, url: str, conn: Any) -> dict[str, Work]:
    """Return the ways, by the peer's name."""
    from benchmarks import peers_django, peers_sqlalchemy  # noqa: PLC0415 - of the extra bench

    core, orm = await peers_sqlalchemy.open_ways(stack, url)
    return {
        LIBRARY: library(conn),
        "bare asyncpg": bare(conn),
        "aiosql's adapter": stock_aiosql(conn),
        "psycopg 3": psycopg_3(await connect_psycopg(stack, url, prepare_threshold=0)),
        "SQLAlchemy Core": core,
        "SQLAlchemy ORM": orm,
        "Django": peers_django.open_way(stack, url),
    }


def can(way: Work, work: str) -> bool:
    """Return whether a way does *work*: one that runs single queries does no claim."""
    return not isinstance(way, SameSql) or work not in ("claim of 10", "latest of 50 questions")


async def measure_work(
    conn: asyncpg.Connection[Any], ways: dict[str, Work], work: str, turns: int, suffix: str = ""
) -> list[Figure]:
    """Return each peer's time over the library's."""
    count = iter(range(10**9))

    async def prepare() -> Any:
        if work == "record_score":
            return next(count) % data.OTHERS + 1
        if work != "claim of 10":
            return None
        await conn.execute(data.UNCLAIM, data.CLAIMER)
        token = uuid4()
        await conn.execute(data.STORE_ANONYMOUS, token, 10)
        return token

    able = {name: way for name, way in ways.items() if can(way, work)}
    timed = [measure.Way(name, partial(way, work), prepare) for name, way in able.items()]
    taken = dict(zip(able, await measure.interleave(timed, turns), strict=True))
    ours = taken.pop(LIBRARY)
    return [
        measure.ratio(f"{name}, {work}{suffix}", seconds, ours, note=measure.milliseconds(seconds))
        for name, seconds in taken.items()
    ]


async def run(scale: Scale) -> list[Figure]:
    """Measure every peer, on one server, directly and, where there is one, through PgBouncer."""
    turns, found = _TURNS[scale], []
    async with measure.database(data.LOAD) as (url, conn), AsyncExitStack() as stack:
        await first_response(conn)
        ways = await open_ways(stack, url, conn)
        for work, fewer in WORK.items():
            found += await measure_work(conn, ways, work, max(2, turns // fewer))
        if pgbouncer.binary():
            pooled = stack.enter_context(pgbouncer.running(url))
            plain = await asyncpg.connect(pooled, statement_cache_size=0)
            stack.push_async_callback(plain.close)
            pool = await stack.enter_async_context(
                assessments.create_pool(pooled, pooler="transaction", min_size=1, max_size=1)
            )
            ways = {
                LIBRARY: library(await stack.enter_async_context(pool.acquire())),
                "bare asyncpg": bare(plain),
                "psycopg 3": psycopg_3(
                    await connect_psycopg(stack, pooled, prepare_threshold=None)
                ),
            }
            for work in _POOLED:
                found += await measure_work(conn, ways, work, turns, ", through PgBouncer")
    return sorted(found, key=_by_peer)


_ORDER = (
    "bare asyncpg", "aiosql's adapter", "psycopg 3", "SQLAlchemy Core", "SQLAlchemy ORM", "Django",
)  # fmt: skip


def _by_peer(figure: Figure) -> int:
    return _ORDER.index(figure.name.partition(", ")[0])
