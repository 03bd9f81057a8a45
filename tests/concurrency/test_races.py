"""Two calls at the same moment end as if one had come after the other."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import claim_assessment_responses, delete_responses, submit_responses
from assessments.backoffice import (
    iter_responses,
    purge_anonymous_responses,
    record_score,
    record_scores,
)
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import ids, new_user, questions, submit, submit_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from assessments import AssessmentResponse, NewResponse

Call: TypeAlias = "Callable[[Any], Awaitable[Any]]"

ENDS = ("commit", "rollback")
OLD = timedelta(days=90)


@asynccontextmanager
async def ending(conn: asyncpg.Connection[Any], end: str) -> AsyncIterator[None]:
    """Run the block in a transaction that *end* ends."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        yield
    except BaseException:
        await transaction.rollback()
        raise
    await (transaction.commit() if end == "commit" else transaction.rollback())


async def held_up(
    call: Awaitable[Any], by: asyncpg.Connection[Any], on: asyncpg.Connection[Any]
) -> asyncio.Future[Any]:
    """Start *call* on one connection; return once it waits for what the other has open."""
    task = asyncio.ensure_future(call)
    await until_waiting_for_lock(by, on.get_server_pid())
    blocked_by_us = "SELECT pg_backend_pid() = ANY (pg_blocking_pids($1))"
    assert await by.fetchval(blocked_by_us, on.get_server_pid())
    return task


async def at_once(call: Awaitable[Any]) -> Any:
    """Return what *call* returns, which must not wait for the transaction open beside it."""
    return await asyncio.wait_for(call, 10)


async def outcome(task: Awaitable[Any]) -> Any:
    """Return what *task* returns, or the class of what it raises."""
    try:
        return await task
    except assessments.AssessmentsError as error:
        return type(error)


async def of(conn: Any, **owner: Any) -> list[AssessmentResponse]:
    """Return the responses of *owner*."""
    return await assessments.get_responses(conn, **owner)


async def count(conn: asyncpg.Connection[Any], table: str = "assessment_responses") -> int:
    """Return how many rows *table* has."""
    number: int = await conn.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a constant
    return number


async def age(conn: asyncpg.Connection[Any]) -> None:
    """Make every response older than what a purge leaves."""
    await conn.execute("UPDATE assessment_responses SET created_at = now() - interval '100 days'")


def claim(conn: Any, token: UUID, user_id: int) -> Coroutine[Any, Any, int]:
    """Claim the token's responses for the user."""
    return claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)


def purge(conn: Any) -> Coroutine[Any, Any, int]:
    """Erase what nobody has claimed for long."""
    return purge_anonymous_responses(conn, older_than=OLD)


async def delete_user(conn: asyncpg.Connection[Any], user_id: int) -> int:
    """Delete a user of the host's; return how many were there."""
    status = await conn.execute("DELETE FROM users WHERE user_id = $1", user_id)
    return int(status.rpartition(" ")[2])


# Claims beside claims.


@pytest.mark.parametrize(("end", "claimed"), [("commit", 0), ("rollback", 2)])
async def test_a_claim_waits_for_another_user_s_claim_of_the_token(
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    token: UUID,
    end: str,
    claimed: int,
) -> None:
    """Two users, one token: the second waits, and gets all or nothing as the first ends."""
    users = [await new_user(conn), await new_user(conn)]
    await submit_all(conn, ("q1", "q2"), anonymous_token=token)

    async with ending(conn, end):
        await claim(conn, token, users[0])
        second = await held_up(claim(other, token, users[1]), by=conn, on=other)

    assert await second == claimed
    assert [len(await of(conn, user_id=user)) for user in users] == [2 - claimed, claimed]


@pytest.mark.parametrize("shared", ["user", "token"])
async def test_of_three_claims_at_once_one_wins(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], database: str, shared: str
) -> None:
    """Three tokens for a user, or three users for a token: all rows come from, or go to, one."""
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

        async with ending(conn, end):
            first = await claim(conn, tokens[0], users[0])
            waiting = [
                await held_up(claim(on, tokens[n], users[n]), by=conn, on=on)
                for n, on in ((1, other), (2, third))
            ]
        claimed = [first if end == "commit" else 0, *await asyncio.gather(*waiting)]

        assert sorted(claimed) == [0, 0, 2]
        winner = claimed.index(2)
        assert questions(await of(conn, user_id=users[winner])) == ["q2", "q1"]
        for token in set(tokens):
            left = await of(conn, anonymous_token=token)
            assert len(left) == (0 if token == tokens[winner] else 2)
    await third.close()


# Claims beside submits.


async def test_a_submit_does_not_wait_for_a_claim_of_its_token(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """What the visitor submits during a claim stays with the token, as if submitted after it."""
    await submit(conn, "q1", anonymous_token=token)

    async with ending(conn, "commit"):
        assert await claim(conn, token, user_id) == 1
        for question in ("q1", "q2"):
            await at_once(submit(other, question, anonymous_token=token))

    assert questions(await of(conn, user_id=user_id)) == ["q1"]
    assert await claim(conn, token, user_id) == 1
    assert questions(await of(conn, anonymous_token=token)) == ["q1"]


@pytest.mark.parametrize("end", ENDS)
async def test_a_claim_does_not_wait_for_a_submit_of_its_token(
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    user_id: int,
    token: UUID,
    end: str,
) -> None:
    """A claim takes what is committed; a submit still open stays with the token."""
    await submit(conn, "q1", anonymous_token=token)

    async with ending(conn, end):
        await submit(conn, "q1", anonymous_token=token)
        assert await at_once(claim(other, token, user_id)) == 1

    assert len(await of(conn, anonymous_token=token)) == (end == "commit")


@pytest.mark.parametrize("first", ["claim", "submit"])
async def test_a_claim_and_the_user_s_own_submit_do_not_wait_for_each_other(
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    user_id: int,
    token: UUID,
    first: str,
) -> None:
    """Both are kept, though at one question: as if the claim had come first."""
    await submit(conn, "q1", anonymous_token=token)
    calls: dict[str, Call] = {
        "claim": lambda on: claim(on, token, user_id),
        "submit": lambda on: submit(on, "q1", user_id=user_id),
    }
    (second,) = calls.keys() - {first}

    async with ending(conn, "commit"):
        await calls[first](conn)
        await at_once(calls[second](other))

    assert questions(await of(conn, user_id=user_id)) == ["q1", "q1"]
    assert await of(conn, anonymous_token=token) == []


@pytest.mark.parametrize("end", ENDS)
async def test_a_submit_sent_again_waits_for_a_claim_of_its_row(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int, end: str
) -> None:
    """Whoever owns the row when the claim has ended gets it back; the other is in conflict."""
    for by_user in (False, True):
        token, key = uuid4(), uuid4()
        row = await submit(conn, anonymous_token=token, submission_key=key)
        owner: dict[str, Any] = {"user_id": user_id} if by_user else {"anonymous_token": token}

        async with ending(conn, end):
            assert await claim(conn, token, user_id) == 1
            again = await held_up(
                outcome(submit(other, submission_key=key, **owner)), by=conn, on=other
            )
        result = await again

        if by_user is (end == "commit"):
            assert result["response_id"] == row["response_id"]
        else:
            assert result is assessments.SubmissionConflict
        assert await delete_responses(conn, anonymous_token=token, user_id=user_id) == 1


# Claims beside scoring.


@pytest.mark.parametrize("how", ["one", "many"])
async def test_a_claim_and_scoring_do_not_wait_for_each_other(
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    user_id: int,
    token: UUID,
    how: str,
) -> None:
    """A score open does not hold up a claim, nor a claim a score; the user reads all scores."""
    await submit_all(conn, ("q1", "q2"), anonymous_token=token)
    keys = ids(await of(conn, anonymous_token=token))

    score = scorings(*keys)[how]

    async with ending(conn, "commit"):
        await score(conn)
        async with ending(other, "commit"):
            assert await at_once(claim(other, token, user_id)) == 2
            await at_once(score(conn))

    scores = await assessments.get_scores(conn, response_id=keys[0], user_id=user_id)
    assert len(scores) == 2


# Erasure beside claims.


def erasures(token: UUID, user_id: int) -> dict[str, Call]:
    """Return the ways to erase what is the token's or the user's, by what they go by."""
    return {
        "token": lambda on: delete_responses(on, anonymous_token=token),
        "both": lambda on: delete_responses(on, anonymous_token=token, user_id=user_id),
        "purge": purge,
        "user": lambda on: delete_user(on, user_id),
    }


@pytest.mark.parametrize("end", ENDS)
async def test_an_erasure_waits_for_a_claim_of_its_rows(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], end: str
) -> None:
    """It erases what is its owner's when the claim has ended, and not what has been claimed."""
    erased = {}
    for name in ("token", "both", "purge"):
        user_id, token = await new_user(conn), uuid4()
        await submit_all(conn, ("q1", "q2"), anonymous_token=token)
        await age(conn)

        async with ending(conn, end):
            await claim(conn, token, user_id)
            erasure = erasures(token, user_id)[name]
            erasing = await held_up(erasure(other), by=conn, on=other)

        erased[name] = await erasing
        assert len(await of(conn, user_id=user_id, anonymous_token=token)) == 2 - erased[name]

    left = 0 if end == "commit" else 2
    assert erased == {"token": left, "both": 2, "purge": left}


@pytest.mark.parametrize("end", ENDS)
async def test_a_claim_waits_for_an_erasure_of_its_rows(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], end: str
) -> None:
    """It takes what the erasure has left when that has ended: nothing, or all if undone."""
    for name in ("token", "both", "purge"):
        user_id, token = await new_user(conn), uuid4()
        await submit_all(conn, ("q1", "q2"), anonymous_token=token)
        await age(conn)

        async with ending(conn, end):
            assert await erasures(token, user_id)[name](conn) == 2
            claiming = await held_up(claim(other, token, user_id), by=conn, on=other)

        left = 0 if end == "commit" else 2
        assert await claiming == len(await of(conn, user_id=user_id)) == left
        assert await of(conn, anonymous_token=token) == []


async def test_a_user_s_erasure_does_not_wait_for_a_claim(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """What is being claimed is not erased by the user alone, as if claimed after it."""
    await submit(conn, "q1", user_id=user_id)
    await submit(conn, "q2", anonymous_token=token)

    async with ending(conn, "commit"):
        assert await claim(conn, token, user_id) == 1
        assert await at_once(delete_responses(other, user_id=user_id)) == 1

    assert questions(await of(conn, user_id=user_id)) == ["q2"]


@pytest.mark.parametrize("end", ENDS)
async def test_a_claim_during_the_user_s_erasure_leaves_what_is_being_erased(
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    user_id: int,
    token: UUID,
    end: str,
) -> None:
    """A question whose answer is just being erased still counts as answered, until the next claim.

    The two may so end as neither order of them would; nothing is lost, and nothing twice.
    """
    await submit(conn, "q1", user_id=user_id)
    await submit_all(conn, ("q1", "q2"), anonymous_token=token)

    async with ending(conn, end):
        assert await delete_responses(conn, user_id=user_id) == 1
        assert await at_once(claim(other, token, user_id)) == 1

    assert questions(await of(conn, anonymous_token=token)) == ["q1"]
    assert await claim(conn, token, user_id) == (end == "commit")


# Erasure beside scoring.


def scorings(*keys: int) -> dict[str, Call]:
    """Return the ways to score the responses of these keys, or the first of them."""
    return {
        "one": lambda on: record_score(on, response_id=keys[0], score_data={}),
        "many": lambda on: record_scores(
            on, [{"response_id": key, "score_data": {}} for key in keys]
        ),
    }


@pytest.mark.parametrize("how", ["one", "many"])
@pytest.mark.parametrize("erasure", ["token", "both", "purge", "user"])
async def test_scoring_and_erasure_wait_for_each_other(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], erasure: str, how: str
) -> None:
    """A score goes with its response or is refused as UnknownResponse; its transaction goes on."""
    for end in ENDS:
        for first in ("score", "erasure"):
            user_id, token = await new_user(conn), uuid4()
            owner: dict[str, Any] = (
                {"user_id": user_id} if erasure == "user" else {"anonymous_token": token}
            )
            key = (await submit(conn, **owner))["response_id"]
            await age(conn)
            calls = {**scorings(key), **erasures(token, user_id)}
            one, another = (how, erasure) if first == "score" else (erasure, how)

            async with ending(other, "commit"):
                async with ending(conn, end):
                    await calls[one](conn)
                    second = await held_up(outcome(calls[another](other)), by=conn, on=other)
                result = await second
                assert await other.fetchval("SELECT true")  # the transaction goes on

            if first == "score":
                assert result == 1
            else:
                assert (result is assessments.UnknownResponse) is (end == "commit")
            left = 1 if (first, end) == ("erasure", "rollback") else 0
            assert await count(conn) == await count(conn, "assessment_scores") == left
            await delete_responses(conn, **owner)


# The host's users beside claims and submits.


def makings(token: UUID, user_id: int) -> dict[str, Call]:
    """Return the ways to make a row the user's."""
    new: NewResponse = {
        "question_id": "q1",
        "module_slug": "m1",
        "answer_text": "",
        "user_id": user_id,
    }
    keyed: NewResponse = {**new, "submission_key": uuid4()}
    return {
        "claim": lambda on: claim(on, token, user_id),
        "submit": lambda on: assessments.submit_response(on, **new),
        "submit with a key": lambda on: assessments.submit_response(on, **keyed),
        "batch": lambda on: submit_responses(on, [new]),
        "batch with a key": lambda on: submit_responses(on, [keyed]),
    }


@pytest.mark.parametrize("how", makings(uuid4(), 1))
async def test_a_user_s_deletion_and_what_makes_rows_the_user_s_wait_for_each_other(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], how: str
) -> None:
    """The row goes along with the user or is refused as UnknownUser; no row lacks its user."""
    for end in ENDS:
        for first in ("call", "deletion"):
            user_id, token = await new_user(conn), uuid4()
            await submit(conn, anonymous_token=token)
            calls = {
                "call": makings(token, user_id)[how],
                "deletion": erasures(token, user_id)["user"],
            }
            (after,) = {"call", "deletion"} - {first}

            async with ending(conn, end):
                await calls[first](conn)
                second = await held_up(outcome(calls[after](other)), by=conn, on=other)
            result = await second

            users = len(await of(conn, user_id=user_id))
            visitors = len(await of(conn, anonymous_token=token))
            if first == "call":
                assert result == 1
                assert (users, visitors) == (0, 0 if (how, end) == ("claim", "commit") else 1)
            elif end == "commit":
                assert result is assessments.UnknownUser
                assert (users, visitors) == (0, 1)
            else:
                assert (users, visitors) == (1, 0 if how == "claim" else 1)


# Submits with one key.


@pytest.mark.parametrize("how", ["submit", "batch"])
async def test_a_submit_waits_for_another_with_its_key(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], how: str
) -> None:
    """It gets the row of the first or is in conflict with it, or is stored if that is undone."""

    async def send(on: Any, answer_text: str, **owner: Any) -> AssessmentResponse:
        if how == "submit":
            return await submit(on, answer_text=answer_text, **owner)
        new: Any = {"question_id": "q1", "module_slug": "m1", "answer_text": answer_text, **owner}
        return (await submit_responses(on, [new]))[0]

    for end in ENDS:
        for second_text in ("Mine.", "Not mine."):
            owner: dict[str, Any] = {"anonymous_token": uuid4(), "submission_key": uuid4()}

            async with ending(other, "commit"):
                async with ending(conn, end):
                    row = await send(conn, "Mine.", **owner)
                    second = await held_up(
                        outcome(send(other, second_text, **owner)), by=conn, on=other
                    )
                result = await second

            if end == "commit":
                conflict = second_text != "Mine."
                assert result == (assessments.SubmissionConflict if conflict else row)
                result = row
            assert await of(conn, anonymous_token=owner["anonymous_token"]) == [result]
            assert (result["response_id"] == row["response_id"]) is (end == "commit")


async def test_a_submit_sent_again_while_its_row_is_erased_may_be_a_conflict(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], database: str, token: UUID
) -> None:
    """An erasure between its two statements leaves nothing to give back, and nothing is stored."""
    owner: dict[str, Any] = {"anonymous_token": token, "submission_key": uuid4()}
    erased = await submit(conn, **owner)
    third = await asyncpg.connect(database)

    async with ending(conn, "rollback"):
        await delete_responses(conn, anonymous_token=token)
        again = await held_up(outcome(submit(other, **owner)), by=conn, on=other)
        third_transaction = third.transaction()
        await third_transaction.start()
        lock = third.execute("LOCK TABLE assessment_responses")  # next in turn, before any lookup
        locking = await held_up(lock, by=conn, on=third)
    await locking
    assert await delete_responses(third, anonymous_token=token) == 1
    await third_transaction.commit()
    await third.close()

    assert await again is assessments.SubmissionConflict
    assert (await submit(conn, **owner))["response_id"] > erased["response_id"]


async def test_racing_submits_with_one_key_are_one_row(
    database: str, figures: Callable[..., None], scale: int
) -> None:
    """Four connections send 500 keys each, each key at once: every call returns the same row."""
    chance = random.Random(20261123)
    keys = [uuid4() for _ in range(500 * scale)]
    owners = {key: uuid4() for key in keys}
    four = [await asyncpg.connect(database) for _ in range(4)]
    calls = anomalies = 0
    for first in range(0, len(keys), 5):
        block = keys[first : first + 5]

        async def send(
            on: asyncpg.Connection[Any], block: list[UUID]
        ) -> list[tuple[UUID, AssessmentResponse]]:
            return [
                (key, await submit(on, anonymous_token=owners[key], submission_key=key))
                for key in chance.sample(block, len(block))
            ]

        rows: dict[UUID, list[AssessmentResponse]] = {key: [] for key in block}
        for sent in await asyncio.gather(*(send(on, block) for on in four)):
            for key, row in sent:
                rows[key].append(row)
        for key in block:
            calls += len(rows[key])
            anomalies += not (
                len(rows[key]) == len(four)
                and all(row == rows[key][0] for row in rows[key])
                and await of(four[0], anonymous_token=owners[key]) == rows[key][:1]
            )
    stored = await count(four[0])
    for on in four:
        await on.close()

    figures("submits with one key", calls=calls, keys=len(keys), anomalies=anomalies)
    assert (stored, anomalies) == (len(keys), 0)


async def test_batches_with_the_same_keys_in_another_order_may_be_sent_again(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], database: str, token: UUID
) -> None:
    """They may deadlock; the one that PostgreSQL ends is sent again and gets the other's rows."""
    keys = [uuid4() for _ in range(3)]

    def batch(order: list[UUID]) -> list[NewResponse]:
        return [
            {
                "anonymous_token": token,
                "question_id": f"q{keys.index(key)}",
                "module_slug": "m1",
                "answer_text": "",
                "submission_key": key,
            }
            for key in order
        ]

    async def sent(on: asyncpg.Connection[Any], order: list[UUID]) -> list[AssessmentResponse]:
        try:
            return await submit_responses(on, batch(order))
        except asyncpg.DeadlockDetectedError:
            ended.append(on)
            return []

    async def send(on: asyncpg.Connection[Any], order: list[UUID]) -> list[AssessmentResponse]:
        while not (rows := await sent(on, order)):
            pass
        return rows

    ended: list[asyncpg.Connection[Any]] = []
    third = await asyncpg.connect(database)
    async with ending(third, "rollback"):  # holds both up half-way
        await submit_responses(third, batch(keys[1:2]))
        sending = [
            await held_up(send(on, order), by=third, on=on)
            for on, order in ((conn, keys), (other, keys[::-1]))
        ]
    rows, reversed_rows = await asyncio.wait_for(asyncio.gather(*sending), 60)
    await third.close()

    assert ended
    assert rows == reversed_rows[::-1]
    assert sorted(ids(rows)) == sorted(ids(await of(conn, anonymous_token=token)))


# Rows locked in opposite orders.

ASCENDING = "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_seqscan = off"
DESCENDING = "SET enable_bitmapscan = off; SET enable_seqscan = off"
PLANS = {
    "opposed": (ASCENDING, DESCENDING),
    "opposed otherwise": (DESCENDING, ASCENDING),
    "the planner's own": ("RESET ALL", "RESET ALL"),
}
CALLS: dict[str, Callable[[Any, UUID, int, list[int]], Awaitable[Any]]] = {
    "claim": lambda on, token, user_id, _: claim(on, token, user_id),
    "delete token's": lambda on, token, _, __: delete_responses(on, anonymous_token=token),
    "delete both's": lambda on, token, user_id, _: delete_responses(
        on, anonymous_token=token, user_id=user_id
    ),
    "purge": lambda on, *_: purge(on),
    "score": lambda on, _, __, keys: scorings(*reversed(keys))["many"](on),
}


PAIRS = [
    ("claim", "claim"),
    ("claim", "delete token's"),
    ("claim", "delete both's"),
    ("claim", "purge"),
    ("claim", "score"),
    ("delete token's", "delete token's"),
    ("delete token's", "delete both's"),
    ("delete token's", "purge"),
    ("delete token's", "score"),
    ("purge", "purge"),
    ("purge", "score"),
]


@pytest.mark.parametrize("plans", PLANS)
async def test_calls_with_other_plans_lock_rows_in_one_order(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], database: str, plans: str
) -> None:
    """Two calls at the same 100 rows never deadlock, where the table holds them in key order.

    Whichever way their plans go through an index; a bitmap scan locks in the order of the table.
    """
    third = await asyncpg.connect(database)
    # Visitors with an answer each: what the planner takes every visitor for until told otherwise.
    await third.execute(
        "INSERT INTO assessment_responses (anonymous_token, question_id, module_slug, answer_text)"
        "SELECT gen_random_uuid(), 'q' || n % 100, 'm', '' FROM generate_series(1, 5000) AS n"
    )
    await third.execute("ANALYZE assessment_responses")
    await conn.execute(PLANS[plans][0])
    await other.execute(PLANS[plans][1])

    deadlocks = []
    for pair in PAIRS:
        token, users = uuid4(), [await new_user(third), await new_user(third)]
        keys: list[int] = [
            key
            for (key,) in await third.fetch(
                "INSERT INTO assessment_responses"
                " (anonymous_token, question_id, module_slug, answer_text, created_at)"
                "SELECT $1, 'q' || n, 'm', '', now() - interval '200 days' + n * interval '1 day'"
                "FROM generate_series(1, 100) AS n ORDER BY n RETURNING response_id",
                token,
            )
        ]
        if plans != "the planner's own":
            await third.execute("ANALYZE assessment_responses")
        async with ending(third, "commit"):
            await third.execute(  # holds both up half-way
                "SELECT FROM assessment_responses WHERE response_id = $1 FOR UPDATE", keys[50]
            )
            calling = []
            for name, on, user_id in zip(pair, (conn, other), users, strict=True):
                calling.append(asyncio.ensure_future(CALLS[name](on, token, user_id, keys)))
                await until_waiting_for_lock(third, on.get_server_pid())
        ends = await asyncio.gather(*map(outcome, calling), return_exceptions=True)
        deadlocks += [pair for end in ends if isinstance(end, asyncpg.DeadlockDetectedError)]
        await delete_responses(third, anonymous_token=token)
    await third.close()

    assert deadlocks == []


# Readers beside a claim.


async def test_a_reader_sees_a_claim_whole_or_not_at_all(
    pool: asyncpg.Pool[Any],
    conn: asyncpg.Connection[Any],
    figures: Callable[..., None],
    scale: int,
) -> None:
    """A reader with both owners gets every row once, all of one owner, while a claim moves them."""
    bank = [f"q{number}" for number in range(6)]

    async def walk(user_id: int, token: UUID) -> list[AssessmentResponse]:
        rows = iter_responses(
            pool, user_id=user_id, anonymous_token=token, batch_size=len(bank) // 2
        )
        return [row async for row in rows]

    reads = seen_before = seen_after = anomalies = 0
    for _ in range(100 * scale):
        user_id, token = await new_user(conn), uuid4()
        both: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}
        await submit_all(conn, bank, anonymous_token=token)

        claiming = asyncio.create_task(claim(conn, token, user_id))
        while True:
            finished = claiming.done()
            whole = await asyncio.gather(
                of(pool, **both),
                assessments.get_latest_responses(pool, **both),
                assessments.get_responses_with_latest_score(pool, **both),
            )
            walked = await walk(user_id, token)
            for rows in whole:
                users = {row["user_id"] for row in rows}
                reads += 1
                anomalies += questions(rows) != bank[::-1] or len(users) != 1
                seen_before += users == {None}
                seen_after += users == {user_id}
            anomalies += questions(walked) != bank
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


# Any two calls.

BANK = ("q1", "q2", "q3")
USERS, VISITORS, KEYS = "UV", "ST", "KL"
Drawn = tuple[str, ...]


class World:
    """Two users, two visitors and what they answered, by names that are the same in every run."""

    def __init__(self) -> None:
        self.owners: dict[str, Any] = {name: uuid4() for name in VISITORS}
        self.rows: dict[str, int] = {}
        self.keys = {name: uuid4() for name in KEYS}

    async def fill(self, conn: asyncpg.Connection[Any], answers: list[Drawn]) -> None:
        """Begin anew with *answers*: text, owner, question, whether old, whether scored."""
        await conn.execute("DELETE FROM users")
        await conn.execute("DELETE FROM assessment_responses")
        for name in USERS:
            self.owners[name] = await new_user(conn)
        stored = await submit_responses(
            conn,
            [
                {**self.answer(question, text), **self.owned(owner)}
                for text, owner, question, _, _ in answers
            ],
        )
        self.rows = {row["answer_text"]: row["response_id"] for row in stored}
        for row, (*_, old, scored) in zip(stored, answers, strict=True):
            if scored:
                await record_score(conn, response_id=row["response_id"], score_data={})
            if old:
                await conn.execute(
                    "UPDATE assessment_responses SET created_at = now() - interval '100 days' "
                    "WHERE response_id = $1",
                    row["response_id"],
                )

    def answer(self, question_id: str, answer_text: str) -> NewResponse:
        """Return a response to submit, without its owner; an answer named as a key has that key."""
        return {
            "question_id": question_id,
            "module_slug": "m1",
            "answer_text": answer_text,
            "submission_key": self.keys.get(answer_text),
        }

    def owned(self, *names: str) -> Any:
        """Return the arguments that give these owners."""
        return {
            "user_id" if name in USERS else "anonymous_token": self.owners[name] for name in names
        }

    def told(self, rows: list[AssessmentResponse]) -> list[tuple[str, str]]:
        """Return the answer and the owner's name of each of *rows*."""
        names = {owner: name for name, owner in self.owners.items()}
        return [
            (row["answer_text"], names[row["user_id"] or row["anonymous_token"]]) for row in rows
        ]

    async def state(self, conn: asyncpg.Connection[Any]) -> Any:
        """Return all there is: responses with their owners and numbers of scores, and users."""
        rows = await conn.fetch(
            "SELECT r.*, count(s.score_id) AS scores FROM assessment_responses AS r"
            " LEFT JOIN assessment_scores AS s ON s.response_id = r.response_id"
            " GROUP BY r.response_id"
        )
        told = zip(self.told(rows), (row["scores"] for row in rows), strict=True)
        return sorted(told), await count(conn, "users")

    async def make(self, conn: asyncpg.Connection[Any], call: Drawn) -> Any:
        """Make *call*; return what it gave, or the class of its error, without keys and times."""
        kind, *names = call
        result: Any
        if kind == "submit":
            owner, question, text = names
            new = self.answer(question, text)
            row = await assessments.submit_response(conn, **new, **self.owned(owner))
            result = self.told([row])
        elif kind == "claim":
            visitor, user, skip = names
            result = await claim_assessment_responses(
                conn, **self.owned(visitor, user), skip_answered=skip == "skip"
            )
        elif kind == "erase":
            result = await delete_responses(conn, **self.owned(*names))
        elif kind == "purge":
            result = await purge(conn)
        elif kind == "delete user":
            result = await delete_user(conn, self.owners[names[0]])
        elif kind == "score":
            keys = [self.rows[name] for name in names]
            result = len(await scorings(*keys)["many"](conn))
        else:
            result = sorted(self.told(await of(conn, **self.owned(*names))))
        return result


def drawn_world(chance: random.Random) -> list[Drawn]:
    """Draw some responses: text, owner, question, whether old, whether scored."""
    return [
        (
            text,
            chance.choice(USERS + VISITORS * 2),
            BANK[0] if text in KEYS else chance.choice(BANK),
            chance.choice(("", "old")),
            chance.choice(("", "scored")),
        )
        for text in chance.sample(KEYS + "abcdefgh", chance.randint(1, 10))
    ]


def drawn_call(chance: random.Random, texts: list[str], text: str) -> Drawn:
    """Draw a call of any kind."""
    user, visitor = chance.choice(USERS), chance.choice(VISITORS)
    owner = chance.choice((user, visitor))
    scored = chance.sample(texts, min(len(texts), 3))
    return chance.choice(
        (
            ("submit", owner, chance.choice(BANK), text),
            ("submit", owner, BANK[0], chance.choice(KEYS)),
            ("claim", visitor, user, chance.choice(("skip", "skip", "all"))),
            ("erase", *chance.choice(((user,), (visitor,), (user, visitor)))),
            ("purge",),
            ("delete user", user),
            ("score", *scored),
            ("read", user, visitor),
        )
    )


def is_excepted(one: Drawn, another: Drawn, end: str) -> bool:
    """Tell the pairs of which less is promised: two with tests above, and what may deadlock."""
    for call, beside in ((one, another), (another, one)):
        if call[0] == "claim" and beside[0] == "erase":
            _, visitor, user, skip = call
            if skip == "skip" and user in beside and visitor not in beside:
                return True
        sent_again = call[0] == "submit" and call[3] in KEYS
        if sent_again and beside[0] in ("erase", "purge") and end == "each alone":
            return True
        if call[0] == "delete user" and beside[0] in ("score", "erase") and end == "each alone":
            return True  # may deadlock: the foreign key locks in an order of its own
    return False


async def attempt(world: World, on: asyncpg.Connection[Any], call: Drawn) -> Any:
    """Return what *call* comes to; a deadlock is PostgreSQL's to end."""
    try:
        return await outcome(world.make(on, call))
    except asyncpg.DeadlockDetectedError as error:
        return type(error)


async def test_any_two_calls_at_once_end_as_one_after_the_other(
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    database: str,
    figures: Callable[..., None],
    scale: int,
) -> None:
    """Random pairs: what both return and leave is what one of the two orders gives."""
    chance = random.Random(20261124)
    watcher = await asyncpg.connect(database)
    races: Counter[str] = Counter()
    anomalies = []

    async def one_after_the_other(answers: list[Drawn], calls: dict[str, Drawn]) -> Any:
        world = World()
        await world.fill(conn, answers)
        results = {name: await attempt(world, conn, call) for name, call in calls.items()}
        return results, await world.state(conn)

    async def at_the_same_moment(answers: list[Drawn], one: Drawn, another: Drawn, end: str) -> Any:
        world = World()
        await world.fill(conn, answers)
        if end == "each alone":
            first, second = await asyncio.gather(
                attempt(world, conn, one), attempt(world, other, another)
            )
        else:
            async with ending(conn, end):
                first = await attempt(world, conn, one)
                task = asyncio.create_task(attempt(world, other, another))
                await until_waiting_or_done(watcher, other, task)
            second = await task
        results = {"one": first, "another": second}
        if end == "rollback":
            del results["one"]
        return results, await world.state(conn)

    while races.total() < 500 * scale:
        answers = drawn_world(chance)
        texts = [text for text, *_ in answers]
        one, another = (drawn_call(chance, texts, text) for text in ("one", "another"))
        end = chance.choice((*ENDS, "each alone", "each alone"))
        if is_excepted(one, another, end):
            continue
        races[end] += 1
        ended = await at_the_same_moment(answers, one, another, end)
        if asyncpg.DeadlockDetectedError in ended[0].values():
            continue  # PostgreSQL ended one, which may be made again
        orders: list[dict[str, Drawn]] = [
            {"one": one, "another": another},
            {"another": another, "one": one},
        ]
        for order in [{"another": another}] if end == "rollback" else orders:
            if ended == await one_after_the_other(answers, order):
                break
        else:
            anomalies.append((answers, one, another, end, ended))
    await watcher.close()

    figures(
        "any two calls at once",
        races=races.total(),
        in_a_transaction_held_open=races["commit"] + races["rollback"],
        anomalies=len(anomalies),
    )
    assert anomalies == []


async def until_waiting_or_done(
    watcher: asyncpg.Connection[Any], on: asyncpg.Connection[Any], task: asyncio.Task[Any]
) -> None:
    """Return once *task* has ended or its connection *on* waits for a lock."""
    waiting = asyncio.create_task(until_waiting_for_lock(watcher, on.get_server_pid()))
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
