"""What waits for a lock waits, or fails by the timeout it was given, and changes nothing then."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from assessments import claim_assessment_responses
from examples.retry import UNDONE, UNKNOWN, retried
from tests.helpers.commands import content
from tests.helpers.fault_calls import CALLS
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import submit, submit_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Connection = asyncpg.Connection[Any]

MIGRATION = "LOCK TABLE assessment_responses IN ACCESS EXCLUSIVE MODE"
LIMITS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "statement_timeout": (
        {"server_settings": {"statement_timeout": "200ms"}},
        asyncpg.QueryCanceledError,
    ),
    "lock_timeout": ({"server_settings": {"lock_timeout": "200ms"}}, asyncpg.LockNotAvailableError),
    "command_timeout": ({"command_timeout": 0.2}, asyncio.TimeoutError),
}


@pytest.fixture(params=LIMITS)
def limit(request: pytest.FixtureRequest) -> tuple[dict[str, Any], type[Exception]]:
    """Return how to connect with each timeout in turn, and what it raises."""
    return LIMITS[request.param]


@pytest.fixture
async def connections(database: str) -> AsyncIterator[Callable[..., Awaitable[list[Connection]]]]:
    """Return what opens a connection for each kind of call."""
    opened: list[Connection] = []

    async def connect(**options: Any) -> list[Connection]:
        opened.extend([await asyncpg.connect(database, **options) for _ in CALLS])
        return opened

    yield connect
    for connection in opened:
        await connection.close()


@pytest.mark.parametrize("in_a_transaction", [False, True])
async def test_behind_a_migration_every_call_fails_by_its_timeout_and_changes_nothing(
    conn: Connection,
    connections: Callable[..., Awaitable[list[Connection]]],
    limit: tuple[dict[str, Any], type[Exception]],
    token: UUID,
    user_id: int,
    *,
    in_a_transaction: bool,
) -> None:
    """It is an error that the recipe knows; the connection goes on, and the call then works."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    before = await content(conn)
    options, error = limit
    limited = await connections(**options)
    if in_a_transaction:
        for connection in limited:
            await connection.execute("BEGIN", timeout=30)
    async with conn.transaction():
        await conn.execute(MIGRATION)
        ended = await asyncio.gather(
            *(call(c, token, user_id, response_id) for call, c in zip(CALLS, limited, strict=True)),
            return_exceptions=True,
        )

    assert [type(each) for each in ended] == [error] * len(CALLS)
    assert issubclass(error, (*UNDONE, *UNKNOWN))
    if in_a_transaction:
        for connection in limited:
            await connection.execute("ROLLBACK", timeout=30)
    assert await content(conn) == before
    for call, connection in zip(CALLS, limited, strict=True):
        await retried(partial(call, connection, token, user_id, response_id))


async def test_behind_a_migration_a_call_without_a_timeout_waits(
    conn: Connection, connections: Callable[..., Awaitable[list[Connection]]], user_id: int
) -> None:
    """It goes through once the migration has committed, on statements prepared before it."""
    patient = await connections()
    calls = []
    for call, connection in zip(CALLS, patient, strict=True):
        row = await submit(conn, anonymous_token=(token := uuid4()))
        calls.append(partial(call, connection, token, user_id, row["response_id"]))
        rehearsal = connection.transaction()
        await rehearsal.start()
        await calls[-1]()
        await rehearsal.rollback()
    async with conn.transaction():
        await conn.execute("ALTER TABLE assessment_responses ADD COLUMN note text")
        waiting = [asyncio.ensure_future(call()) for call in calls]
        for connection in patient:
            await until_waiting_for_lock(conn, connection.get_server_pid())

    await asyncio.wait_for(asyncio.gather(*waiting), 30)


async def claims_held(conn: Connection) -> int:
    """Return how many locks of claims are held or waited for."""
    number: int = await conn.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    return number


async def test_a_claim_behind_a_claim_fails_by_its_timeout_and_leaves_nothing(
    conn: Connection,
    connections: Callable[..., Awaitable[list[Connection]]],
    limit: tuple[dict[str, Any], type[Exception]],
    token: UUID,
    user_id: int,
) -> None:
    """The caller's transaction stays usable, holds no lock of the claim's, and can claim later."""
    options, error = limit
    limited, *_ = await connections(**options)
    await submit_all(conn, ("q1", "q2"), anonymous_token=token)
    async with conn.transaction():
        await claim_assessment_responses(conn, anonymous_token=uuid4(), user_id=user_id)
        before = await claims_held(conn)
        await limited.execute("BEGIN", timeout=30)
        with pytest.raises(error):
            await claim_assessment_responses(limited, anonymous_token=token, user_id=user_id)
        assert await claims_held(conn) == before

    claim = claim_assessment_responses
    assert await retried(lambda: claim(limited, anonymous_token=token, user_id=user_id)) == 2
    await limited.execute("COMMIT", timeout=30)
    assert await claims_held(conn) == 0


@pytest.mark.parametrize("in_a_transaction", [False, True])
async def test_a_claim_cancelled_behind_a_claim_leaves_nothing(
    conn: Connection, other: Connection, token: UUID, user_id: int, *, in_a_transaction: bool
) -> None:
    """No lock and no transaction of its own is left; the caller's stays usable."""
    await submit_all(conn, ("q1", "q2"), anonymous_token=token)
    if in_a_transaction:
        await other.execute("BEGIN")
    async with conn.transaction():
        await claim_assessment_responses(conn, anonymous_token=uuid4(), user_id=user_id)
        before = await claims_held(conn)
        waiting = asyncio.create_task(
            claim_assessment_responses(other, anonymous_token=token, user_id=user_id)
        )
        await until_waiting_for_lock(conn, other.get_server_pid())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert other.is_in_transaction() == in_a_transaction
        assert len(await other.fetch("SELECT * FROM assessment_responses")) == 2
        assert await claims_held(conn) == before

    assert await claim_assessment_responses(other, anonymous_token=token, user_id=user_id) == 2
    if in_a_transaction:
        await other.execute("COMMIT")
    assert await claims_held(conn) == 0
