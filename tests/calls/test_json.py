"""JSON goes in and comes back the same, whatever codec the host has set."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import assessments
from assessments import validation
from assessments.backoffice import record_score, record_scores
from assessments.validation.json_object import encode_json_object
from tests.helpers import codecs
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OBJECT = {
    "text": 'quote " backslash \\ newline \n tab \t \u2028 é 漢字 👩‍🔬 \\u0000 \x7f \x01',
    "": "an empty key",
    "integers": [0, -1, 2**63, -(10**30), 10 ** (validation.MAX_JSON_DIGITS - 1)],
    "floats": [0.1, -0.0, 1e16, 1e22, 1e-300, 5e-324, 123456789.123456789],
    "others": [True, False, None, [], {}],
    "nested": {"list": [{"deeper": [[["still"]]]}]},
}

any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
any_float = st.floats(-1e16, 1e16, exclude_min=True, exclude_max=True)
any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | any_float | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=20,
)
any_object = st.dictionaries(any_text, any_value, max_size=5)
with_fixtures = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture(params=codecs.NAMES)
async def coded(
    request: pytest.FixtureRequest, database: str
) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection with one of the codecs set."""
    connection = await asyncpg.connect(database)
    await codecs.init(request.param)(connection)
    yield connection
    await connection.close()


async def test_metadata_and_scores_are_the_same_under_every_codec(
    coded: asyncpg.Connection[Any], conn: asyncpg.Connection[Any]
) -> None:
    """What is written through one codec reads back equal through it and through none."""
    token = uuid4()
    stored = await submit(coded, anonymous_token=token, answer_metadata=OBJECT)
    score = await record_score(coded, response_id=stored["response_id"], score_data=OBJECT)

    assert stored["answer_metadata"] == score["score_data"] == OBJECT
    for connection in (coded, conn):
        assert await assessments.get_responses(connection, anonymous_token=token) == [stored]
        assert await assessments.get_scores(
            connection, response_id=stored["response_id"], anonymous_token=token
        ) == [score]
    kinds = "SELECT jsonb_typeof(answer_metadata), jsonb_typeof(score_data) FROM"
    tables = "assessment_responses JOIN assessment_scores USING (response_id)"
    assert tuple(await conn.fetchrow(f"{kinds} {tables}") or ()) == ("object", "object")


async def test_a_host_s_codec_is_left_as_it_was(coded: asyncpg.Connection[Any]) -> None:
    """The host's own queries on the connection decode as before."""
    before = await coded.fetchval("""SELECT '{"a": 1}'::jsonb""")
    await submit(coded, anonymous_token=uuid4(), answer_metadata={"a": 1})

    assert await coded.fetchval("""SELECT '{"a": 1}'::jsonb""") == before


@pytest.fixture
async def every(database: str) -> AsyncIterator[dict[str, asyncpg.Connection[Any]]]:
    """Return a connection for every codec, by its name."""
    connections = {}
    for name in codecs.NAMES:
        connections[name] = await asyncpg.connect(database)
        await codecs.init(name)(connections[name])
    yield connections
    for connection in connections.values():
        await connection.close()


@settings(max_examples=60, **with_fixtures)  # type: ignore[arg-type]
@given(answer_text=any_text, objects=st.lists(any_object, min_size=1, max_size=3))
async def test_whatever_is_accepted_comes_back_equal_under_every_codec(
    every: dict[str, asyncpg.Connection[Any]], answer_text: str, objects: list[dict[str, Any]]
) -> None:
    """Any text comes back code point for code point, any JSON object equal and of its types."""
    for name, connection in every.items():
        token = uuid4()
        new: Any = [
            {
                "anonymous_token": token,
                "question_id": "q1",
                "module_slug": "m1",
                "answer_text": answer_text,
                "answer_metadata": each,
            }
            for each in objects
        ]
        alone = await assessments.submit_response(connection, **new[0])
        together = await assessments.submit_responses(connection, new)
        for each in new:
            each["submission_key"] = uuid4()
        once = await assessments.submit_responses(connection, new)
        responses = [alone, *together, *once]
        read = await assessments.get_responses(connection, anonymous_token=token)
        key = alone["response_id"]
        score = await record_score(connection, response_id=key, score_data=objects[0])
        scores = await record_scores(
            connection, [{"response_id": key, "score_data": each} for each in objects]
        )
        scored = await assessments.get_responses_with_latest_score(
            connection, anonymous_token=token, limit=1, before=(alone["created_at"], key + 1)
        )

        given_back = [response["answer_metadata"] for response in responses]
        assert given_back == [objects[0], *objects, *objects], name
        assert _types(given_back) == _types([objects[0], *objects, *objects]), name
        assert {response["answer_text"] for response in responses} == {answer_text}, name
        assert read == responses[::-1], name
        data = [each["score_data"] for each in (score, *scores)]
        assert data == [objects[0], *objects], name
        assert _types(data) == _types([objects[0], *objects]), name
        assert [row["latest_score"] for row in scored] == scores[-1:], name


@settings(max_examples=200, **with_fixtures)  # type: ignore[arg-type]
@given(
    text=st.text(
        st.characters(exclude_categories=[]) | st.sampled_from("\0\ud83d\ude00"),
        max_size=validation.MAX_ID_CHARACTERS,
    )
)
async def test_any_string_comes_back_equal_or_is_refused(
    conn: asyncpg.Connection[Any], text: str
) -> None:
    """No string goes in as one text and comes out as another, wherever it is given."""
    try:
        stored = await submit(
            conn,
            anonymous_token=uuid4(),
            question_id=text or "q1",
            answer_text=text,
            answer_metadata={text: [text]},
        )
    except assessments.InvalidInput:
        assert "\0" in text or any("\ud800" <= each <= "\udfff" for each in text)
    else:
        assert stored["question_id"] == (text or "q1")
        assert stored["answer_text"] == text
        assert stored["answer_metadata"] == {text: [text]}


@settings(max_examples=300, **with_fixtures)  # type: ignore[arg-type]
@given(value=st.floats() | st.integers().map(float))
async def test_a_float_comes_back_equal_or_is_refused(
    conn: asyncpg.Connection[Any], value: float
) -> None:
    """No float of any size goes in as one number and comes out as another."""
    try:
        text = encode_json_object("score_data", {"a": value}, 1000)
    except assessments.InvalidInput:
        return
    back = await conn.fetchval("SELECT $1::text::jsonb::text", text)

    assert json.loads(back) == {"a": value}


def _types(value: Any) -> Any:
    """Return the types of *value* in its shape: == takes 1, 1.0 and True for equal."""
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_types(item) for item in value]
    return type(value)
