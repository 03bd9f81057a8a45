"""In one query: the newest response to each question, the newest score of each response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from assessments import get_latest_responses, get_responses, get_responses_with_latest_score
from assessments.backoffice import record_score
from tests.helpers.observe import StatementLog
from tests.helpers.rows import ids, submit, submit_all

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg


async def test_the_newest_response_to_each_question_newest_first(
    conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """Of several responses to a question the newest counts, by created_at, then response_id."""
    async with conn.transaction():
        await submit_all(conn, ("q1", "q2", "q3", "q2"), user_id=user_id)
    last = await submit(conn, "q1", user_id=user_id)
    stored = await get_responses(conn, user_id=user_id)

    latest = await get_latest_responses(conn, user_id=user_id)

    assert latest == [last, stored[1], stored[2]]
    assert [row["question_id"] for row in latest] == ["q1", "q2", "q3"]


async def test_of_two_owners_the_newer_response_counts(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """With both owners each question comes once, from whoever responded last."""
    await submit(conn, "q1", user_id=user_id)
    newer_anonymous = await submit(conn, "q1", anonymous_token=token)
    await submit(conn, "q2", anonymous_token=token)
    newer_of_user = await submit(conn, "q2", user_id=user_id)

    latest = await get_latest_responses(conn, user_id=user_id, anonymous_token=token)

    assert latest == [newer_of_user, newer_anonymous]


@pytest.mark.parametrize("owner", ["user_id", "anonymous_token"])
async def test_latest_responses_are_filtered_before_the_newest_is_chosen(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, owner: str
) -> None:
    """Only the given questions come back, each with the newest response in the given module."""
    whose: Any = {owner: {"user_id": user_id, "anonymous_token": token}[owner]}
    one = await submit(conn, "q1", module_slug="m1", **whose)
    two = await submit(conn, "q2", module_slug="m1", **whose)
    newer = await submit(conn, "q1", module_slug="m2", **whose)

    async def latest(**filters: Any) -> list[int]:
        return ids(await get_latest_responses(conn, **whose, **filters))

    assert await latest(question_ids=["q1", "q9", "q1"]) == ids([newer])
    assert await latest(question_ids=("q1", "q2")) == ids([newer, two])
    assert await latest(question_ids={"q1"}, module_slug="m1") == ids([one])
    assert await latest(module_slug="m1") == ids([two, one])
    assert await latest(question_ids=[]) == []


async def test_each_response_with_its_newest_score_in_one_query(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
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
