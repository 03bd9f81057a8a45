"""Scores: an append-only history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import assessments
from assessments import get_responses_with_latest_score, get_scores
from assessments.backoffice import record_score
from tests.helpers.observe import StatementLog
from tests.helpers.rows import counts, submit

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    Connection = asyncpg.Connection[Any]


@pytest.mark.parametrize("by", [{"model_id": "model-1", "prompt_version": "p7"}, {}], ids=repr)
async def test_record_score_and_reads_return_the_row_as_stored(
    conn: Connection, token: UUID, by: dict[str, Any]
) -> None:
    """Columns come back typed, by name; without a model and a prompt version they are None."""
    response = await submit(conn, anonymous_token=token)
    response_id = response["response_id"]
    score_data = {"points": 3.5, "rubric": ["clear", "complete"]}

    stored = await record_score(conn, response_id=response_id, score_data=score_data, **by)

    assert isinstance(stored["score_id"], int)
    assert stored["created_at"] >= response["created_at"]
    assert stored == {
        "score_id": stored["score_id"],
        "response_id": response_id,
        "score_data": score_data,
        **({"model_id": None, "prompt_version": None} | by),
        "created_at": stored["created_at"],
    }
    assert await get_scores(conn, response_id=response_id, anonymous_token=token) == [stored]


async def test_scores_are_a_history_newest_first(conn: Connection, token: UUID) -> None:
    """Scoring again adds a row and keeps those before it, even within one transaction."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    async with conn.transaction():
        recorded = [
            await record_score(conn, response_id=response_id, score_data={"points": points})
            for points in range(3)
        ]
    last = await record_score(conn, response_id=response_id, score_data={}, model_id="m")

    scores = await get_scores(conn, response_id=response_id, anonymous_token=token)

    assert scores == [last, *reversed(recorded)]


async def test_an_unknown_response_is_refused_and_the_transaction_goes_on(
    conn: Connection, token: UUID
) -> None:
    """A response_id that is not stored raises UnknownResponse and aborts nothing."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    async with conn.transaction():
        with pytest.raises(assessments.UnknownResponse):
            await record_score(conn, response_id=response_id + 1, score_data={})
        await record_score(conn, response_id=response_id, score_data={})

    assert await counts(conn) == (1, 1)


async def test_each_response_with_its_newest_score_in_one_query(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """The rows of get_responses, each with its newest score or None, take a single query."""
    first = await submit(conn, "q1", user_id=user_id)
    second = await submit(conn, "q2", anonymous_token=token)
    third = await submit(conn, "q3", user_id=user_id)
    async with conn.transaction():
        scores = [
            await record_score(conn, response_id=first["response_id"], score_data={"points": n})
            for n in range(3)
        ]
    other = await record_score(
        conn, response_id=second["response_id"], score_data={}, model_id="m", prompt_version="p"
    )
    sent = StatementLog(conn)

    rows = await get_responses_with_latest_score(conn, user_id=user_id, anonymous_token=token)

    assert rows == [
        {**third, "latest_score": None},
        {**second, "latest_score": other},
        {**first, "latest_score": scores[-1]},
    ]
    assert len(await sent.complete()) == 1
