"""The records as FastAPI's and pydantic's types, as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter

import assessments
from assessments import (
    AssessmentResponse,
    AssessmentScore,
    NewResponse,
    NewScore,
    ResponseWithoutToken,
    ResponseWithScores,
    ScoredResponse,
    ScoredResponseWithoutToken,
    backoffice,
)
from tests.helpers.pages import blocks
from tests.helpers.rows import new_response, submit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    Read = Callable[[asyncpg.Connection[Any]], Awaitable[list[Any]]]

TOKEN = UUID("5ec2e700-70ce-4000-8000-00000000a11e")


class Exported(ResponseWithoutToken):
    """A record of a host's own, on top of this library's."""

    scores: list[AssessmentScore]


async def responses(conn: asyncpg.Connection[Any]) -> list[AssessmentResponse]:
    """Return the responses, the newest without anything optional and without a score."""
    return await assessments.get_responses(conn, anonymous_token=TOKEN)


async def scored_responses(conn: asyncpg.Connection[Any]) -> list[ScoredResponse]:
    """Return the responses, each with its newest score."""
    return await assessments.get_responses_with_latest_score(conn, anonymous_token=TOKEN)


async def responses_with_scores(conn: asyncpg.Connection[Any]) -> list[ResponseWithScores]:
    """Return the responses, each with its scores."""
    return [row async for row in backoffice.iter_responses_with_scores(conn)]


async def scores(conn: asyncpg.Connection[Any]) -> list[AssessmentScore]:
    """Return the scores of the older response."""
    response_id = (await responses(conn))[-1]["response_id"]
    return await assessments.get_scores(conn, response_id=response_id, anonymous_token=TOKEN)


RECORDS: list[tuple[Any, Read]] = [
    (AssessmentResponse, responses),
    (ScoredResponse, scored_responses),
    (ResponseWithScores, responses_with_scores),
    (AssessmentScore, scores),
]
WITHOUT_TOKEN: list[tuple[Any, Read]] = [
    (ResponseWithoutToken, responses),
    (ScoredResponseWithoutToken, scored_responses),
    (Exported, responses_with_scores),
]
each_record = pytest.mark.parametrize(
    ("kind", "read"), [*RECORDS, *WITHOUT_TOKEN], ids=lambda each: each.__name__
)
NEW_RESPONSE: NewResponse = {
    "anonymous_token": TOKEN,
    "question_id": "q1",
    "module_slug": "m1",
    "learning_outcome_id": "lo1",
    "content_id": uuid4(),
    "answer_text": "Because.",
    "answer_metadata": {"seconds": 1.5, "parts": [{"n": 10**30}, None, True, "é"]},
    "submission_key": uuid4(),
}


@pytest.fixture
async def conn(conn: asyncpg.Connection[Any]) -> asyncpg.Connection[Any]:
    """Store two responses, of which the older has every column and two scores."""
    (stored,) = await assessments.submit_responses(conn, [NEW_RESPONSE])
    of_stored: Any = {"response_id": stored["response_id"]}
    by: Any = {"model_id": "m", "prompt_version": "p"}
    await backoffice.record_score(conn, **of_stored, score_data={"points": 1}, **by)
    await backoffice.record_score(conn, **of_stored, score_data={"parts": [{"points": 2.5}]})
    await submit(conn, "q2", anonymous_token=TOKEN)
    return conn


def visible(kind: Any, rows: list[Any]) -> list[Any]:
    """Return *rows*, without the token if *kind* leaves it out."""
    left_out = {"anonymous_token"} if (kind in dict(WITHOUT_TOKEN)) else set()
    return [{name: row[name] for name in row if name not in left_out} for row in rows]


def app_of(kind: Any, rows: list[Any]) -> FastAPI:
    """Return an application that answers with *rows* as its response model, a list of *kind*."""

    async def endpoint() -> Any:
        return rows

    app = FastAPI()
    app.add_api_route("/", endpoint, response_model=list[kind])
    return app


async def get(app: FastAPI, path: str = "/") -> httpx.Response:
    """Return the response of *app* to the browser that has the token."""
    transport, cookies = httpx.ASGITransport(app), {"anonymous_token": str(TOKEN)}
    async with httpx.AsyncClient(
        transport=transport, base_url="https://service", cookies=cookies
    ) as client:
        return await client.get(path)


@each_record
async def test_a_record_is_a_response_model(
    conn: asyncpg.Connection[Any], kind: Any, read: Read
) -> None:
    """The body holds the row, key by key in its order, and the token only where the record does."""
    rows = await read(conn)

    answered = await get(app_of(kind, rows))

    assert answered.status_code == 200, answered.text
    assert [list(row) for row in answered.json()] == [list(row) for row in visible(kind, rows)]
    assert TypeAdapter(list[kind]).validate_json(answered.text) == visible(kind, rows)
    assert kind not in dict(WITHOUT_TOKEN) or str(TOKEN) not in answered.text


@each_record
async def test_the_schema_has_every_column(
    conn: asyncpg.Connection[Any], kind: Any, read: Read
) -> None:
    """OpenAPI lists the keys of a row in their order, none optional, and describes the record."""
    (row, *_) = visible(kind, await read(conn))
    schema = app_of(kind, []).openapi()["components"]["schemas"][kind.__name__]

    assert list(schema["properties"]) == schema["required"] == list(row)
    assert schema["description"].splitlines()[0] == kind.__doc__.splitlines()[0]


@each_record
async def test_pydantic_validates_and_dumps_a_row(
    conn: asyncpg.Connection[Any], kind: Any, read: Read
) -> None:
    """A row from the database is valid as it is, and comes back equal from Python and from JSON."""
    adapter = TypeAdapter(list[kind])
    rows = await read(conn)
    seen = visible(kind, rows)

    validated = adapter.validate_python(rows, strict=True)
    assert validated == adapter.dump_python(validated) == seen
    assert adapter.validate_json(adapter.dump_json(validated)) == seen


async def test_pydantic_validates_what_is_stored(conn: asyncpg.Connection[Any]) -> None:
    """NewResponse and NewScore come from JSON as the functions take them, and need what they do."""
    responses, new_scores = TypeAdapter(list[NewResponse]), TypeAdapter(list[NewScore])
    items = [new_response("q3", user_id=None, anonymous_token=TOKEN), {**NEW_RESPONSE}]
    dumped = responses.dump_json(responses.validate_python(items))

    new, known = await assessments.submit_responses(conn, responses.validate_json(dumped))
    assert known["question_id"] == "q1"
    for missing in NewResponse.__required_keys__:
        with pytest.raises(ValueError, match=missing):
            responses.validate_python([{**NEW_RESPONSE, missing: None}])
    score = f'[{{"response_id": {new["response_id"]}, "score_data": {{"points": 3}}}}]'
    (recorded,) = await backoffice.record_scores(conn, new_scores.validate_json(score))
    assert recorded["score_data"] == {"points": 3}


async def test_the_page_s_blocks_run(conn: asyncpg.Connection[Any], user_id: int) -> None:
    """The route sends both owners' responses without the token; a submission has one owner."""
    names: dict[str, Any] = {"pool": conn, "session_user": lambda: user_id}
    for block in blocks("docs/hosts.md", "python", "FastAPI"):
        exec(compile(block, "docs/hosts.md", "exec", dont_inherit=True), names)  # noqa: S102
    answer = {"question_id": "q3", "module_slug": "m1", "answer_text": "a"}

    of_user = await names["submit"]({"user_id": user_id, "anonymous_token": TOKEN}, answer)
    of_token = await names["submit"]({"user_id": None, "anonymous_token": TOKEN}, answer)
    assert of_user["user_id"] == user_id
    assert of_token["anonymous_token"] == TOKEN
    with pytest.raises(names["HTTPException"]):
        await names["submit"]({"user_id": None, "anonymous_token": None}, answer)

    answered = await get(names["app"], "/modules/m1/resume")
    assert [row["question_id"] for row in answered.json()] == ["q3", "q2", "q1"]
    assert str(TOKEN) not in answered.text
    assert "anonymous_token" not in str(names["app"].openapi()["components"])
