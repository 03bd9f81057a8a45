"""Atomic blocks: a transaction, or a savepoint in the caller's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.driver_errors import driver_errors
from assessments.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assessments.queries import Connection

# The task of each atomic block in progress, by the id of its connection.
_tasks: dict[int, asyncio.Task[Any] | None] = {}


def check_task(conn: object) -> None:
    """Refuse *conn* while an atomic block of another task is in progress on it.

    What a second task sends there would become part of that block, and be rolled back with it.
    """
    task = _tasks.get(id(conn)) if _tasks else None
    if task and not task.done() and task is not asyncio.current_task():
        raise InvalidInput("conn", "is in use by another task: each task needs its own connection")


def invalid_connection(conn: object) -> InvalidInput:
    """Return the error for a *conn* that lacks a method of asyncpg's connections.

    Nothing is checked before a method is missing: a valid call pays nothing, and whatever has the
    methods, such as a host's own proxy, is accepted.
    """
    kind = type(conn)
    problem = f"must be an asyncpg connection or pool, not {kind.__module__}.{kind.__qualname__}"
    if any(base.__module__.startswith("sqlalchemy.") for base in kind.__mro__):
        problem += "; pass what assessments.sqlalchemy.asyncpg_connection returns for"
        problem += " SQLAlchemy's AsyncConnection or AsyncSession"
    return InvalidInput("conn", problem.replace("builtins.", ""))


@asynccontextmanager
async def atomic(conn: Connection) -> AsyncIterator[Any]:
    """Yield a connection on which the statements of the block take effect together or not at all.

    A pool gives one connection for the block. In the caller's transaction, however it was
    begun, the block is a savepoint: an error inside leaves that transaction usable.
    """
    if isinstance(conn, asyncpg.Pool):
        async with conn.acquire() as connection, atomic(connection):
            yield connection
        return
    check_task(conn)
    try:
        is_in_transaction = conn.is_in_transaction
    except AttributeError as error:
        raise invalid_connection(conn) from error
    _tasks[id(conn)] = asyncio.current_task()
    try:
        async with _savepoint(conn) if is_in_transaction() else _transaction(conn):
            yield conn
    finally:
        _tasks.pop(id(conn), None)


# Not Connection.transaction(): it refuses where the caller began by a plain BEGIN, and leaves a
# transaction open where it is cancelled at a BEGIN that the server has executed.


@asynccontextmanager
async def _savepoint(conn: Any) -> AsyncIterator[None]:
    # Where this fails there may be nothing to roll back to; a savepoint left over does no harm.
    await conn.execute("SAVEPOINT assessments_block")
    rollback = "ROLLBACK TO SAVEPOINT assessments_block; RELEASE SAVEPOINT assessments_block"
    async with _rollback_on_error(conn, rollback):
        yield
    await conn.execute("RELEASE SAVEPOINT assessments_block")


@asynccontextmanager
async def _transaction(conn: Any) -> AsyncIterator[None]:
    async with _rollback_on_error(conn, "ROLLBACK"):
        await conn.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        yield
        with driver_errors():  # deferred constraints are checked now
            await conn.execute("COMMIT")


@asynccontextmanager
async def _rollback_on_error(conn: Any, rollback: str) -> AsyncIterator[None]:
    """Send *rollback* where the block fails or is cancelled."""
    try:
        yield
    except BaseException:
        # Where the rollback fails too, the connection or the caller's transaction is lost in any
        # case, and the block's own error says why. asyncpg's InternalClientError is a bare
        # Exception.
        with suppress(Exception):
            await conn.execute(rollback)
        raise


@asynccontextmanager
async def rolled_back(conn: Any) -> AsyncIterator[None]:
    """Run a block in a savepoint and roll it back, which releases its locks."""
    rollback = "ROLLBACK TO SAVEPOINT assessments_check; RELEASE SAVEPOINT assessments_check"
    await conn.execute("SAVEPOINT assessments_check")
    try:
        yield
    except BaseException:
        with suppress(Exception):  # where the connection is lost, the block's own error says why
            await conn.execute(rollback)
        raise
    await conn.execute(rollback)
