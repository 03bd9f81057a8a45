"""Submitting and reading one's own responses."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

import assessments
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import ids, new_user, questions, submit, submit_all

if TYPE_CHECKING:
    import asyncpg


async def test_submit_returns_the_row_as_stored(
    conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """Every column comes back under its own name with the value given, typed."""
    content_id = uuid4()
    before = datetime.now(timezone.utc) - timedelta(minutes=1)

    stored = await assessments.submit_response(
        conn,
        user_id=user_id,
        question_id="q1",
        module_slug="m1",
        learning_outcome_id="lo1",
        content_id=content_id,
        answer_text="Because.",
        answer_metadata={"seconds": 12, "nested": {"list": [1, 2.5, None, True, "é"]}},
    )

    assert isinstance(stored["response_id"], int)
    assert before < stored["created_at"] < before + timedelta(minutes=2)
    assert type(stored) is dict
    expected = {
        "response_id": stored["response_id"],
        "anonymous_token": None,
        "user_id": user_id,
        "question_id": "q1",
        "module_slug": "m1",
        "learning_outcome_id": "lo1",
        "content_id": content_id,
        "answer_text": "Because.",
        "answer_metadata": {"seconds": 12, "nested": {"list": [1, 2.5, None, True, "é"]}},
        "created_at": stored["created_at"],
    }
    assert dict(stored) == expected
    assert list(stored) == list(assessments.AssessmentResponse.__annotations__)


async def test_submit_leaves_optional_columns_empty(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """What is left out is None, and metadata is an empty dict."""
    stored = await assessments.submit_response(
        conn, anonymous_token=token, question_id="q1", module_slug="m1", answer_text=""
    )

    assert stored["anonymous_token"] == token
    assert isinstance(stored["anonymous_token"], UUID)
    assert stored["user_id"] is None
    assert stored["learning_outcome_id"] is None
    assert stored["content_id"] is None
    assert stored["answer_metadata"] == {}
    assert stored["answer_text"] == ""


async def test_submit_always_makes_a_new_row(conn: asyncpg.Connection[Any], user_id: int) -> None:
    """The same answer twice is two attempts."""
    first = await submit(conn, user_id=user_id)
    second = await submit(conn, user_id=user_id)

    assert first["response_id"] < second["response_id"]
    assert ids(await assessments.get_responses(conn, user_id=user_id)) == ids([second, first])


async def test_what_is_read_is_what_was_returned(
    conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """Every way of reading gives a row exactly as submitting it did."""
    stored = await submit(conn, user_id=user_id, answer_metadata={"a": 1})

    assert await assessments.get_responses(conn, user_id=user_id) == [stored]
    assert await assessments.get_responses_for_question(
        conn, user_id=user_id, question_id="q1"
    ) == [stored]


async def test_unknown_user_is_named_and_the_transaction_goes_on(
    conn: asyncpg.Connection[Any],
) -> None:
    """A user_id that is not in users raises UnknownUser, stores nothing and aborts nothing."""
    token = uuid4()
    async with conn.transaction():
        with pytest.raises(assessments.UnknownUser) as raised:
            await submit(conn, user_id=2**40)
        await submit(conn, anonymous_token=token)

    assert isinstance(raised.value, LookupError)
    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 1


async def test_a_user_deleted_meanwhile_is_unknown(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int
) -> None:
    """A submit that loses a race against the user's deletion raises UnknownUser too."""
    deletion = other.transaction()
    await deletion.start()
    await other.execute("DELETE FROM users WHERE user_id = $1", user_id)

    submitting = asyncio.create_task(submit(conn, user_id=user_id))
    await until_waiting_for_lock(other, conn.get_server_pid())
    await deletion.commit()

    with pytest.raises(assessments.UnknownUser):
        await submitting
    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0


async def test_the_caller_decides_about_the_transaction(
    conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """What is submitted in a transaction that the caller rolls back is gone."""
    transaction = conn.transaction()
    await transaction.start()
    await submit(conn, user_id=user_id)
    await transaction.rollback()

    assert await assessments.get_responses(conn, user_id=user_id) == []


async def test_every_function_takes_a_pool_and_a_pool_s_connection(
    pool: asyncpg.Pool[Any],
) -> None:
    """A pool, a connection of a pool and a plain connection do the same."""
    async with pool.acquire() as connection:
        user_id = await new_user(connection)
        token = uuid4()
        for conn in (pool, connection):
            stored = await submit(conn, anonymous_token=token)
            await assessments.backoffice.record_score(
                conn, response_id=stored["response_id"], score_data={"points": 1}
            )
            assert await assessments.get_responses(conn, anonymous_token=token) == [stored]
            assert await assessments.get_responses_for_question(
                conn, anonymous_token=token, question_id="q1"
            ) == [stored]
            scores = await assessments.get_scores(
                conn, response_id=stored["response_id"], anonymous_token=token
            )
            assert len(scores) == 1
            claimed = await assessments.claim_assessment_responses(
                conn, anonymous_token=token, user_id=user_id, skip_answered=False
            )
            assert claimed == 1
    assert pool.get_idle_size() == pool.get_size()


async def test_newest_first_even_within_one_transaction(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """Rows of one transaction share created_at: response_id decides, also after a claim."""
    async with conn.transaction():
        stored = [await submit(conn, f"q{number}", anonymous_token=token) for number in range(5)]
    newest_first = ids(reversed(stored))

    assert len({response["created_at"] for response in stored}) == 1
    assert ids(await assessments.get_responses(conn, anonymous_token=token)) == newest_first

    await assessments.claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
    assert ids(await assessments.get_responses(conn, user_id=user_id)) == newest_first


async def test_created_at_comes_before_response_id_in_the_order(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int
) -> None:
    """A transaction that began earlier and wrote later sorts by when it began."""
    async with other.transaction():
        await other.execute("SELECT 1")
        newer = await submit(conn, user_id=user_id)
        older = await submit(other, user_id=user_id)

    assert older["response_id"] > newer["response_id"]
    assert ids(await assessments.get_responses(conn, user_id=user_id)) == ids([newer, older])


async def test_filters_by_module_and_question(conn: asyncpg.Connection[Any], user_id: int) -> None:
    """A filter that is given narrows the list; both together narrow it to both."""
    for module_slug in ("m1", "m2"):
        for question_id in ("q1", "q2"):
            await submit(conn, question_id, module_slug=module_slug, user_id=user_id)

    def found(responses: list[assessments.AssessmentResponse]) -> list[tuple[str, str]]:
        return [(row["module_slug"], row["question_id"]) for row in responses]

    get = assessments.get_responses
    assert found(await get(conn, user_id=user_id, module_slug="m1")) == [("m1", "q2"), ("m1", "q1")]
    assert found(await get(conn, user_id=user_id, question_id="q2")) == [("m2", "q2"), ("m1", "q2")]
    assert found(await get(conn, user_id=user_id, module_slug="m2", question_id="q1")) == [
        ("m2", "q1")
    ]
    assert await get(conn, user_id=user_id, module_slug="m3") == []


async def test_both_owners_are_read_in_one_order(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """With both owners their rows come merged, newest first, within limit and cursor."""
    stored = [
        await submit(conn, f"q{number}", **owner)
        for number in range(3)
        for owner in ({"user_id": user_id}, {"anonymous_token": token})
    ]
    newest_first = list(reversed(stored))
    both: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}

    assert await assessments.get_responses(conn, **both) == newest_first
    assert await assessments.get_responses(conn, **both, limit=4) == newest_first[:4]
    last = newest_first[2]
    assert (
        await assessments.get_responses(
            conn, **both, limit=2, before=(last["created_at"], last["response_id"])
        )
        == newest_first[3:5]
    )
    assert (
        await assessments.get_responses_for_question(conn, **both, question_id="q1")
        == newest_first[2:4]
    )


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 12])
async def test_pages_give_each_row_once(
    conn: asyncpg.Connection[Any], user_id: int, page_size: int
) -> None:
    """Paging by cursor over equal timestamps, with rows arriving, gives each earlier row once."""
    for _ in range(4):
        async with conn.transaction():
            await submit_all(conn, ("q1", "q2", "q3"), user_id=user_id)
    expected = ids(await assessments.get_responses(conn, user_id=user_id))

    seen: list[int] = []
    before = None
    while page := await assessments.get_responses(
        conn, user_id=user_id, limit=page_size, before=before
    ):
        seen += ids(page)
        before = (page[-1]["created_at"], page[-1]["response_id"])
        await submit(conn, "arrived", user_id=user_id)

    assert seen == expected


async def test_a_page_after_exactly_the_last_row_is_empty(
    conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """Where limit rows were left and taken, the next page is empty and not an error."""
    await submit_all(conn, ("q1", "q2"), user_id=user_id)
    page = await assessments.get_responses(conn, user_id=user_id, limit=2)
    last = page[-1]

    assert questions(page) == ["q2", "q1"]
    assert (
        await assessments.get_responses(
            conn, user_id=user_id, limit=2, before=(last["created_at"], last["response_id"])
        )
        == []
    )
