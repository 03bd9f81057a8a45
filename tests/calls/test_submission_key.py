"""A submit with a key may be sent again: one row, and one answer to every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import (
    SubmissionConflict,
    claim_assessment_responses,
    delete_responses,
    inputs,
    submit_responses,
)
from tests.helpers.observe import StatementLog
from tests.helpers.rows import ids, new_user, submit

if TYPE_CHECKING:
    from assessments import NewResponse

CONTENT_ID = UUID("6f0f0b54-3a3c-4f0e-9d6a-2f6f2f1c9b1e")
CONTENT: Any = {
    "question_id": "q1",
    "module_slug": "m1",
    "learning_outcome_id": "lo1",
    "content_id": CONTENT_ID,
    "answer_text": "Because leaves are green.",
    "answer_metadata": {"locale": "en", "parts": [1, 2.5, None]},
}
OTHERS: list[dict[str, Any]] = [
    {"question_id": "q2"},
    {"module_slug": "m2"},
    {"learning_outcome_id": "lo2"},
    {"learning_outcome_id": None},
    {"content_id": uuid4()},
    {"content_id": None},
    {"answer_text": "Because leaves are green"},
    {"answer_text": ""},
    {"answer_metadata": None},
    {"answer_metadata": {"locale": "en", "parts": [2.5, 1, None]}},
]


@pytest.fixture
def key() -> UUID:
    """Return a submission key."""
    return uuid4()


async def count(conn: asyncpg.Connection[Any]) -> int:
    """Return how many responses there are."""
    number: int = await conn.fetchval("SELECT count(*) FROM assessment_responses")
    return number


async def test_a_submit_sent_again_gives_the_row_already_stored(
    conn: asyncpg.Connection[Any], token: UUID, key: UUID
) -> None:
    """The same key, owner and content give back the very row, in whatever form they are given."""
    first = await submit(conn, anonymous_token=token, submission_key=key, **CONTENT)

    again = [
        await submit(conn, anonymous_token=token, submission_key=key, **CONTENT),
        await submit(conn, anonymous_token=str(token), submission_key=str(key).upper(), **CONTENT),
    ]

    assert again == [first, first]
    assert {name: first[name] for name in CONTENT} == CONTENT  # type: ignore[literal-required]
    assert await count(conn) == 1


async def test_metadata_is_the_same_when_its_json_is(
    conn: asyncpg.Connection[Any], token: UUID, key: UUID
) -> None:
    """A client that writes the same JSON in another order, or 1.0 for 1, has not changed it."""
    owner: Any = {"anonymous_token": token, "submission_key": key}
    first = await submit(conn, answer_metadata={"a": 1, "b": [None, "é"]}, **owner)

    again = await submit(conn, answer_metadata={"b": [None, "é"], "a": 1.0}, **owner)

    assert again["response_id"] == first["response_id"]


async def test_without_a_key_every_call_is_an_attempt(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """No key, or a key of its own, makes each of equal submits a row."""
    for submission_key in (None, None, uuid4(), uuid4()):
        await submit(conn, anonymous_token=token, submission_key=submission_key, **CONTENT)

    assert await count(conn) == 4


@pytest.mark.parametrize("change", OTHERS, ids=repr)
async def test_another_content_is_a_conflict_and_the_transaction_goes_on(
    conn: asyncpg.Connection[Any], token: UUID, key: UUID, change: dict[str, Any]
) -> None:
    """A key is not reused for anything else: nothing is stored or changed, nothing is aborted."""
    owner: Any = {"anonymous_token": token, "submission_key": key}
    async with conn.transaction():
        first = await submit(conn, **CONTENT, **owner)
        with pytest.raises(SubmissionConflict) as raised:
            await submit(conn, **CONTENT | change, **owner)
        assert await assessments.get_responses(conn, anonymous_token=token) == [first]

    assert raised.value.parameter is None


async def test_another_owner_learns_nothing_of_the_row(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, key: UUID
) -> None:
    """Another's key is a conflict in the same words, whether the content is the same or not."""
    await submit(conn, user_id=user_id, submission_key=key, **CONTENT)
    told = set()
    for owner in ({"anonymous_token": token}, {"user_id": await new_user(conn)}):
        for change in ({}, {"answer_text": "Mine."}):
            with pytest.raises(SubmissionConflict) as raised:
                await submit(conn, submission_key=key, **CONTENT | change, **owner)
            told.add(repr(raised.value) + str(raised.value))

    assert len(told) == 1
    assert await count(conn) == 1


async def test_after_a_claim_the_key_is_the_user_s(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, key: UUID
) -> None:
    """Sent again by the user it gives the claimed row; a late retry of the visitor's conflicts."""
    first = await submit(conn, anonymous_token=token, submission_key=key)
    await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)

    again = await submit(conn, user_id=user_id, submission_key=key)
    with pytest.raises(SubmissionConflict):
        await submit(conn, anonymous_token=token, submission_key=key)

    assert again == {**first, "user_id": user_id, "anonymous_token": None}
    assert await count(conn) == 1


async def test_after_an_erasure_the_key_is_free(
    conn: asyncpg.Connection[Any], token: UUID, key: UUID
) -> None:
    """What is erased is not remembered by its key."""
    first = await submit(conn, anonymous_token=token, submission_key=key)
    await delete_responses(conn, anonymous_token=token)

    again = await submit(conn, anonymous_token=uuid4(), submission_key=key)

    assert again["response_id"] > first["response_id"]


async def test_an_unknown_user_is_named_as_such(
    conn: asyncpg.Connection[Any], token: UUID, key: UUID
) -> None:
    """UnknownUser comes before any conflict, stores nothing and leaves the transaction usable."""
    async with conn.transaction():
        with pytest.raises(assessments.UnknownUser):
            await submit(conn, user_id=2**40, submission_key=key)
        await submit(conn, anonymous_token=token, submission_key=key)
        with pytest.raises(assessments.UnknownUser):
            await submit(conn, user_id=2**40, submission_key=key)
        assert await count(conn) == 1


async def test_a_first_submit_is_one_statement(
    conn: asyncpg.Connection[Any], token: UUID, key: UUID
) -> None:
    """A key costs no further round trip until the submit is sent again."""
    sent = StatementLog(conn)

    await submit(conn, anonymous_token=token, submission_key=key)
    assert len(await sent.complete()) == 1


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_a_row_too_new_for_the_snapshot_is_postgresql_s_to_refuse(
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    token: UUID,
    key: UUID,
    isolation: Any,
) -> None:
    """There a retry fails as a serialization failure and, in a new transaction, finds the row."""
    transaction = conn.transaction(isolation=isolation)
    await transaction.start()
    await conn.execute("SELECT 1")
    first = await submit(other, anonymous_token=token, submission_key=key)
    with pytest.raises(asyncpg.SerializationError):
        await submit(conn, anonymous_token=token, submission_key=key)
    await transaction.rollback()

    async with conn.transaction(isolation=isolation):
        assert await submit(conn, anonymous_token=token, submission_key=key) == first


def new_response(token: UUID, key: UUID | None, number: int = 0) -> NewResponse:
    """Return a response to submit."""
    return {
        "anonymous_token": token,
        "question_id": f"q{number}",
        "module_slug": "m1",
        "answer_text": f"Because of {number}.",
        "submission_key": key,
    }


async def test_a_batch_sent_again_gives_the_rows_already_stored(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """Every element comes back as it was stored, in the order given, and none is stored twice."""
    given = [new_response(token, uuid4(), number) for number in range(20)]
    first = await submit_responses(conn, given)

    assert await submit_responses(conn, given) == first
    assert await submit_responses(conn, given[::-1]) == first[::-1]
    assert ids(first) == sorted(ids(first))
    assert await count(conn) == 20


async def test_a_batch_may_hold_what_is_stored_what_is_new_and_what_has_no_key(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """Only what is new is stored, and each element comes back in its own place."""
    keys = [uuid4() for _ in range(4)]
    before = await submit_responses(conn, [new_response(token, keys[n], n) for n in (1, 3)])
    mixed: list[UUID | None] = [None, keys[1], keys[0], None, keys[3], keys[2], keys[0], None]
    numbers = [7, 1, 0, 8, 3, 2, 0, 9]

    rows = await submit_responses(conn, list(map(new_response, [token] * 8, mixed, numbers)))

    assert [row["question_id"] for row in rows] == [f"q{number}" for number in numbers]
    assert [rows[1], rows[4]] == before
    assert rows[6] == rows[2]
    assert await count(conn) == 8 - 1
    assert ids(rows[n] for n in (0, 2, 3, 5, 7)) == sorted(set(ids(rows)) - set(ids(before)))


@pytest.mark.parametrize("place", [0, 3, 5])
async def test_a_conflict_in_a_batch_is_named_by_its_place(
    conn: asyncpg.Connection[Any], token: UUID, key: UUID, place: int
) -> None:
    """One element in conflict refuses the batch; nothing is stored, the transaction goes on."""
    await submit(conn, anonymous_token=token, submission_key=key)
    stored = new_response(token, uuid4(), 1)
    given = [stored, *(new_response(token, uuid4() if n % 2 else None) for n in range(4))]
    given.insert(place, new_response(token, key, 9))
    async with conn.transaction():
        await submit_responses(conn, [stored])
        with pytest.raises(SubmissionConflict) as raised:
            await submit_responses(conn, given)
        assert await count(conn) == 2

    assert raised.value.parameter == f"responses[{place}]"
    assert not conn.is_in_transaction()


async def test_a_key_given_twice_in_a_batch_stands_for_one_submit(
    conn: asyncpg.Connection[Any], token: UUID, key: UUID
) -> None:
    """Two elements with a key are one row where they are equal, else a conflict at the second."""
    same, other = new_response(token, key), new_response(token, key, 1)

    with pytest.raises(SubmissionConflict) as raised:
        await submit_responses(conn, [same, other])
    rows = await submit_responses(conn, [same, same])

    assert raised.value.parameter == "responses[1]"
    assert rows[0] == rows[1]
    assert await count(conn) == 1


async def test_an_unknown_user_in_a_batch_with_keys_is_named_by_its_place(
    conn: asyncpg.Connection[Any], token: UUID, key: UUID
) -> None:
    """UnknownUser names the element, though others were stored before; nothing is stored."""
    await submit_responses(conn, [new_response(token, key)])
    unknown: Any = {**new_response(token, uuid4()), "anonymous_token": None, "user_id": 2**40}
    given = [new_response(token, key), new_response(token, None), new_response(token, uuid4())]

    async with conn.transaction():
        with pytest.raises(assessments.UnknownUser) as raised:
            await submit_responses(conn, [*given, unknown])
        assert await count(conn) == 1

    assert raised.value.parameter == "responses[3]"


async def test_the_largest_batch_may_be_sent_again(pool: asyncpg.Pool[Any], token: UUID) -> None:
    """Ten thousand elements are found again by their keys, through a pool."""
    given = [new_response(token, uuid4(), number) for number in range(inputs.MAX_BATCH)]

    first = await submit_responses(pool, given[::2])
    both = await submit_responses(pool, given)

    assert both[::2] == first
    assert await submit_responses(pool, given) == both
