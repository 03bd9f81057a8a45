"""Concurrent claims take each response, and each question, once; readers see them whole."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import delete_responses, get_responses
from assessments.backoffice import iter_responses
from tests.helpers.rows import ids, new_user, questions, submit, submit_all
from tests.helpers.transactions import ENDS, Connection, blocked, open_transaction, without_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

RACING_PAIRS = 300


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
        users = [await new_user(conn) for _ in range(3)]
        tokens = [uuid4() for _ in range(3)]
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
        assert await without_waiting(claim(other, token, user_id)) == 1

    assert questions(await get_responses(conn, anonymous_token=token)) == ["q1"]
    assert await claim(conn, token, user_id) == (end == "commit")


async def test_concurrent_claims_take_a_question_once(
    conn: Connection, other: Connection, figures: Callable[..., None]
) -> None:
    """In random pairs on two connections each question comes from one token, and none is lost."""
    chance = Random(20261122)
    bank = [f"q{number}" for number in range(6)]
    anomalies = 0
    for _ in range(RACING_PAIRS):
        user_id, tokens = await new_user(conn), (uuid4(), uuid4())
        source = {}
        for token in tokens:
            for question in chance.choices(bank, k=chance.randint(1, 6)):
                stored = await submit(conn, question, anonymous_token=token)
                source[stored["response_id"]] = token

        claimed = await asyncio.gather(
            claim(conn, tokens[0], user_id), claim(other, tokens[1], user_id)
        )

        taken = await get_responses(conn, user_id=user_id)
        left = [await get_responses(conn, anonymous_token=token) for token in tokens]
        pairs = {(row["question_id"], source[row["response_id"]]) for row in taken}
        anomalies += not (
            sum(claimed) == len(taken)
            and sum(claimed) + sum(map(len, left)) == len(source)
            and len(pairs) == len(set(questions(taken)))
            and all(set(questions(rows)) <= set(questions(taken)) for rows in left)
        )

    title = "claims racing, two tokens of one user"
    figures(title, pairs=RACING_PAIRS, anomalies=anomalies)
    assert anomalies == 0


async def test_concurrent_claims_of_a_token_have_one_winner(
    conn: Connection, other: Connection, figures: Callable[..., None]
) -> None:
    """In 100 pairs on two connections one user gets all rows of the token, the other none."""
    pairs, anomalies = 100, 0
    for _ in range(pairs):
        users, token = [await new_user(conn), await new_user(conn)], uuid4()
        await submit_all(conn, ("q1", "q2", "q3"), anonymous_token=token)

        claimed = await asyncio.gather(claim(conn, token, users[0]), claim(other, token, users[1]))

        owned = [len(await get_responses(conn, user_id=user)) for user in users]
        anomalies += sorted(claimed) != [0, 3] or owned != list(claimed)

    figures("claims racing, two users for one token", pairs=pairs, anomalies=anomalies)
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
