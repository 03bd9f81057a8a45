"""What a call of each public function costs over bare asyncpg.

The bare way sends the very statements that the function sent, with their arguments in place, writes
JSON by ``json.dumps``, and makes the same dicts with the same JSON decoder. It checks nothing and
translates no error. Both run in turn on one connection to an embedded PostgreSQL.
"""

from __future__ import annotations

import inspect
import itertools
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import asyncpg

import assessments
from assessments import backoffice
from assessments.queries import named, queries
from benchmarks import data, measure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.measure import Figure, Scale

TITLE = "Every public function"
ABOUT = "Time of the library's call over bare asyncpg with the same SQL, dicts and decoder."

_TURNS = {"smallest": 2, "usual": 400, "full": 3000}
_AGES = timedelta(days=3650)
_STORE_OLD = """
INSERT INTO assessment_responses
    (anonymous_token, question_id, module_slug, answer_text, created_at)
SELECT $1::uuid, 'question-' || n, 'biology', 'Because.', now() - interval '11 years'
FROM generate_series(1, $2::int) AS n
"""
_decode: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # as the library has it


class Case(NamedTuple):
    """A call, by the library and bare."""

    name: str
    call: Callable[[Any, Any], Any]
    """Takes the connection, and what *prepare* returned."""
    record: Callable[[Any], Any] = lambda row: row
    """Makes the library's dict of a row, as the bare way does it."""
    prepare: Callable[[], Awaitable[Any]] | None = None
    encoded: Any = None
    """The object that both ways write as JSON in each call."""
    bare: Callable[[Any], Awaitable[Any]] | None = None
    """The bare way, where it is not to send what the library sent."""
    fewer: int = 1
    """By how much its turns are fewer."""


def response(row: Any) -> dict[str, Any]:
    """Return *row* as an `assessments.AssessmentResponse`."""
    record = dict(row)
    record["answer_metadata"] = _decode(record["answer_metadata"], 0)[0]
    return record


def score(row: Any) -> dict[str, Any]:
    """Return *row* as an `assessments.AssessmentScore`."""
    record = dict(row)
    record["score_data"] = _decode(record["score_data"], 0)[0]
    return record


def scored_response(row: Any) -> dict[str, Any]:
    """Return *row* as an `assessments.ScoredResponse`."""
    record = response(row)
    latest = {
        "score_id": record.pop("score_id"),
        "response_id": record["response_id"],
        "score_data": record.pop("score_data"),
        "model_id": record.pop("model_id"),
        "prompt_version": record.pop("prompt_version"),
        "created_at": record.pop("scored_at"),
    }
    if latest["score_id"] is None:
        record["latest_score"] = None
    else:
        latest["score_data"] = _decode(latest["score_data"], 0)[0]
        record["latest_score"] = latest
    return record


class Recorder:
    """A connection that keeps what is sent on it."""

    def __init__(self, conn: asyncpg.Connection[Any]) -> None:
        self._conn = conn
        self.sent: list[tuple[str, str, tuple[Any, ...]]] = []

    def is_in_transaction(self) -> bool:
        """Return what the connection says."""
        return self._conn.is_in_transaction()

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        """Return *method*, which also notes the statement and its arguments."""
        run = getattr(self._conn, method)

        async def note(statement: str, *arguments: Any) -> Any:
            self.sent.append((method, statement, arguments))
            return await run(statement, *arguments)

        return note


async def finished(answer: Any) -> Any:
    """Return what a call of the library gives, as a list where it yields."""
    return [row async for row in answer] if inspect.isasyncgen(answer) else await answer


async def replay(conn: asyncpg.Connection[Any], case: Case) -> Callable[[Any], Awaitable[Any]]:
    """Return a function that sends what the library sends for *case*, and makes the same dicts."""
    recorder = Recorder(conn)
    prepared = await case.prepare() if case.prepare else None
    await finished(case.call(recorder, prepared))
    steps = []
    for method, statement, arguments in recorder.sent:
        places = [n for n, value in enumerate(arguments) if _is_same(value, prepared)]
        written = [n for n, value in enumerate(arguments) if _is_json_of(value, case.encoded)]
        steps.append((getattr(conn, method), statement, list(arguments), places, written))
    record, encoded = case.record, case.encoded

    async def bare(given: Any) -> Any:
        answer: Any = None
        for run, statement, arguments, places, written in steps:
            for place in places:
                arguments[place] = given
            for place in written:
                arguments[place] = json.dumps(encoded)
            found = await run(statement, *arguments)
            if isinstance(found, list):
                answer = [record(row) for row in found]
            elif isinstance(found, asyncpg.Record):
                answer = record(found)
        return answer

    return bare


def _is_same(value: Any, prepared: Any) -> bool:
    return prepared is not None and not isinstance(value, bool) and bool(value == prepared)


def _is_json_of(value: Any, encoded: Any) -> bool:
    return (
        encoded is not None
        and isinstance(value, str)
        and value.startswith("{")
        and bool(json.loads(value) == encoded)
    )


def batch(
    query: str, items: Sequence[dict[str, Any]], record: Callable[[Any], Any]
) -> Callable[[Any], Callable[[Any], Awaitable[Any]]]:
    """Return the bare way to store *items* by *query*, on the connection that it is given."""
    text = named(query).sql
    columns = [name[:-1] for name in queries.driver_adapter.var_sorted[query]]

    def on(conn: Any) -> Callable[[Any], Awaitable[Any]]:
        async def bare(_: Any) -> Any:
            arrays = [[_as_text(item.get(name)) for item in items] for name in columns]
            return [record(row) for row in await conn.fetch(text, *arrays)]

        return bare

    return on


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, dict) else str(value)


async def measure_case(conn: asyncpg.Connection[Any], case: Case, turns: int) -> Figure:
    """Return the time of the library's call over the bare one."""
    bare = case.bare or await replay(conn, case)

    async def library(given: Any) -> Any:
        return await finished(case.call(conn, given))

    ways = [
        measure.Way("library", library, case.prepare),
        measure.Way("bare", bare, case.prepare),
    ]
    taken = await measure.interleave(ways, max(2, turns // case.fewer))
    return measure.ratio(case.name, *taken, note=measure.milliseconds(taken[0]))


def submissions(conn: Any) -> list[Case]:
    """Return the calls that store responses and scores."""
    token, ids = uuid4(), itertools.count(1)
    owned = {"anonymous_token": token, **data.RESPONSE}
    items: Any = [{**owned, "answer_metadata": data.METADATA}] * 100
    scores: Any = [{"response_id": n, "score_data": data.SCORE} for n in range(1, 101)]
    stored = [{"answer_metadata": {}, **item} for item in items]

    async def key() -> Any:
        return uuid4()

    async def response_id() -> int:
        return next(ids) % data.OTHERS + 1

    by: dict[str, Any] = {"model_id": "model-2", "prompt_version": "p2"}
    return [
        Case("submit_response", lambda on, _: assessments.submit_response(on, **owned), response),
        Case(
            "submit_response, metadata",
            lambda on, _: assessments.submit_response(on, answer_metadata=data.METADATA, **owned),
            response,
            encoded=data.METADATA,
        ),
        Case(
            "submit_response, key",
            lambda on, given: assessments.submit_response(on, submission_key=given, **owned),
            response,
            key,
        ),
        Case(
            "submit_responses of 100",
            lambda on, _: assessments.submit_responses(on, items),
            bare=batch("submit_responses", stored, response)(conn),
            fewer=8,
        ),
        Case(
            "record_score",
            lambda on, given: backoffice.record_score(
                on, response_id=given, score_data=data.SCORE, **by
            ),
            score,
            response_id,
            data.SCORE,
        ),
        Case(
            "record_score_once",
            lambda on, given: backoffice.record_score_once(
                on, response_id=given, score_data=data.SCORE, model_id="m3", prompt_version="p3"
            ),
            score,
            response_id,
            data.SCORE,
        ),
        Case(
            "record_scores of 100",
            lambda on, _: backoffice.record_scores(on, scores),
            bare=batch("record_scores", scores, score)(conn),
            fewer=8,
        ),
    ]


def page(name: str, get: Any, record: Callable[[Any], Any], rows: int) -> Case:
    """Return the call of *get* for a page of the reader's."""
    title = f"{name}, page of {rows}"
    fewer = 1 + rows // 50
    return Case(title, lambda on, _: get(on, limit=rows, user_id=data.READER), record, fewer=fewer)


def reads(first: int) -> list[Case]:
    """Return the calls that read; *first* is the first of the reader's responses."""
    mine: dict[str, Any] = {"user_id": data.READER}
    latest = {**mine, "question_ids": data.QUESTIONS}
    pages = [
        page(name, get, record, rows)
        for name, get, record in (
            ("get_responses", assessments.get_responses, response),
            (
                "get_responses_with_latest_score",
                assessments.get_responses_with_latest_score,
                scored_response,
            ),
        )
        for rows in data.PAGES
    ]
    return [
        Case(
            "get_response",
            lambda on, _: assessments.get_response(on, response_id=first, **mine),
            response,
        ),
        *pages,
        Case(
            "get_responses_for_question",
            lambda on, _: assessments.get_responses_for_question(
                on, question_id="question-7", **mine
            ),
            response,
        ),
        Case(
            "get_latest_responses of 50 questions",
            lambda on, _: assessments.get_latest_responses(on, **latest),
            response,
            fewer=2,
        ),
        Case(
            "get_latest_responses_with_latest_score of 50 questions",
            lambda on, _: assessments.get_latest_responses_with_latest_score(on, **latest),
            scored_response,
            fewer=2,
        ),
        Case(
            "get_scores",
            lambda on, _: assessments.get_scores(on, response_id=first, **mine),
            score,
        ),
    ]


def backoffice_reads(conn: Any, first: int) -> list[Case]:
    """Return the reads of the service; *first* is the first of the reader's responses."""
    ids = range(first, first + 100)
    text = named("get_responses_by_id").sql

    async def by_id(_: Any) -> Any:
        return [response(row) for row in await conn.fetch(text, [str(key) for key in ids])]

    return [
        Case(
            "backoffice.get_scores",
            lambda on, _: backoffice.get_scores(on, response_id=first),
            score,
        ),
        Case(
            "get_responses_by_id of 100",
            lambda on, _: backoffice.get_responses_by_id(on, ids),
            bare=by_id,
            fewer=3,
        ),
        Case(
            "get_unscored_responses of 100, from a cursor",
            lambda on, _: backoffice.get_unscored_responses(on, model_id="none", after=first - 1),
            response,
            fewer=3,
        ),
        Case(
            "iter_responses, a user's 200",
            lambda on, _: backoffice.iter_responses(on, user_id=data.READER),
            response,
            fewer=4,
        ),
        Case(
            "iter_responses_with_scores, a user's 200",
            lambda on, _: backoffice.iter_responses_with_scores(on, user_id=data.READER),
            with_score,
            fewer=4,
        ),
    ]


def with_score(row: Any) -> dict[str, Any]:
    """Return *row*, of a response with one score, as an `assessments.ResponseWithScores`."""
    record = scored_response(row)
    record.pop("submission_key", None)
    latest = record.pop("latest_score")
    record["scores"] = [] if latest is None else [latest]
    return record


def changes(conn: asyncpg.Connection[Any]) -> list[Case]:
    """Return the calls that move and erase responses."""

    def anonymous(count: int, statement: str = data.STORE_ANONYMOUS) -> Any:
        async def prepare() -> Any:
            await conn.execute(data.UNCLAIM, data.CLAIMER)
            token = uuid4()
            await conn.execute(statement, token, count)
            return token

        return prepare

    async def update(token: Any) -> None:
        await conn.execute(
            "UPDATE assessment_responses SET user_id = $2, anonymous_token = NULL"
            " WHERE anonymous_token = $1",
            token,
            data.CLAIMER,
        )

    def claim(on: Any, token: Any) -> Any:
        return assessments.claim_assessment_responses(
            on, anonymous_token=token, user_id=data.CLAIMER
        )

    def purge(erase: Any) -> Case:
        return Case(
            f"{erase.__name__} of 10",
            lambda on, _: erase(on, older_than=_AGES, limit=10),
            prepare=anonymous(10, _STORE_OLD),
            fewer=4,
        )

    return [
        Case("claim_assessment_responses of 10", claim, prepare=anonymous(10), fewer=2),
        Case("claim_assessment_responses of 1,000", claim, prepare=anonymous(1000), fewer=25),
        Case(
            "claim of 1,000 over one bare UPDATE by token",
            claim,
            prepare=anonymous(1000),
            bare=update,
            fewer=25,
        ),
        Case(
            "delete_responses of 10",
            lambda on, token: assessments.delete_responses(on, anonymous_token=token),
            prepare=anonymous(10),
            fewer=2,
        ),
        purge(backoffice.purge_anonymous_responses),
        purge(backoffice.purge_responses),
    ]


async def first_response(conn: asyncpg.Connection[Any]) -> int:
    """Return the id of the first of the reader's responses."""
    found = await conn.fetchval(
        "SELECT min(response_id) FROM assessment_responses WHERE user_id = $1", data.READER
    )
    return int(found)


async def measure_all(conn: asyncpg.Connection[Any], turns: int) -> list[Figure]:
    """Return the figures of every function."""
    first = await first_response(conn)
    cases = [*submissions(conn), *reads(first), *backoffice_reads(conn, first), *changes(conn)]
    return [await measure_case(conn, case, turns) for case in cases]


async def run(scale: Scale) -> list[Figure]:
    """Measure every function on a database of its own."""
    async with measure.database(data.LOAD) as (_, conn):
        return await measure_all(conn, _TURNS[scale])
