"""What two statements need to be one: a transaction of our own, or a savepoint in the caller's."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.errors import translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assessments.queries import Connection


@asynccontextmanager
async def atomic(conn: Connection) -> AsyncIterator[Any]:
    """Yield a connection on which the statements of the block hold together or not at all.

    A pool gives one connection for the block. In the caller's transaction, however it was
    begun, the block is a savepoint: what fails inside leaves that transaction usable.
    """
    if isinstance(conn, asyncpg.Pool):
        async with conn.acquire() as connection, atomic(connection):
            yield connection
        return
    # Not Connection.transaction(): it refuses where the caller began by a plain BEGIN, and leaves a
    # transaction open where it is cancelled at a BEGIN that the server has done.
    if conn.is_in_transaction():
        async with _undone_by(
            conn, "ROLLBACK TO SAVEPOINT assessments; RELEASE SAVEPOINT assessments"
        ):
            await conn.execute("SAVEPOINT assessments")
            yield conn
        await conn.execute("RELEASE SAVEPOINT assessments")
    else:
        async with _undone_by(conn, "ROLLBACK"):
            await conn.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            yield conn
            await _commit(conn)


@asynccontextmanager
async def _undone_by(conn: Any, statement: str) -> AsyncIterator[None]:
    """Send *statement* where the block fails or is cancelled."""
    try:
        yield
    except BaseException:
        # Where not even this goes through, the connection or the caller's transaction is lost in
        # any case, and the error of the block says why. asyncpg's InternalClientError is a bare
        # Exception.
        with suppress(Exception):
            await conn.execute(statement)
        raise


async def _commit(conn: Any) -> None:
    try:
        await conn.execute("COMMIT")
    except asyncpg.PostgresError as error:  # a deferred constraint speaks now
        if (translated := translate(error)) is error:
            raise
        raise translated from error
