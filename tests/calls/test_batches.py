"""Batches: many items in one statement, in the order given, all or nothing.

`test_validation.py` has what a batch and an item may not hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

import assessments
from assessments import get_responses, get_scores, submit_responses
from assessments.backoffice import record_scores
from tests.helpers.observe import StatementLog
from tests.helpers.rows import counts, ids, new_response, new_user, submit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    import asyncpg

    from assessments import NewScore

    Connection = asyncpg.Connection[Any]

LARGEST = 10_000


def new_scores(response_ids: Iterable[int]) -> list[NewScore]:
    """Return a score of each response."""
    return [{"response_id": each, "score_data": {"of": each}} for each in response_ids]


async def test_submit_responses_returns_what_each_submit_would(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """Rows of several owners come back in the order given, as a single submit returns them."""
    user, other, anonymous = user_id, await new_user(conn), token
    given = [
        new_response("b", user_id=user, answer_metadata={"a": [1, 2.5, None]}),
        new_response("a", user_id=other),
        new_response("a", anonymous_token=str(anonymous), learning_outcome_id="lo"),
        new_response("c", user_id=user, content_id=uuid4(), answer_text=""),
        new_response("a", anonymous_token=anonymous, answer_text='{"a", NULL} \\ é 漢字'),
    ]

    async with conn.transaction():
        batch = await submit_responses(conn, given)
        single = [await submit(conn, **each) for each in given]

    assert [{**row, "response_id": 0} for row in batch] == [
        {**row, "response_id": 0} for row in single
    ]
    assert ids(batch) == sorted(ids(batch))
    newest_first = [*reversed(single), *reversed(batch)]
    for owner in ({"user_id": user}, {"user_id": other}, {"anonymous_token": anonymous}):
        own = [row for row in newest_first if owner.items() <= row.items()]
        assert await get_responses(conn, **owner) == own


async def test_record_scores_returns_what_each_record_would(conn: Connection, token: UUID) -> None:
    """Scores come back in the order given, several for one response included."""
    first, second = ids([await submit(conn, anonymous_token=token) for _ in range(2)])
    given: list[NewScore] = [
        {"response_id": second, "score_data": {"points": 1}},
        {"response_id": first, "score_data": {}, "model_id": "m"},
        {"response_id": second, "score_data": {"é": [1]}, "prompt_version": "p"},
    ]

    recorded = await record_scores(conn, given)

    expected = [{"model_id": None, "prompt_version": None, **each} for each in given]
    for row, want in zip(recorded, expected, strict=True):
        assert {name: row[name] for name in want} == want  # type: ignore[literal-required]
    for response_id in (first, second):
        scores = await get_scores(conn, response_id=response_id, anonymous_token=token)
        assert scores == [row for row in recorded[::-1] if row["response_id"] == response_id]


async def test_the_largest_batch_keeps_its_order(conn: Connection, token: UUID) -> None:
    """Ten thousand items, in any sequence, are stored and come back in the order given."""
    texts = [str(number) for number in range(LARGEST)]
    given = tuple(new_response(anonymous_token=token, answer_text=text) for text in texts)

    rows = await submit_responses(conn, given)
    scores = await record_scores(conn, tuple(new_scores(ids(rows))))

    assert [row["answer_text"] for row in rows] == texts
    assert [score["response_id"] for score in scores] == ids(rows)
    assert await counts(conn) == (LARGEST, LARGEST)


async def test_a_batch_is_one_statement_and_an_empty_one_none(
    conn: Connection, token: UUID
) -> None:
    """A batch of any size is one round trip, once asyncpg knows the array types of it."""

    async def submit_and_score(size: int) -> None:
        rows = await submit_responses(conn, [new_response(anonymous_token=token)] * size)
        assert len(rows) == size
        assert len(await record_scores(conn, new_scores(ids(rows)))) == size

    await submit_and_score(1)
    sent = StatementLog(conn)
    await submit_and_score(50)
    await submit_and_score(0)

    assert [query.split(" ", 3)[1] for query in await sent.complete()] == [
        "assessments.submit_responses",
        "assessments.record_scores",
    ]


async def test_a_batch_too_large_for_one_statement_is_refused(
    conn: Connection, token: UUID
) -> None:
    """Over 64 Mi characters of text are refused before anything is sent."""
    sent = StatementLog(conn)
    large = [new_response(anonymous_token=token, answer_text="a" * 1024**2)] * 64

    with pytest.raises(assessments.InvalidInput) as raised:
        await submit_responses(conn, large)

    assert raised.value.parameter == "responses"
    assert await sent.complete() == []


async def test_an_unknown_parent_refuses_the_batch_by_position(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """The error names the first such item; nothing is stored, and the transaction goes on."""
    good = [new_response(user_id=user_id), new_response(anonymous_token=token)]
    unknown = new_response(user_id=2**40)
    async with conn.transaction():
        with pytest.raises(assessments.UnknownUser) as no_user:
            await submit_responses(conn, [*good, unknown, good[0], unknown])
        assert await counts(conn) == (0, 0)

        known = ids(await submit_responses(conn, good))
        with pytest.raises(assessments.UnknownResponse) as no_response:
            await record_scores(conn, new_scores([known[0], 10**6, known[1], 10**6]))
        assert await counts(conn) == (2, 0)
        await record_scores(conn, new_scores(known))

    assert no_user.value.parameter == "responses[2]"
    assert str(no_user.value).startswith("responses[2]: ")
    assert no_response.value.parameter == "scores[1]"
    assert await counts(conn) == (2, 2)
