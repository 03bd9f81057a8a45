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
    elif conn.is_in_transaction():
        async with _savepoint(conn):
            yield conn
    else:
        try:
            async with conn.transaction(isolation="read_committed"):
                yield conn
        except asyncpg.PostgresError as error:  # a deferred constraint speaks at COMMIT
            if (translated := translate(error)) is error:
                raise
            raise translated from error


@asynccontextmanager
async def _savepoint(conn: Any) -> AsyncIterator[None]:
    # Not Connection.transaction(), which refuses where the caller began by a plain BEGIN.
    await conn.execute("SAVEPOINT assessments")
    try:
        yield
    except BaseException:
        # Where not even this goes through, the caller's transaction is lost in any case, and
        # the error of the block says why. asyncpg's InternalClientError is a bare Exception.
        with suppress(Exception):
            await conn.execute("ROLLBACK TO SAVEPOINT assessments; RELEASE SAVEPOINT assessments")
        raise
    await conn.execute("RELEASE SAVEPOINT assessments")
