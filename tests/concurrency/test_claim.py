"""What a visitor answered becomes the user's, once, whoever else is claiming."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import claim_assessment_responses
from assessments.backoffice import record_score
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import ids, new_user, questions, submit, submit_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from assessments import AssessmentResponse

RACING_PAIRS = 300


async def _of_user(conn: Any, user_id: int) -> list[AssessmentResponse]:
    return await assessments.get_responses(conn, user_id=user_id)


async def _of_token(conn: Any, token: UUID) -> list[AssessmentResponse]:
    return await assessments.get_responses(conn, anonymous_token=token)


async def test_a_claim_moves_rows_and_changes_nothing_else(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """Every row of the token comes back under the user, equal in all but its owner."""
    await submit_all(conn, ("q1", "q2", "q2"), anonymous_token=token)
    before = await _of_token(conn, token)

    claimed = await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)

    assert claimed == 3
    assert await _of_token(conn, token) == []
    assert await _of_user(conn, user_id) == [
        {**row, "user_id": user_id, "anonymous_token": None} for row in before
    ]


async def test_scores_go_along(conn: asyncpg.Connection[Any], user_id: int, token: UUID) -> None:
    """After a claim the user reads the scores, and the token does not."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    score = await record_score(conn, response_id=response_id, score_data={"points": 1})

    await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)

    get = assessments.get_scores
    assert await get(conn, response_id=response_id, user_id=user_id) == [score]
    assert await get(conn, response_id=response_id, anonymous_token=token) == []


async def test_answered_questions_stay_with_the_token(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """All attempts at a question the user has answered stay; all at another one move."""
    await submit(conn, "answered", user_id=user_id)
    await submit_all(conn, ("answered", "new", "answered", "new"), anonymous_token=token)

    claimed = await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)

    assert claimed == 2
    assert questions(await _of_token(conn, token)) == ["answered", "answered"]
    assert questions(await _of_user(conn, user_id)) == ["new", "new", "answered"]


async def test_skip_answered_false_moves_all(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """With skip_answered=False nothing stays."""
    await submit(conn, "answered", user_id=user_id)
    await submit_all(conn, ("answered", "new"), anonymous_token=token)

    claimed = await claim_assessment_responses(
        conn, anonymous_token=token, user_id=user_id, skip_answered=False
    )

    assert claimed == 2
    assert await _of_token(conn, token) == []


async def test_a_claim_may_be_made_at_every_sign_in(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """A claim again takes what is new, and 0 where nothing is."""
    await submit(conn, "q1", anonymous_token=token)

    claims = [await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)]
    await submit_all(conn, ("q1", "q2"), anonymous_token=token)
    claims += [
        await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
        for _ in range(2)
    ]

    assert claims == [1, 1, 0]
    assert questions(await _of_token(conn, token)) == ["q1"]


async def test_other_tokens_and_users_are_untouched(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """A claim moves the rows of its token and no others."""
    stranger, bystander = uuid4(), await new_user(conn)
    await submit(conn, anonymous_token=stranger)
    await submit(conn, user_id=bystander)
    await submit(conn, anonymous_token=token)

    await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)

    assert len(await _of_token(conn, stranger)) == len(await _of_user(conn, bystander)) == 1


@pytest.mark.parametrize("rows", [0, 1])
async def test_an_unknown_user_claims_nothing_and_the_transaction_goes_on(
    conn: asyncpg.Connection[Any], token: UUID, rows: int
) -> None:
    """UnknownUser is raised whether there is anything to claim or not, and aborts nothing."""
    async with conn.transaction():
        await submit_all(conn, ["q"] * rows, anonymous_token=token)
        with pytest.raises(assessments.UnknownUser):
            await claim_assessment_responses(conn, anonymous_token=token, user_id=2**40)
        assert len(await _of_token(conn, token)) == rows


async def test_a_user_deleted_meanwhile_is_unknown_and_the_transaction_goes_on(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """A claim that loses a race against the user's deletion raises UnknownUser, aborts nothing."""
    await submit(conn, anonymous_token=token)
    deletion = other.transaction()
    await deletion.start()
    await other.execute("DELETE FROM users WHERE user_id = $1", user_id)

    async with conn.transaction():
        claiming = asyncio.create_task(
            claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
        )
        await until_waiting_for_lock(other, conn.get_server_pid())
        await deletion.commit()
        with pytest.raises(assessments.UnknownUser):
            await claiming
        assert len(await _of_token(conn, token)) == 1


@pytest.mark.parametrize("skip_answered", [None, 0, 1, "true"])
async def test_skip_answered_is_a_bool(
    conn: asyncpg.Connection[Any], token: UUID, skip_answered: Any
) -> None:
    """What is not a bool is refused, not read as one."""
    with pytest.raises(assessments.InvalidInput) as raised:
        await claim_assessment_responses(
            conn, anonymous_token=token, user_id=1, skip_answered=skip_answered
        )

    assert raised.value.parameter == "skip_answered"


@pytest.mark.parametrize("begin", ["asyncpg", "BEGIN"])
async def test_the_caller_s_transaction_decides(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, begin: str
) -> None:
    """A claim in a transaction, however begun, is undone with it and ends it neither way."""
    await submit(conn, anonymous_token=token)
    transaction = conn.transaction()
    await (transaction.start() if begin == "asyncpg" else conn.execute("BEGIN"))

    assert await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id) == 1

    assert conn.is_in_transaction()
    assert len(await _of_user(conn, user_id)) == 1
    await (transaction.rollback() if begin == "asyncpg" else conn.execute("ROLLBACK"))
    assert len(await _of_token(conn, token)) == 1


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_a_snapshot_that_may_be_too_old_is_refused_and_the_transaction_goes_on(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, isolation: Any
) -> None:
    """Above READ COMMITTED UnsafeIsolation is raised, and nothing is changed or left locked."""
    await submit(conn, anonymous_token=token)
    async with conn.transaction(isolation=isolation):
        with pytest.raises(assessments.UnsafeIsolation):
            await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
        assert len(await _of_token(conn, token)) == 1
        locks = await conn.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert locks == 0


@pytest.mark.parametrize("default", ["repeatable read", "serializable"])
async def test_a_claim_on_its_own_is_read_committed_whatever_the_default(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, default: str
) -> None:
    """Outside a transaction a claim works under any default_transaction_isolation."""
    await submit(conn, anonymous_token=token)
    await conn.execute(f"SET default_transaction_isolation TO '{default}'")

    assert await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id) == 1


async def test_read_uncommitted_is_allowed(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """READ UNCOMMITTED, which PostgreSQL runs as READ COMMITTED, may claim."""
    await submit(conn, anonymous_token=token)
    async with conn.transaction(isolation="read_uncommitted"):
        assert await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id) == 1


async def test_a_claim_leaves_no_lock_and_no_transaction_behind(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """After a claim on its own the connection is idle and holds nothing."""
    await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)

    assert not conn.is_in_transaction()
    assert await conn.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_a_claim_waits_for_the_user_s_other_claim_and_sees_what_it_took(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int
) -> None:
    """One user, two tokens, the same questions: the second claim waits, then takes nothing."""
    tokens = uuid4(), uuid4()
    for token in tokens:
        await submit_all(conn, ("q1", "q2"), anonymous_token=token)

    first = conn.transaction()
    await first.start()
    assert await claim_assessment_responses(conn, anonymous_token=tokens[0], user_id=user_id) == 2
    second = asyncio.create_task(
        claim_assessment_responses(other, anonymous_token=tokens[1], user_id=user_id)
    )
    await until_waiting_for_lock(conn, other.get_server_pid())
    await first.commit()

    assert await second == 0
    assert len(await _of_token(conn, tokens[1])) == 2


async def test_a_claim_that_is_rolled_back_leaves_the_field_to_the_next(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int
) -> None:
    """The claim that waited takes what the one before it gave back."""
    tokens = uuid4(), uuid4()
    for token in tokens:
        await submit(conn, anonymous_token=token)

    first = conn.transaction()
    await first.start()
    await claim_assessment_responses(conn, anonymous_token=tokens[0], user_id=user_id)
    second = asyncio.create_task(
        claim_assessment_responses(other, anonymous_token=tokens[1], user_id=user_id)
    )
    await until_waiting_for_lock(conn, other.get_server_pid())
    await first.rollback()

    assert await second == 1
    assert len(await _of_token(conn, tokens[0])) == 1


async def test_racing_claims_of_two_tokens_never_take_a_question_twice(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], figures: Callable[..., None]
) -> None:
    """300 random pairs on two connections: each question comes from one token, none is lost."""
    chance = random.Random(20261122)
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
            claim_assessment_responses(conn, anonymous_token=tokens[0], user_id=user_id),
            claim_assessment_responses(other, anonymous_token=tokens[1], user_id=user_id),
        )

        taken = await _of_user(conn, user_id)
        left = [await _of_token(conn, token) for token in tokens]
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


async def test_two_users_racing_for_a_token_have_one_winner(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], figures: Callable[..., None]
) -> None:
    """100 random pairs on two connections: one user has all rows of the token, the other none."""
    pairs, anomalies = 100, 0
    for _ in range(pairs):
        users, token = [await new_user(conn), await new_user(conn)], uuid4()
        await submit_all(conn, ("q1", "q2", "q3"), anonymous_token=token)

        claimed = await asyncio.gather(
            claim_assessment_responses(conn, anonymous_token=token, user_id=users[0]),
            claim_assessment_responses(other, anonymous_token=token, user_id=users[1]),
        )

        owned = [len(await _of_user(conn, user)) for user in users]
        anomalies += sorted(claimed) != [0, 3] or owned != list(claimed)

    figures("claims racing, two users for one token", pairs=pairs, anomalies=anomalies)
    assert anomalies == 0


async def test_a_pool_gives_one_connection_for_the_whole_claim(
    database: str, conn: asyncpg.Connection[Any]
) -> None:
    """A pool of one connection is enough, and racing claims through a pool stay right."""
    user_id, tokens = await new_user(conn), [uuid4() for _ in range(8)]
    for token in tokens:
        await submit_all(conn, ("q1", "q2"), anonymous_token=token)

    for size in (1, 4):
        async with asyncpg.create_pool(database, min_size=1, max_size=size) as pool:
            claimed = await asyncio.gather(
                *(
                    claim_assessment_responses(pool, anonymous_token=token, user_id=user_id)
                    for token in tokens
                )
            )
            assert sum(claimed) == (2 if size == 1 else 0)
    assert len(ids(await _of_user(conn, user_id))) == 2
