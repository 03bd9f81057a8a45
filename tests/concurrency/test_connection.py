"""The caller's connection: one task at a time, its savepoints and its locks are its own."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from assessments import (
    InvalidInput,
    SubmissionConflict,
    UnknownUser,
    claim_assessment_responses,
    delete_responses,
    get_responses,
    submit_responses,
)
from tests.helpers import pages
from tests.helpers.calls import Subject, catalogue
from tests.helpers.rows import counts, new_response, new_user, questions, submit
from tests.helpers.transactions import blocked, open_transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from uuid import UUID

    Connection = asyncpg.Connection[Any]


class Instrumented(asyncpg.Connection):  # not generic at run time
    """A host's connection class, which does something of its own around a statement."""

    async def fetchrow(self, *arguments: Any, **options: Any) -> Any:
        """Run a query, and then what the test sets."""
        row = await super().fetchrow(*arguments, **options)
        await self._do_once()
        return row

    async def fetch(self, *arguments: Any, **options: Any) -> Any:
        """Run a query, and then what the test sets."""
        rows = await super().fetch(*arguments, **options)
        await self._do_once()
        return rows

    async def _do_once(self) -> None:
        if then := self.__dict__.pop("then", None):
            await then()

    async def execute(self, query: str, *arguments: Any, **options: Any) -> str:
        """Fail at the first savepoint after the test says so, before it is sent or after."""
        fails = self.__dict__.pop("fails", None) if query.startswith("SAVEPOINT") else None
        if fails == "before":
            raise OSError
        status = await super().execute(query, *arguments, **options)
        if fails == "after":
            raise OSError
        return status


@pytest.fixture
async def instrumented(database: str) -> AsyncIterator[Any]:
    """Return such a connection."""
    connection = await asyncpg.connect(database, connection_class=Instrumented)
    yield connection
    await connection.close()


@pytest.mark.parametrize("in_a_transaction", [False, True])
async def test_a_second_task_on_the_connection_of_a_claim_is_refused_by_name(
    conn: Connection, other: Connection, user_id: int, token: UUID, *, in_a_transaction: bool
) -> None:
    """Nothing of it becomes part of the claim's own transaction, and the claim goes on."""
    await submit(conn, anonymous_token=token)
    if in_a_transaction:
        await other.execute("BEGIN")
    async with open_transaction(conn):
        claim = partial(claim_assessment_responses, user_id=user_id)
        await claim(conn, anonymous_token=uuid4())
        claiming = await blocked(claim(other, anonymous_token=token), by=conn, on=other)
        for name, call in catalogue(Subject(user_id, token)).items():
            with pytest.raises(InvalidInput, match="in use by another task") as raised:
                await call(other)
            assert raised.value.parameter == "conn", name
    assert await claiming == 1

    await submit(other, "q2", user_id=user_id)
    if in_a_transaction:
        await other.execute("COMMIT")
    assert questions(await get_responses(conn, user_id=user_id)) == ["q2", "q1"]


async def test_tasks_that_take_turns_share_a_connection(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """A connection is free again when the call has ended, though the task that made it goes on."""
    with pytest.raises(UnknownUser):
        await claim_assessment_responses(conn, anonymous_token=token, user_id=2**40)
    await asyncio.create_task(submit(conn, anonymous_token=token))
    assert await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id) == 1
    await asyncio.create_task(submit(conn, anonymous_token=token))

    assert await counts(conn) == (2, 0)


@pytest.mark.parametrize("fails", ["before", "after"])
async def test_the_caller_s_savepoints_stay_the_caller_s(
    instrumented: Any, user_id: int, token: UUID, fails: str
) -> None:
    """A claim that fails at its own savepoint, sent or not, changes what none of theirs means."""
    async with open_transaction(instrumented):
        await instrumented.execute("SAVEPOINT assessments")
        await submit(instrumented, anonymous_token=token)
        instrumented.fails = fails
        with pytest.raises(OSError):  # noqa: PT011 - the host's own
            await claim_assessment_responses(instrumented, anonymous_token=token, user_id=user_id)
        assert await counts(instrumented) == (1, 0)
        await instrumented.execute("ROLLBACK TO SAVEPOINT assessments")

    assert await counts(instrumented) == (0, 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_no_savepoint_of_the_library_s_is_left(
    conn: Connection, user_id: int, token: UUID, *, fails: bool
) -> None:
    """Neither after a claim nor after one that is refused."""
    async with open_transaction(conn, "rollback"):
        if fails:
            with pytest.raises(UnknownUser):
                await claim_assessment_responses(conn, anonymous_token=token, user_id=2**40)
        else:
            await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
        with pytest.raises(asyncpg.InvalidSavepointSpecificationError):
            await conn.execute("RELEASE SAVEPOINT assessments_block")


@pytest.mark.parametrize("in_a_batch", [False, True])
@pytest.mark.parametrize("key", [None, uuid4()], ids=["without a key", "with a key"])
async def test_a_user_who_appears_between_two_statements_is_known(
    instrumented: Any, conn: Connection, key: UUID | None, *, in_a_batch: bool
) -> None:
    """A submission is stored then, alone or in a batch: it is neither refused nor a conflict."""
    add = "INSERT INTO users (user_id) OVERRIDING SYSTEM VALUE VALUES ($1)"
    instrumented.then = partial(conn.execute, add, 2**33)

    if in_a_batch:
        batch = [new_response(user_id=2**33, submission_key=key)]
        (stored,) = await submit_responses(instrumented, batch)
    else:
        stored = await submit(instrumented, user_id=2**33, submission_key=key)

    assert await get_responses(conn, user_id=2**33) == [stored]


async def test_a_row_erased_between_two_statements_is_stored_again(
    instrumented: Any, conn: Connection, token: UUID
) -> None:
    """A retry whose row is erased at that very moment stores it anew."""
    arguments: dict[str, Any] = {"anonymous_token": token, "submission_key": uuid4()}
    first = await submit(conn, **arguments)
    instrumented.then = partial(delete_responses, conn, anonymous_token=token)

    second = await submit(instrumented, **arguments)

    assert second["response_id"] > first["response_id"]
    assert await get_responses(conn, anonymous_token=token) == [second]
    with pytest.raises(SubmissionConflict):
        await submit(conn, **arguments, answer_text="Another.")


@pytest.mark.parametrize("same", ["token", "user"])
async def test_a_claim_that_gives_up_says_what_it_waited_for(
    conn: Connection, other: Connection, user_id: int, token: UUID, same: str
) -> None:
    """It waits as long as the caller's lock_timeout, and its transaction can go on."""
    await submit(conn, anonymous_token=token)
    claim = claim_assessment_responses
    await other.execute("SET lock_timeout = '100ms'")
    async with open_transaction(conn):
        first_token = token if same == "token" else uuid4()
        first_user = user_id if same == "user" else await new_user(conn)
        await claim(conn, anonymous_token=first_token, user_id=first_user)
        with pytest.raises(asyncpg.LockNotAvailableError, match="a claim of the same token") as why:
            await claim(other, anonymous_token=token, user_id=user_id)

    assert str(token) not in str(why.value)
    assert await claim(other, anonymous_token=token, user_id=user_id) == (same == "user")


LOCK_USER = "SELECT FROM users WHERE user_id = $1 FOR {}"
ORDERS: dict[str, tuple[list[str], bool]] = {
    "the user locked first": (["UPDATE", "claim"], True),
    "the claim first": (["claim", "UPDATE"], False),
    "the user locked without its key": (["NO KEY UPDATE", "claim"], False),
}


@pytest.mark.parametrize("order", ORDERS)
async def test_only_a_sign_in_that_locks_the_user_before_it_claims_deadlocks(
    conn: Connection, other: Connection, database: str, user_id: int, *, order: str
) -> None:
    """docs/reviewing.md names the orders that avoid it: claim first, or lock FOR NO KEY UPDATE."""
    steps, deadlocks = ORDERS[order]
    first, second = uuid4(), uuid4()
    await submit(conn, anonymous_token=first)
    await submit(conn, "q2", anonymous_token=second)

    async def step(on: Connection, what: str, anonymous_token: UUID) -> None:
        if what == "claim":
            claim = claim_assessment_responses
            await claim(on, anonymous_token=anonymous_token, user_id=user_id)
        else:
            await on.execute(LOCK_USER.format(what), user_id)

    async def is_waiting(on: Connection) -> Any:
        waiting = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE pid = $1 AND NOT granted)"
        return await third.fetchval(waiting, on.get_server_pid())

    async def end(task: Awaitable[Any], transaction: Any) -> bool:
        """End the transaction of *task*; return whether it deadlocked."""
        try:
            await task
        except asyncpg.DeadlockDetectedError:
            await transaction.rollback()
            return True
        await transaction.commit()
        return False

    third = await asyncpg.connect(database)
    transactions = [each.transaction() for each in (conn, other)]
    for transaction in transactions:
        await transaction.start()
    # This sign-in has made its first step when another claims for the same user.
    await step(conn, steps[0], first)
    claiming = asyncio.create_task(step(other, "claim", second))
    while not (claiming.done() or await is_waiting(other)):
        await asyncio.sleep(0.005)
    task = asyncio.create_task(step(conn, steps[1], first))
    ends = await asyncio.gather(end(task, transactions[0]), end(claiming, transactions[1]))
    await third.close()

    assert any(ends) is deadlocks


async def test_the_holder_of_a_claim_s_locks_can_be_found(
    conn: Connection, other: Connection, user_id: int, token: UUID
) -> None:
    """The query of docs/reviewing.md names the session of an open claim, and none after it."""
    (holders,) = pages.blocks("docs/reviewing.md", "sql", "Locks")
    async with open_transaction(conn):
        await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
        held = await other.fetch(holders)
    after = await other.fetch(holders)

    assert {row["pid"] for row in held} == {conn.get_server_pid()}
    assert after == []
