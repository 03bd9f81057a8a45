"""Concurrent submissions with one key store one response."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg

from assessments import delete_responses, get_responses, submit_responses
from tests.helpers.rows import ids, new_response, submit
from tests.helpers.transactions import Connection, blocked, open_transaction, outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from assessments import AssessmentResponse, NewResponse


async def test_concurrent_submissions_with_one_key_store_one_row(
    database: str, chance: Random, figures: Callable[..., None], scale: int
) -> None:
    """Four connections submit each of 500 keys concurrently, and every call returns one row."""
    owners = {uuid4(): uuid4() for _ in range(500 * scale)}
    keys = list(owners)
    four = [await asyncpg.connect(database) for _ in range(4)]

    async def submit_each(conn: Connection, block: list[UUID]) -> dict[UUID, AssessmentResponse]:
        return {
            key: await submit(conn, anonymous_token=owners[key], submission_key=key)
            for key in chance.sample(block, len(block))
        }

    calls = anomalies = 0
    for first in range(0, len(keys), 5):
        block = keys[first : first + 5]
        results = await asyncio.gather(*(submit_each(conn, block) for conn in four))
        for key in block:
            rows = [result[key] for result in results]
            calls += len(rows)
            stored = await get_responses(four[0], anonymous_token=owners[key])
            anomalies += rows != stored * len(four)
    count = await four[0].fetchval("SELECT count(*) FROM assessment_responses")
    for conn in four:
        await conn.close()

    figures("submits with one key", calls=calls, keys=len(keys), anomalies=anomalies)
    assert (count, anomalies) == (len(keys), 0)


async def test_a_retry_during_the_erasure_of_its_row_stores_it_anew(
    conn: Connection, other: Connection, database: str, token: UUID
) -> None:
    """An erasure between its two statements leaves no row to return, and frees the key."""
    owner: dict[str, Any] = {"anonymous_token": token, "submission_key": uuid4()}
    erased = await submit(conn, **owner)
    third = await asyncpg.connect(database)

    async with open_transaction(conn, "rollback"):
        await delete_responses(conn, anonymous_token=token)
        retry = await blocked(outcome(submit(other, **owner)), by=conn, on=other)
        transaction = third.transaction()
        await transaction.start()
        lock = third.execute("LOCK TABLE assessment_responses")  # next in turn, before any lookup
        locking = await blocked(lock, by=conn, on=third)
    await locking
    assert await delete_responses(third, anonymous_token=token) == 1
    await transaction.commit()
    await third.close()

    stored = await retry
    assert stored["response_id"] > erased["response_id"]
    assert await submit(conn, **owner) == stored


async def test_batches_with_the_same_keys_in_another_order_can_be_retried(
    conn: Connection, other: Connection, database: str, token: UUID
) -> None:
    """They may deadlock, and the one that PostgreSQL ends gets the other's rows on its retry."""
    batch = [
        new_response(f"q{number}", anonymous_token=token, submission_key=uuid4())
        for number in range(3)
    ]
    deadlocks = []

    async def submit_until_stored(
        on: Connection, batch: list[NewResponse]
    ) -> list[AssessmentResponse]:
        while True:
            try:
                return await submit_responses(on, batch)
            except asyncpg.DeadlockDetectedError as error:  # noqa: PERF203 - each is a retry
                deadlocks.append(error)

    third = await asyncpg.connect(database)
    async with open_transaction(third, "rollback"):  # blocks both half-way
        await submit_responses(third, batch[1:2])
        submitting = [
            await blocked(submit_until_stored(on, ordered), by=third, on=on)
            for on, ordered in ((conn, batch), (other, batch[::-1]))
        ]
    rows, reversed_rows = await asyncio.wait_for(asyncio.gather(*submitting), 60)
    await third.close()

    assert deadlocks
    assert rows == reversed_rows[::-1]
    assert sorted(ids(rows)) == sorted(ids(await get_responses(conn, anonymous_token=token)))


async def test_a_key_given_twice_is_stored_where_it_stands_first(
    conn: Connection, other: Connection, database: str
) -> None:
    """A row erased between a batch's two uses of its key leaves each row in its place."""
    tokens, keys = [uuid4(), uuid4()], [uuid4(), uuid4()]
    requests = [
        new_response(anonymous_token=token, submission_key=key)
        for token, key in zip(tokens, keys, strict=True)
    ]
    await submit_responses(conn, requests[:1])
    third = await asyncpg.connect(database)
    async with open_transaction(third, "rollback"):  # blocks the batch half-way
        await submit_responses(third, requests[1:])
        batch = [*requests, requests[0]]
        submitting = await blocked(submit_responses(other, batch), by=third, on=other)
        assert await delete_responses(conn, anonymous_token=tokens[0]) == 1
    await third.close()

    rows = await submitting
    assert [row["anonymous_token"] for row in rows] == [*tokens, tokens[0]]
    assert rows[0] == rows[2]
    assert await get_responses(conn, anonymous_token=tokens[0]) == rows[:1]
