"""Submission keys: a submission with a key is idempotent, alone and in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from assessments import (
    SubmissionConflict,
    UnknownUser,
    claim_assessment_responses,
    delete_responses,
    get_responses,
    submit_responses,
)
from tests.helpers.observe import StatementLog
from tests.helpers.rows import counts, ids, new_response, new_user, questions, submit

if TYPE_CHECKING:
    from assessments import NewResponse

    Connection = asyncpg.Connection[Any]

KEY = uuid4()
CONTENT: Any = {
    "question_id": "q1",
    "module_slug": "m1",
    "learning_outcome_id": "lo1",
    "content_id": uuid4(),
    "answer_text": "Because leaves are green.",
    "answer_metadata": {"locale": "en", "parts": [1, 2.5, None]},
}
CHANGES: list[dict[str, Any]] = [
    {"question_id": "q2"},
    {"module_slug": "m2"},
    {"learning_outcome_id": "lo2"},
    {"learning_outcome_id": None},
    {"content_id": UUID(int=1)},
    {"content_id": None},
    {"answer_text": "Because leaves are green"},
    {"answer_text": ""},
    {"answer_metadata": None},
    {"answer_metadata": {"locale": "en", "parts": [2.5, 1, None]}},
]


def item(token: UUID, key: UUID | None, number: int = 0) -> NewResponse:
    """Return a batch item whose content is its *number*."""
    answer = f"Because of {number}."
    return new_response(f"q{number}", anonymous_token=token, answer_text=answer, submission_key=key)


async def test_a_retry_returns_the_stored_row(conn: Connection, token: UUID) -> None:
    """The same key, owner and content return it, whatever the form of UUIDs and equal JSON."""
    first = await submit(conn, anonymous_token=token, submission_key=KEY, **CONTENT)
    same = {"parts": [1.0, 2.5, None], "locale": "en"}

    retries = [
        await submit(conn, anonymous_token=token, submission_key=KEY, **CONTENT),
        await submit(conn, anonymous_token=str(token), submission_key=str(KEY).upper(), **CONTENT),
        await submit(
            conn, anonymous_token=token, submission_key=KEY, **CONTENT | {"answer_metadata": same}
        ),
    ]

    assert retries == [first] * 3
    assert {name: first[name] for name in CONTENT} == CONTENT  # type: ignore[literal-required]
    assert await counts(conn) == (1, 0)


async def test_without_a_key_every_call_is_a_new_row(conn: Connection, token: UUID) -> None:
    """Equal submissions without a key, or with a key each, are separate attempts."""
    stored = [
        await submit(conn, anonymous_token=token, submission_key=submission_key, **CONTENT)
        for submission_key in (None, None, uuid4(), uuid4())
    ]

    assert ids(stored) == sorted(set(ids(stored)))
    assert await counts(conn) == (4, 0)


@pytest.mark.parametrize("change", CHANGES, ids=repr)
async def test_other_content_is_a_conflict_and_the_transaction_goes_on(
    conn: Connection, token: UUID, change: dict[str, Any]
) -> None:
    """A key reused for other content stores, changes and aborts nothing."""
    owner: Any = {"anonymous_token": token, "submission_key": KEY}
    async with conn.transaction():
        first = await submit(conn, **CONTENT, **owner)
        with pytest.raises(SubmissionConflict) as raised:
            await submit(conn, **CONTENT | change, **owner)
        assert await get_responses(conn, anonymous_token=token) == [first]

    assert raised.value.parameter is None


async def test_a_conflict_reveals_nothing_of_another_owner_s_row(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """Another owner's key is the same conflict whether the content is the same or not."""
    await submit(conn, user_id=user_id, submission_key=KEY, **CONTENT)
    messages = set()
    for owner in ({"anonymous_token": token}, {"user_id": await new_user(conn)}):
        for change in ({}, {"answer_text": "Mine."}):
            with pytest.raises(SubmissionConflict) as raised:
                await submit(conn, submission_key=KEY, **CONTENT | change, **owner)
            messages.add(repr(raised.value) + str(raised.value))

    assert len(messages) == 1
    assert await counts(conn) == (1, 0)


async def test_after_a_claim_the_key_is_the_user_s(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """The user's retry returns the claimed row; the anonymous owner's late retry conflicts."""
    first = await submit(conn, anonymous_token=token, submission_key=KEY)
    await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)

    retry = await submit(conn, user_id=user_id, submission_key=KEY)
    with pytest.raises(SubmissionConflict):
        await submit(conn, anonymous_token=token, submission_key=KEY)

    assert retry == {**first, "user_id": user_id, "anonymous_token": None}
    assert await counts(conn) == (1, 0)


async def test_after_an_erasure_the_key_is_free(conn: Connection, token: UUID) -> None:
    """The key of an erased response may be used by anybody."""
    first = await submit(conn, anonymous_token=token, submission_key=KEY)
    await delete_responses(conn, anonymous_token=token)

    second = await submit(conn, anonymous_token=uuid4(), submission_key=KEY)

    assert second["response_id"] > first["response_id"]


async def test_an_unknown_user_comes_before_a_conflict(conn: Connection, token: UUID) -> None:
    """UnknownUser is raised for a free key and a used one, and the transaction goes on."""
    async with conn.transaction():
        with pytest.raises(UnknownUser):
            await submit(conn, user_id=2**40, submission_key=KEY)
        await submit(conn, anonymous_token=token, submission_key=KEY)
        with pytest.raises(UnknownUser):
            await submit(conn, user_id=2**40, submission_key=KEY)
        assert await counts(conn) == (1, 0)


async def test_a_first_submission_is_one_statement(conn: Connection, token: UUID) -> None:
    """A key costs no further round trip unless the call is a retry."""
    sent = StatementLog(conn)

    await submit(conn, anonymous_token=token, submission_key=KEY)

    assert len(await sent.complete()) == 1


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_a_row_newer_than_the_snapshot_is_a_serialization_failure(
    conn: Connection, other: Connection, token: UUID, isolation: Any
) -> None:
    """At those isolation levels a retry in a new transaction returns the row."""
    transaction = conn.transaction(isolation=isolation)
    await transaction.start()
    await conn.execute("SELECT 1")
    first = await submit(other, anonymous_token=token, submission_key=KEY)
    with pytest.raises(asyncpg.SerializationError):
        await submit(conn, anonymous_token=token, submission_key=KEY)
    await transaction.rollback()

    async with conn.transaction(isolation=isolation):
        assert await submit(conn, anonymous_token=token, submission_key=KEY) == first


async def test_a_retried_batch_returns_the_stored_rows(
    pool: asyncpg.Pool[Any], token: UUID
) -> None:
    """Any part of the largest batch may be retried, in any order; nothing is stored twice."""
    given = [item(token, uuid4(), number) for number in range(10_000)]

    half = await submit_responses(pool, given[::2])
    stored = await submit_responses(pool, given)

    assert stored[::2] == half
    assert questions(stored) == [f"q{number}" for number in range(10_000)]
    assert await submit_responses(pool, given) == stored
    assert await submit_responses(pool, given[::-1]) == stored[::-1]
    assert await pool.fetchval("SELECT count(*) FROM assessment_responses") == 10_000


async def test_a_batch_mixes_retries_new_items_and_items_without_a_key(
    conn: Connection, token: UUID
) -> None:
    """Only what is new is stored, and each item comes back at its position."""
    keys = [uuid4() for _ in range(4)]
    before = await submit_responses(conn, [item(token, keys[n], n) for n in (1, 3)])
    mixed = [None, keys[1], keys[0], None, keys[3], keys[2], keys[0], None]
    numbers = [7, 1, 0, 8, 3, 2, 0, 9]

    rows = await submit_responses(conn, list(map(item, [token] * 8, mixed, numbers)))

    assert questions(rows) == [f"q{number}" for number in numbers]
    assert [rows[1], rows[4]] == before
    assert rows[6] == rows[2]
    assert await counts(conn) == (8 - 1, 0)
    assert ids(rows[n] for n in (0, 2, 3, 5, 7)) == sorted(set(ids(rows)) - set(ids(before)))


@pytest.mark.parametrize("position", [0, 3, 5])
@pytest.mark.parametrize("error", [SubmissionConflict, UnknownUser])
async def test_a_refused_item_is_named_by_its_position(
    conn: Connection, token: UUID, position: int, error: Any
) -> None:
    """One such item refuses a batch with keys; nothing is stored, and the transaction goes on."""
    bad: NewResponse = item(token, KEY, 9)
    if error is UnknownUser:
        bad |= {"anonymous_token": None, "user_id": 2**40, "submission_key": uuid4()}
    await submit(conn, anonymous_token=token, submission_key=KEY)
    stored = item(token, uuid4(), 1)
    given = [stored, *(item(token, uuid4() if n % 2 else None) for n in range(4))]
    given.insert(position, bad)
    async with conn.transaction():
        await submit_responses(conn, [stored])
        with pytest.raises(error) as raised:
            await submit_responses(conn, given)
        assert await counts(conn) == (2, 0)

    assert raised.value.parameter == f"responses[{position}]"
    assert not conn.is_in_transaction()


async def test_a_key_used_twice_in_a_batch_is_one_row(conn: Connection, token: UUID) -> None:
    """Equal items with one key are one row; others are a conflict, named by the second."""
    same, other = item(token, KEY), item(token, KEY, 1)

    with pytest.raises(SubmissionConflict) as raised:
        await submit_responses(conn, [same, other])
    rows = await submit_responses(conn, [same, same])

    assert raised.value.parameter == "responses[1]"
    assert rows[0] == rows[1]
    assert await counts(conn) == (1, 0)
