"""A call that waits for a lock goes on, or fails by its timeout and changes nothing."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from assessments import claim_assessment_responses
from examples.retry import UNDONE, UNKNOWN, retried
from tests.helpers.calls import ERASURES, Subject, catalogue
from tests.helpers.commands import content
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import submit, submit_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Connection = asyncpg.Connection[Any]

Ending = tuple[dict[str, Any], type[BaseException]]
"""The options of a connection on which a blocked call ends with an error, and that error."""

TIMEOUTS: dict[str, Ending] = {
    "statement_timeout": (
        {"server_settings": {"statement_timeout": "200ms"}},
        asyncpg.QueryCanceledError,
    ),
    "lock_timeout": ({"server_settings": {"lock_timeout": "200ms"}}, asyncpg.LockNotAvailableError),
    "command_timeout": ({"command_timeout": 0.2}, asyncio.TimeoutError),
}
ENDINGS = TIMEOUTS | {"cancelled": ({}, asyncio.CancelledError)}


@pytest.fixture
async def connect(database: str) -> AsyncIterator[Callable[..., Awaitable[Connection]]]:
    """Return a function that connects to this test's database."""
    opened: list[Connection] = []

    async def connect(**options: Any) -> Connection:
        opened.append(await asyncpg.connect(database, **options))
        return opened[-1]

    yield connect
    for connection in opened:
        await connection.close()


async def count_advisory_locks(conn: Connection) -> int:
    """Return how many locks of claims are held or waited for."""
    number: int = await conn.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    return number


@pytest.mark.parametrize("in_a_transaction", [False, True])
@pytest.mark.parametrize("timeout", TIMEOUTS)
async def test_every_call_blocked_by_a_migration_fails_by_its_timeout_and_changes_nothing(
    conn: Connection,
    connect: Callable[..., Awaitable[Connection]],
    token: UUID,
    user_id: int,
    timeout: str,
    *,
    in_a_transaction: bool,
) -> None:
    """The error is one that the recipe retries, and the retry succeeds on the same connection."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    calls = catalogue(Subject(user_id, token, response_id, {"anonymous_token": token}))
    names = sorted(calls, key=ERASURES.__contains__)  # erasures last: others need the response
    before = await content(conn)
    options, error = TIMEOUTS[timeout]
    connections = {name: await connect(**options) for name in names}
    if in_a_transaction:
        for connection in connections.values():
            await connection.execute("BEGIN", timeout=30)
    async with conn.transaction():
        await conn.execute(
            "LOCK TABLE assessment_responses, assessment_scores IN ACCESS EXCLUSIVE MODE"
        )
        results = await asyncio.gather(
            *(calls[name](connections[name]) for name in names), return_exceptions=True
        )

    assert [type(result) for result in results] == [error] * len(names)
    assert issubclass(error, (*UNDONE, *UNKNOWN))
    if in_a_transaction:
        for connection in connections.values():
            await connection.execute("ROLLBACK", timeout=30)
    assert await content(conn) == before
    for name in names:
        await retried(partial(calls[name], connections[name]))


@pytest.mark.parametrize("name", catalogue())
async def test_a_call_without_a_timeout_waits_until_the_migration_commits(
    conn: Connection, other: Connection, token: UUID, user_id: int, name: str
) -> None:
    """It succeeds then, with statements that were prepared before the migration."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    call = catalogue(Subject(user_id, token, response_id, {"anonymous_token": token}))[name]
    rehearsal = other.transaction()
    await rehearsal.start()
    await call(other)
    await rehearsal.rollback()
    async with conn.transaction():
        for table in ("assessment_responses", "assessment_scores"):
            await conn.execute(f"ALTER TABLE {table} ADD COLUMN note text")
        waiting = asyncio.create_task(call(other))
        await until_waiting_for_lock(conn, other.get_server_pid())

    await asyncio.wait_for(waiting, 30)


@pytest.mark.parametrize("in_a_transaction", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_claim_that_ends_while_blocked_by_a_claim_leaves_no_lock_and_no_transaction(
    conn: Connection,
    connect: Callable[..., Awaitable[Connection]],
    token: UUID,
    user_id: int,
    ending: str,
    *,
    in_a_transaction: bool,
) -> None:
    """After a timeout or a cancellation the caller's transaction, if any, is open and can claim."""
    options, error = ENDINGS[ending]
    blocked = await connect(**options)
    claim = partial(claim_assessment_responses, anonymous_token=token, user_id=user_id)
    await submit_all(conn, ("q1", "q2"), anonymous_token=token)
    if in_a_transaction:
        await blocked.execute("BEGIN", timeout=30)
    async with conn.transaction():
        await claim(conn, anonymous_token=uuid4())
        before = await count_advisory_locks(conn)
        claiming = asyncio.create_task(claim(blocked))
        if ending == "cancelled":
            await until_waiting_for_lock(conn, blocked.get_server_pid())
            claiming.cancel()
        with pytest.raises(error):
            await claiming
        assert blocked.is_in_transaction() == in_a_transaction
        assert await count_advisory_locks(conn) == before

    assert await retried(lambda: claim(blocked)) == 2
    if in_a_transaction:
        await blocked.execute("COMMIT", timeout=30)
    assert await count_advisory_locks(conn) == 0
