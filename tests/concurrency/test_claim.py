"""A claim moves a token's responses to a user, and leaves the caller's transaction usable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

import assessments
from assessments import claim_assessment_responses as claim
from assessments import get_responses, get_scores
from assessments.backoffice import record_score
from tests.helpers.rows import ids, new_user, questions, submit, submit_all

if TYPE_CHECKING:
    from tests.helpers.transactions import Connection

ADVISORY_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


async def test_a_claim_changes_the_owner_of_the_token_s_rows_and_nothing_else(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """The user has every row as it was, with its scores; other tokens and users keep theirs."""
    others: list[dict[str, Any]] = [{"anonymous_token": uuid4()}, {"user_id": await new_user(conn)}]
    for owner in others:
        await submit(conn, **owner)
    await submit_all(conn, ("q1", "q2", "q2"), anonymous_token=token)
    before = await get_responses(conn, anonymous_token=token)
    key = ids(before)[0]
    score = await record_score(conn, response_id=key, score_data={"points": 1})

    assert await claim(conn, anonymous_token=token, user_id=user_id) == 3

    assert await get_responses(conn, anonymous_token=token) == []
    assert await get_responses(conn, user_id=user_id) == [
        {**row, "user_id": user_id, "anonymous_token": None} for row in before
    ]
    assert await get_scores(conn, response_id=key, user_id=user_id) == [score]
    assert await get_scores(conn, response_id=key, anonymous_token=token) == []
    assert [len(await get_responses(conn, **owner)) for owner in others] == [1, 1]


@pytest.mark.parametrize(
    ("options", "left"),
    [({}, 2), ({"skip_answered": True}, 2), ({"skip_answered": False}, 0)],
)
async def test_a_claim_skips_answered_questions_by_default(
    conn: Connection, user_id: int, token: UUID, options: dict[str, bool], left: int
) -> None:
    """All attempts at a question that the user has answered stay; all at another one move."""
    await submit(conn, "answered", user_id=user_id)
    await submit_all(conn, ("answered", "new", "answered", "new"), anonymous_token=token)

    claimed = await claim(conn, anonymous_token=token, user_id=user_id, **options)

    assert claimed == 4 - left
    assert questions(await get_responses(conn, anonymous_token=token)) == ["answered"] * left
    users = questions(await get_responses(conn, user_id=user_id))
    assert sorted(users) == ["answered"] * (3 - left) + ["new"] * 2


async def test_a_claim_can_be_repeated_at_every_sign_in(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """A repeated claim takes only what is new, and returns 0 where nothing is."""
    claims = []
    for new in (["q1"], ["q1", "q2"], []):
        await submit_all(conn, new, anonymous_token=token)
        claims.append(await claim(conn, anonymous_token=token, user_id=user_id))

    assert claims == [1, 1, 0]
    assert questions(await get_responses(conn, anonymous_token=token)) == ["q1"]


@pytest.mark.parametrize("rows", [0, 1])
async def test_a_claim_for_an_unknown_user_is_rejected_and_the_transaction_goes_on(
    conn: Connection, token: UUID, rows: int
) -> None:
    """UnknownUser is raised whether there is anything to claim or not, and aborts nothing."""
    async with conn.transaction():
        await submit_all(conn, ["q"] * rows, anonymous_token=token)
        with pytest.raises(assessments.UnknownUser):
            await claim(conn, anonymous_token=token, user_id=2**40)
        assert len(await get_responses(conn, anonymous_token=token)) == rows


@pytest.mark.parametrize("begin", ["asyncpg", "BEGIN"])
async def test_a_claim_is_rolled_back_with_the_caller_s_transaction(
    conn: Connection, user_id: int, token: UUID, begin: str
) -> None:
    """A claim in a transaction, however begun, ends it neither way and is undone with it."""
    await submit(conn, anonymous_token=token)
    transaction = conn.transaction()
    await (transaction.start() if begin == "asyncpg" else conn.execute("BEGIN"))

    assert await claim(conn, anonymous_token=token, user_id=user_id) == 1

    assert conn.is_in_transaction()
    assert len(await get_responses(conn, user_id=user_id)) == 1
    await (transaction.rollback() if begin == "asyncpg" else conn.execute("ROLLBACK"))
    assert len(await get_responses(conn, anonymous_token=token)) == 1


@pytest.mark.parametrize(
    ("isolation", "claimed"),
    [
        ("read_uncommitted", 1),
        ("read_committed", 1),
        ("repeatable_read", None),
        ("serializable", None),
    ],
)
async def test_a_claim_is_refused_above_read_committed_and_the_transaction_goes_on(
    conn: Connection, user_id: int, token: UUID, isolation: Any, claimed: int | None
) -> None:
    """UnsafeIsolation is raised there, and nothing is changed or left locked."""
    await submit(conn, anonymous_token=token)
    async with conn.transaction(isolation=isolation):
        if claimed:
            assert await claim(conn, anonymous_token=token, user_id=user_id) == claimed
        else:
            with pytest.raises(assessments.UnsafeIsolation):
                await claim(conn, anonymous_token=token, user_id=user_id)
            assert len(await get_responses(conn, anonymous_token=token)) == 1
            assert await conn.fetchval(ADVISORY_LOCKS) == 0


@pytest.mark.parametrize("default", ["read committed", "repeatable read", "serializable"])
async def test_a_claim_outside_a_transaction_ignores_the_default_isolation_level(
    conn: Connection, user_id: int, token: UUID, default: str
) -> None:
    """It claims at READ COMMITTED, and leaves no transaction and no lock behind."""
    await submit(conn, anonymous_token=token)
    await conn.execute(f"SET default_transaction_isolation TO '{default}'")

    assert await claim(conn, anonymous_token=token, user_id=user_id) == 1

    assert not conn.is_in_transaction()
    assert await conn.fetchval(ADVISORY_LOCKS) == 0
