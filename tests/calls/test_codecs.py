"""A host's codecs change what values look like, never which row is whose.

`test_json.py` has the codecs for JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from assessments import SubmissionConflict, UnknownResponse, UnknownUser, submit_responses
from assessments.backoffice import iter_responses, record_scores
from tests.helpers.calls import RECORDS, SUBMITS, Subject, catalogue
from tests.helpers.rows import counts, new_response, submit, submit_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from assessments import NewScore

    Connection = asyncpg.Connection[Any]


@dataclass(frozen=True)
class Decoded:
    """What the host's codecs return: equal to nothing that the library could compare it with."""

    text: str


def encode(value: Any) -> str:
    """Return the text form of a value, or of what `Decoded` holds."""
    return value.text if isinstance(value, Decoded) else str(value)


TYPES = ("uuid", "int8", "timestamptz", "text", "numeric")


@pytest.fixture(params=[*TYPES, "all"])
async def coded(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Connection]:
    """Return a connection with a codec for one of the types, or for all."""
    connection = await asyncpg.connect(database)
    for name in TYPES if request.param == "all" else (request.param,):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encode, decoder=Decoded, format="text"
        )
    yield connection
    await connection.close()


def plain(result: Any) -> Any:
    """Return *result* with decoded values and their plain forms as the same text."""
    if isinstance(result, dict):
        return {name: plain(value) for name, value in result.items() if name != "created_at"}
    if isinstance(result, list):
        return [plain(item) for item in result]
    return result if result is None else encode(result)


def unidentified(result: Any) -> Any:
    """Return *result*, in plain form, without the keys of new rows."""
    rows = result if isinstance(result, list) else [result]
    return [{name: row[name] for name in row if not name.endswith("e_id")} for row in rows]


async def test_every_call_returns_the_same_under_every_codec(
    coded: Connection, conn: Connection, token: UUID, user_id: int
) -> None:
    """Rows, counts and their order are the same; a column is as the host's codec decodes it."""
    for question in ("q1", "q1", "q2"):
        response_id = (await submit(conn, question, anonymous_token=token))["response_id"]
    calls = catalogue(Subject(user_id, token, response_id, {"anonymous_token": token}))
    for name, call in calls.items():
        results = []
        for connection in (conn, coded):
            transaction = connection.transaction()
            await transaction.start()
            results.append(plain(await call(connection)))
            await transaction.rollback()
        if name in SUBMITS | RECORDS:
            results = [unidentified(result) for result in results]
        assert results[0] == results[1], name


async def test_an_iteration_continues_after_its_last_row_under_every_codec(
    coded: Connection, conn: Connection, token: UUID
) -> None:
    """Its cursor is the key as the codec decodes and encodes it."""
    await submit_all(conn, ("q1", "q2", "q3"), anonymous_token=token)

    rows = [row async for row in iter_responses(coded, batch_size=1)]

    assert [encode(row["question_id"]) for row in rows] == ["q1", "q2", "q3"]


async def test_a_batch_with_keys_keeps_its_order_under_every_codec(
    coded: Connection, conn: Connection, token: UUID
) -> None:
    """New items, retries, repeated keys and items without a key come back at their positions."""
    keys = [uuid4(), None, uuid4(), None, uuid4()]
    batch = [
        new_response(f"q{number}", anonymous_token=token, submission_key=key)
        for number, key in enumerate(keys)
    ]
    await submit_responses(coded, batch[2:3])

    rows = await submit_responses(coded, [*batch, batch[0]])
    again = await submit_responses(coded, batch[::2])

    expected = ["q0", "q1", "q2", "q3", "q4", "q0"]
    assert [encode(row["question_id"]) for row in rows] == expected
    assert again == rows[0:5:2]
    assert await counts(conn) == (5, 0)


async def test_a_refused_item_is_named_under_every_codec(
    coded: Connection, conn: Connection, token: UUID
) -> None:
    """The unknown user, the unknown response and the taken key are each named by position."""
    key = uuid4()
    stored = await submit(conn, anonymous_token=token, submission_key=key)
    good = new_response(anonymous_token=token)
    score: NewScore = {"response_id": stored["response_id"], "score_data": {}}
    with pytest.raises(UnknownUser) as user:
        await submit_responses(coded, [good, new_response(user_id=2**40)])
    with pytest.raises(SubmissionConflict) as conflict:
        await submit_responses(
            coded, [good, {**good, "submission_key": key, "answer_text": "Another."}]
        )
    with pytest.raises(UnknownResponse) as response:
        await record_scores(coded, [score, {**score, "response_id": 2**40}])

    named = [error.value.parameter for error in (user, conflict, response)]
    assert named == ["responses[1]", "responses[1]", "scores[1]"]
    assert await counts(conn) == (1, 0)
