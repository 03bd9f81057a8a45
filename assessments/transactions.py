"""Atomic blocks: a transaction, or a savepoint in the caller's."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.driver_errors import driver_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assessments.queries import Connection


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
    # Not Connection.transaction(): it refuses where the caller began by a plain BEGIN, and leaves a
    # transaction open where it is cancelled at a BEGIN that the server has executed.
    if conn.is_in_transaction():
        async with _rollback_on_error(
            conn, "ROLLBACK TO SAVEPOINT assessments; RELEASE SAVEPOINT assessments"
        ):
            await conn.execute("SAVEPOINT assessments")
            yield conn
        await conn.execute("RELEASE SAVEPOINT assessments")
    else:
        async with _rollback_on_error(conn, "ROLLBACK"):
            await conn.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            yield conn
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
