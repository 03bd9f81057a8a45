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
from assessments import inputs
from assessments.backoffice import record_score
from tests import codecs
from tests.support import submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OBJECT = {
    "text": 'quote " backslash \\ newline \n tab \t \u2028 é 漢字 👩‍🔬 \\u0000 \x7f \x01',
    "": "an empty key",
    "integers": [0, -1, 2**63, -(10**30), 10 ** (inputs.MAX_JSON_DIGITS - 1)],
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


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(answer_text=any_text, answer_metadata=any_object)
async def test_whatever_is_accepted_comes_back_equal(
    database: str, answer_text: str, answer_metadata: dict[str, Any]
) -> None:
    """Any text comes back code point for code point, any JSON object equal and of its types."""
    connection = await asyncpg.connect(database)
    try:
        stored = await submit(
            connection,
            anonymous_token=uuid4(),
            answer_text=answer_text,
            answer_metadata=answer_metadata,
        )
    finally:
        await connection.close()

    assert stored["answer_text"] == answer_text
    assert stored["answer_metadata"] == answer_metadata
    assert _types(stored["answer_metadata"]) == _types(answer_metadata)


@settings(max_examples=300, deadline=None)
@given(value=st.floats() | st.integers().map(float))
async def test_a_float_comes_back_equal_or_is_refused(server: str, value: float) -> None:
    """No float of any size goes in as one number and comes out as another."""
    try:
        text = inputs.json_object("score_data", {"a": value}, 1000)
    except assessments.InvalidInput:
        return
    connection = await asyncpg.connect(server)
    try:
        back = await connection.fetchval("SELECT $1::text::jsonb::text", text)
    finally:
        await connection.close()

    assert json.loads(back) == {"a": value}


def _types(value: Any) -> Any:
    """Return the types of *value* in its shape: == takes 1, 1.0 and True for equal."""
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_types(item) for item in value]
    return type(value)
