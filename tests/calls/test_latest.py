"""In one query: the newest response to each question, the newest score of each response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

import assessments
from assessments import get_latest_responses, get_responses_with_latest_score
from assessments.backoffice import record_score
from tests.helpers.observe import StatementLog
from tests.helpers.rows import ids, submit, submit_all

if TYPE_CHECKING:
    import asyncpg


async def test_the_newest_response_to_each_question_newest_first(
    conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """Of several attempts the newest counts, by created_at and then by response_id."""
    async with conn.transaction():
        await submit_all(conn, ("q1", "q2", "q3", "q2"), user_id=user_id)
    last = await submit(conn, "q1", user_id=user_id)
    every = await assessments.get_responses(conn, user_id=user_id)

    latest = await get_latest_responses(conn, user_id=user_id)

    assert latest == [last, every[1], every[2]]
    assert [row["question_id"] for row in latest] == ["q1", "q2", "q3"]


async def test_of_two_owners_the_newer_response_counts(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """With both owners each question comes once, from whoever answered last."""
    await submit(conn, "q1", user_id=user_id)
    newer_of_visitor = await submit(conn, "q1", anonymous_token=token)
    await submit(conn, "q2", anonymous_token=token)
    newer_of_user = await submit(conn, "q2", user_id=user_id)

    latest = await get_latest_responses(conn, user_id=user_id, anonymous_token=token)

    assert latest == [newer_of_user, newer_of_visitor]


@pytest.mark.parametrize("owner", ["user", "visitor"])
async def test_questions_and_module_narrow_it(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, owner: str
) -> None:
    """Only the questions asked for, and the newest within the module asked for."""
    whose: Any = {"user_id": user_id} if owner == "user" else {"anonymous_token": token}
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


@pytest.mark.parametrize(
    ("question_ids", "parameter"),
    [
        ("q1", "question_ids"),
        (7, "question_ids"),
        (["q1", ""], "question_ids[1]"),
        ([None], "question_ids[0]"),
        (["q"] * 10_001, "question_ids"),
    ],
)
async def test_question_ids_are_a_list_of_names(
    conn: asyncpg.Connection[Any], question_ids: Any, parameter: str
) -> None:
    """A bare string, an empty name or too many are refused by position."""
    with pytest.raises(assessments.InvalidInput) as raised:
        await get_latest_responses(conn, user_id=1, question_ids=question_ids)

    assert raised.value.parameter == parameter


async def test_each_row_with_its_newest_score_in_one_query(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """The rows of get_responses, each with its newest score or None, and one query is sent."""
    first, second, third = [
        await submit(conn, question_id, **owner)
        for question_id, owner in (
            ("q1", {"user_id": user_id}),
            ("q2", {"anonymous_token": token}),
            ("q3", {"user_id": user_id}),
        )
    ]
    async with conn.transaction():
        for points in range(3):
            newest = await record_score(
                conn, response_id=first["response_id"], score_data={"points": points}
            )
    other = await record_score(
        conn, response_id=second["response_id"], score_data={}, model_id="m", prompt_version="p"
    )
    sent = StatementLog(conn)

    rows = await get_responses_with_latest_score(conn, user_id=user_id, anonymous_token=token)

    assert rows == [
        {**third, "latest_score": None},
        {**second, "latest_score": other},
        {**first, "latest_score": newest},
    ]
    assert len(await sent.complete()) == 1


@pytest.mark.parametrize("page_size", [1, 2, 5, 12])
async def test_pages_with_scores_are_the_pages_without(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, page_size: int
) -> None:
    """Limit, cursor and filters mean what they mean to get_responses, over equal timestamps too."""
    for _ in range(3):
        async with conn.transaction():
            await submit_all(conn, ("q1", "q2"), user_id=user_id)
            await submit_all(conn, ("q1", "q2"), anonymous_token=token)
    await submit(conn, anonymous_token=uuid4())
    whose: Any = {"user_id": user_id, "anonymous_token": token}
    narrowed: list[dict[str, Any]] = [
        {},
        {"question_id": "q2"},
        {"module_slug": "m1"},
        {"module_slug": "m9"},
    ]
    for filters in narrowed:
        expected = ids(await assessments.get_responses(conn, **whose, **filters))
        seen: list[int] = []
        before = None
        while page := await get_responses_with_latest_score(
            conn, **whose, **filters, limit=page_size, before=before
        ):
            assert len(page) <= page_size
            seen += ids(page)
            before = (page[-1]["created_at"], page[-1]["response_id"])
        assert seen == expected
