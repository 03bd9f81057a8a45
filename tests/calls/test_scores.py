"""Scores: a history that is only ever added to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import assessments
from assessments.backoffice import record_score, record_scores
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from assessments import NewScore


async def test_record_score_returns_the_row_as_stored(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """Every column comes back under its own name with the value given, typed."""
    response = await submit(conn, anonymous_token=token)

    stored = await record_score(
        conn,
        response_id=response["response_id"],
        score_data={"points": 3.5, "rubric": ["clear", "complete"]},
        model_id="model-1",
        prompt_version="p7",
    )

    assert isinstance(stored["score_id"], int)
    assert stored["created_at"] >= response["created_at"]
    assert stored == {
        "score_id": stored["score_id"],
        "response_id": response["response_id"],
        "score_data": {"points": 3.5, "rubric": ["clear", "complete"]},
        "model_id": "model-1",
        "prompt_version": "p7",
        "created_at": stored["created_at"],
    }


async def test_scores_are_a_history_newest_first(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """Scoring again adds a row and leaves those before it, even within one transaction."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    async with conn.transaction():
        recorded = [
            await record_score(conn, response_id=response_id, score_data={"points": points})
            for points in range(3)
        ]
    last = await record_score(conn, response_id=response_id, score_data={}, model_id="m")

    scores = await assessments.get_scores(conn, response_id=response_id, anonymous_token=token)

    assert scores == [last, *reversed(recorded)]


async def test_a_score_without_a_model_is_a_person_s(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """model_id and prompt_version may be left out."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]

    stored = await record_score(conn, response_id=response_id, score_data={})

    assert stored["model_id"] is stored["prompt_version"] is None


async def test_unknown_response_is_named_and_the_transaction_goes_on(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """Scoring what is not there raises UnknownResponse, stores nothing and aborts nothing."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    async with conn.transaction():
        with pytest.raises(assessments.UnknownResponse) as raised:
            await record_score(conn, response_id=response_id + 1, score_data={})
        await record_score(conn, response_id=response_id, score_data={})

    assert isinstance(raised.value, LookupError)
    assert await conn.fetchval("SELECT count(*) FROM assessment_scores") == 1


@pytest.mark.parametrize("how", ["one", "many"])
async def test_a_response_deleted_meanwhile_is_unknown_and_the_transaction_goes_on(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], token: UUID, how: str
) -> None:
    """A score that loses a race against an erasure raises UnknownResponse and aborts nothing."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    erasure = other.transaction()
    await erasure.start()
    await other.execute("DELETE FROM assessment_responses")

    async with conn.transaction():
        new: NewScore = {"response_id": response_id, "score_data": {"points": 1}}
        scoring: asyncio.Task[Any] = asyncio.create_task(
            record_score(conn, **new) if how == "one" else record_scores(conn, [new])
        )
        await until_waiting_for_lock(other, conn.get_server_pid())
        await erasure.commit()
        with pytest.raises(assessments.UnknownResponse):
            await scoring
        await submit(conn, anonymous_token=token)

    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 1


async def test_a_claim_held_open_does_not_hold_up_scoring(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """A score is recorded at once while a claim of its response waits for its commit."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    async with other.transaction():
        await assessments.claim_assessment_responses(other, anonymous_token=token, user_id=user_id)
        await asyncio.wait_for(record_score(conn, response_id=response_id, score_data={}), 10)

    scores = await assessments.get_scores(conn, response_id=response_id, user_id=user_id)
    assert len(scores) == 1
