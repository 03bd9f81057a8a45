"""Submitting and reading one's own responses."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

import assessments
from assessments import (
    claim_assessment_responses,
    get_latest_responses,
    get_responses,
    get_responses_for_question,
    get_responses_with_latest_score,
)
from assessments.backoffice import record_score
from tests.helpers.calls import TOKEN, Subject, catalogue
from tests.helpers.rows import counts, ids, submit, submit_all

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[Any]

OPTIONAL: dict[str, Any] = {
    "learning_outcome_id": "lo1",
    "content_id": uuid4(),
    "answer_metadata": {"seconds": 12, "nested": {"list": [1, 2.5, None, True, "é"]}},
}


@pytest.mark.parametrize("given", [OPTIONAL, {}], ids=["every column", "required columns"])
@pytest.mark.parametrize("owner", ["user_id", "anonymous_token"])
async def test_submit_and_reads_return_the_row_as_stored(
    conn: Connection, user_id: int, token: UUID, owner: str, given: dict[str, Any]
) -> None:
    """Columns come back typed, by name and in order; an omitted one is None, or {} for metadata."""
    owners: dict[str, Any] = {"user_id": None, "anonymous_token": None}
    owners[owner] = {"user_id": user_id, "anonymous_token": token}[owner]
    before = datetime.now(timezone.utc) - timedelta(minutes=1)

    stored = await assessments.submit_response(
        conn, question_id="q1", module_slug="m1", answer_text="Because.", **owners, **given
    )

    assert type(stored) is dict
    assert isinstance(stored["response_id"], int)
    assert isinstance(stored["anonymous_token"], (UUID, type(None)))
    assert before < stored["created_at"] < before + timedelta(minutes=2)
    assert dict(stored) == {
        "response_id": stored["response_id"],
        **owners,
        "question_id": "q1",
        "module_slug": "m1",
        **({"learning_outcome_id": None, "content_id": None, "answer_metadata": {}} | given),
        "answer_text": "Because.",
        "created_at": stored["created_at"],
    }
    assert list(stored) == list(assessments.AssessmentResponse.__annotations__)
    assert await get_responses(conn, **owners) == [stored]
    assert await get_responses_for_question(conn, **owners, question_id="q1") == [stored]


async def test_an_unknown_user_is_refused_and_the_transaction_goes_on(
    conn: Connection, token: UUID
) -> None:
    """A user_id that is not in users raises UnknownUser, stores nothing and aborts nothing."""
    async with conn.transaction():
        with pytest.raises(assessments.UnknownUser):
            await submit(conn, user_id=2**40)
        await submit(conn, anonymous_token=token)

    assert await counts(conn) == (1, 0)


async def test_the_caller_s_transaction_decides(conn: Connection, user_id: int) -> None:
    """A submission in a transaction that the caller rolls back is not stored."""
    transaction = conn.transaction()
    await transaction.start()
    await submit(conn, user_id=user_id)
    await transaction.rollback()

    assert await counts(conn) == (0, 0)


async def test_every_function_takes_a_connection_a_pool_and_a_pool_s_connection(
    conn: Connection, pool: asyncpg.Pool[Any], user_id: int
) -> None:
    """All three do the same, and a pool has every connection back afterwards."""
    results = []
    async with pool.acquire() as pooled:
        for each in (conn, pooled, pool):
            sizes: dict[str, Any] = {}
            for name in catalogue():
                await conn.execute("DELETE FROM assessment_responses")
                response_id = (await submit(conn, anonymous_token=TOKEN))["response_id"]
                await record_score(conn, response_id=response_id, score_data={})
                subject = Subject(user_id=user_id, response_id=response_id)
                result = await catalogue(subject)[name](each)
                sizes[name] = len(result) if isinstance(result, (list, dict)) else result
            results.append(sizes)

    assert results[0] == results[1] == results[2]
    assert results[0]["get_scores"] == results[0]["claim_assessment_responses"] == 1
    assert pool.get_idle_size() == pool.get_size()


async def test_newest_first_even_within_one_transaction(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """Rows of one transaction share created_at: response_id decides, also after a claim."""
    async with conn.transaction():
        stored = [await submit(conn, f"q{number}", anonymous_token=token) for number in range(5)]
    newest_first = ids(reversed(stored))

    assert len({response["created_at"] for response in stored}) == 1
    assert ids(await get_responses(conn, anonymous_token=token)) == newest_first

    await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
    assert ids(await get_responses(conn, user_id=user_id)) == newest_first


async def test_created_at_comes_before_response_id_in_the_order(
    conn: Connection, other: Connection, user_id: int
) -> None:
    """A transaction that began earlier and wrote later sorts by when it began."""
    async with other.transaction():
        await other.execute("SELECT 1")
        newer = await submit(conn, user_id=user_id)
        older = await submit(other, user_id=user_id)

    assert older["response_id"] > newer["response_id"]
    assert ids(await get_responses(conn, user_id=user_id)) == ids([newer, older])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"module_slug": "m1"}, ["m1 q2", "m1 q1"]),
        ({"question_id": "q2"}, ["m2 q2", "m1 q2"]),
        ({"module_slug": "m2", "question_id": "q1"}, ["m2 q1"]),
        ({"module_slug": "m3"}, []),
    ],
)
async def test_filters_narrow_the_list(
    conn: Connection, user_id: int, filters: dict[str, Any], expected: list[str]
) -> None:
    """A given filter narrows the list; both together narrow it to both."""
    for module_slug in ("m1", "m2"):
        for question_id in ("q1", "q2"):
            await submit(conn, question_id, module_slug=module_slug, user_id=user_id)

    rows = await get_responses(conn, user_id=user_id, **filters)

    assert [f"{row['module_slug']} {row['question_id']}" for row in rows] == expected


async def test_both_owners_are_read_in_one_order(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """The rows of two owners come merged, newest first, within limit and cursor."""
    both: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}
    stored = [
        await submit(conn, f"q{number}", **{name: owner})
        for number in range(3)
        for name, owner in both.items()
    ]
    newest_first = stored[::-1]
    cursor = newest_first[2]["created_at"], newest_first[2]["response_id"]

    assert await get_responses(conn, **both) == newest_first
    assert await get_responses(conn, **both, limit=4) == newest_first[:4]
    assert await get_responses(conn, **both, limit=2, before=cursor) == newest_first[3:5]
    assert await get_responses_for_question(conn, **both, question_id="q1") == newest_first[2:4]


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("get", [get_responses, get_responses_with_latest_score])
async def test_pages_return_each_row_once(
    conn: Connection, user_id: int, token: UUID, get: Any, page_size: int
) -> None:
    """Keyset pages over equal timestamps, with rows arriving, hold each earlier row once."""
    for _ in range(6):
        async with conn.transaction():
            await submit_all(conn, ("q1", "q2"), user_id=user_id)
            await submit_all(conn, ("q1", "q2"), anonymous_token=token)
    await submit(conn, anonymous_token=uuid4())
    user, anonymous = {"user_id": user_id}, {"anonymous_token": token}

    for owner in (user, anonymous, {**user, **anonymous}):
        for filters in ({}, {"question_id": "q2"}, {"module_slug": "m1"}, {"module_slug": "m9"}):
            narrowed: Any = {**owner, **filters}
            expected = ids(await get_responses(conn, **narrowed))
            seen: list[int] = []
            before = None
            while page := await get(conn, **narrowed, limit=page_size, before=before):
                seen += ids(page)
                assert len(page) <= page_size
                assert len(seen) <= len(expected)
                before = (page[-1]["created_at"], page[-1]["response_id"])
                await submit(conn, "q2", user_id=user_id)
            assert seen == expected


async def test_the_newest_response_to_each_question_newest_first(
    conn: Connection, user_id: int
) -> None:
    """Of several responses to a question the newest counts, by created_at, then response_id."""
    async with conn.transaction():
        await submit_all(conn, ("q1", "q10", "q2", "q10"), user_id=user_id)
    last = await submit(conn, "q1", user_id=user_id)
    stored = await get_responses(conn, user_id=user_id)

    latest = await get_latest_responses(conn, user_id=user_id)

    assert latest == [last, stored[1], stored[2]]
    assert [row["question_id"] for row in latest] == ["q1", "q10", "q2"]


async def test_of_two_owners_the_newer_response_counts(
    conn: Connection, user_id: int, token: UUID
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
    conn: Connection, user_id: int, token: UUID, owner: str
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
