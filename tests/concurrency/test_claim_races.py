"""Concurrent claims take each response, and each question, once; readers see them whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import delete_responses, get_responses
from assessments.backoffice import iter_responses
from tests.helpers.calls import Call
from tests.helpers.histories import TOKENS, TWO_USERS
from tests.helpers.model import Model, is_serial
from tests.helpers.rows import ids, new_user, questions, submit, submit_all
from tests.helpers.transactions import ENDS, Connection, blocked, open_transaction, started

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random

RACES = {  # how often, for which users, of which tokens
    "two tokens of one user": (300, (1, 1), TOKENS),
    "two users for one token": (100, (1, 2), TOKENS[:1] * 2),
}


def claim(conn: Any, token: UUID, user_id: int) -> Coroutine[Any, Any, int]:
    """Claim the token's responses for the user."""
    return assessments.claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)


@pytest.mark.parametrize("shared", ["user", "token"])
async def test_one_of_three_concurrent_claims_takes_a_question(
    conn: Connection, other: Connection, database: str, shared: str
) -> None:
    """Of three tokens for a user, or three users for a token, one gives or gets all rows."""
    third = await asyncpg.connect(database)
    for end in ENDS:
        users, tokens = [await new_user(conn) for _ in range(3)], [uuid4() for _ in range(3)]
        if shared == "user":
            users = users[:1] * 3
        else:
            tokens = tokens[:1] * 3
        for token in set(tokens):
            await submit_all(conn, ("q1", "q2"), anonymous_token=token)

        async with open_transaction(conn, end):
            first = await claim(conn, tokens[0], users[0])
            waiting = [
                await blocked(claim(on, tokens[n], users[n]), by=conn, on=on)
                for n, on in ((1, other), (2, third))
            ]
        claimed = [first if end == "commit" else 0, *await asyncio.gather(*waiting)]

        assert sorted(claimed) == [0, 0, 2]
        winner = claimed.index(2)
        assert questions(await get_responses(conn, user_id=users[winner])) == ["q2", "q1"]
        for token in set(tokens):
            left = await get_responses(conn, anonymous_token=token)
            assert len(left) == (0 if token == tokens[winner] else 2)
    await third.close()


@pytest.mark.parametrize("end", ENDS)
async def test_a_claim_skips_a_question_whose_answer_is_being_erased(
    conn: Connection,
    other: Connection,
    user_id: int,
    token: UUID,
    end: str,
) -> None:
    """A claim does not wait for the user's erasure, and the next claim takes what it skipped.

    This is the one pair that may end as in neither serial order; nothing is lost or doubled.
    """
    await submit(conn, "q1", user_id=user_id)
    await submit_all(conn, ("q1", "q2"), anonymous_token=token)

    async with open_transaction(conn, end):
        assert await delete_responses(conn, user_id=user_id) == 1
        claiming, waits = await started(claim(other, token, user_id), by=conn, on=other)
        assert not waits
    assert await claiming == 1

    assert questions(await get_responses(conn, anonymous_token=token)) == ["q1"]
    assert await claim(conn, token, user_id) == (end == "commit")


@pytest.mark.parametrize("end", ENDS)
async def test_a_claim_leaves_a_row_that_the_host_moves_meanwhile(
    conn: Connection, other: Connection, token: UUID, end: str
) -> None:
    """A row whose owner the host changes by its own UPDATE goes to that owner only."""
    users = [await new_user(conn), await new_user(conn)]
    await submit(conn, anonymous_token=token)

    async with open_transaction(conn, end):
        move = "UPDATE assessment_responses SET user_id = $1, anonymous_token = NULL"
        await conn.execute(move, users[0])
        claiming = await blocked(claim(other, token, users[1]), by=conn, on=other)

    assert await claiming == (end == "rollback")
    (row,) = await conn.fetch("SELECT user_id FROM assessment_responses")
    assert row["user_id"] == users[end == "rollback"]


@pytest.mark.parametrize("title", RACES)
async def test_concurrent_claims_take_a_question_once(
    conn: Connection,
    other: Connection,
    chance: Random,
    figures: Callable[..., None],
    title: str,
) -> None:
    """Of random pairs one takes what the other then finds answered or claimed; none is lost."""
    pairs, users, tokens = RACES[title]
    anomalies = 0
    for _ in range(pairs):
        await conn.execute(TWO_USERS)
        for token in tokens:
            bank = chance.choices(range(6), k=chance.randint(1, 6))
            await submit_all(conn, map(str, bank), anonymous_token=token)
        before = await Model.load(conn)
        claims = [
            Call("claim_assessment_responses", {"anonymous_token": token, "user_id": user_id})
            for token, user_id in zip(tokens, users, strict=True)
        ]

        claimed = await asyncio.gather(claims[0](conn), claims[1](other))

        after = await Model.load(conn)
        anomalies += not is_serial(before, list(zip(claims, claimed, strict=True)), after)

    figures(f"claims racing, {title}", pairs=pairs, anomalies=anomalies)
    assert anomalies == 0


async def test_a_claim_needs_one_connection_of_a_pool(database: str, conn: Connection) -> None:
    """Concurrent claims are right through a pool of one connection, and of four."""
    user_id, tokens = await new_user(conn), [uuid4() for _ in range(8)]
    for token in tokens:
        await submit_all(conn, ("q1", "q2"), anonymous_token=token)

    for size in (1, 4):
        async with asyncpg.create_pool(database, min_size=1, max_size=size) as pool:
            claimed = await asyncio.gather(*(claim(pool, token, user_id) for token in tokens))
            assert sum(claimed) == (2 if size == 1 else 0)
    assert len(ids(await get_responses(conn, user_id=user_id))) == 2


async def test_a_reader_sees_a_claim_whole_or_not_at_all(
    pool: asyncpg.Pool[Any],
    conn: Connection,
    figures: Callable[..., None],
    scale: int,
) -> None:
    """A reader with both owners gets every row once, all of one owner, during a claim."""
    bank = [f"q{number}" for number in range(6)]
    reads = seen_before = seen_after = anomalies = 0
    for _ in range(100 * scale):
        user_id, token = await new_user(conn), uuid4()
        both: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}
        await submit_all(conn, bank, anonymous_token=token)

        claiming = asyncio.create_task(claim(conn, token, user_id))
        while True:
            finished = claiming.done()
            for rows in await asyncio.gather(
                get_responses(pool, **both),
                assessments.get_latest_responses(pool, **both),
                assessments.get_responses_with_latest_score(pool, **both),
            ):
                owners = {row["user_id"] for row in rows}
                reads += 1
                anomalies += questions(rows) != bank[::-1] or len(owners) != 1
                seen_before += owners == {None}
                seen_after += owners == {user_id}
            iterated = [row async for row in iter_responses(pool, **both, batch_size=3)]
            anomalies += questions(iterated) != bank
            if finished:
                break
        assert await claiming == len(bank)

    figures(
        "readers beside a claim",
        reads=reads,
        saw_it_before=seen_before,
        saw_it_after=seen_after,
        anomalies=anomalies,
    )
    assert anomalies == 0
    assert min(seen_before, seen_after) > 0
