"""Two connections in a fixed order: one holds a transaction open, the other runs beside it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import assessments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    import asyncpg

Connection: TypeAlias = "asyncpg.Connection[Any]"
ENDS = ("commit", "rollback")


@asynccontextmanager
async def open_transaction(conn: Connection, end: str = "commit") -> AsyncIterator[None]:
    """Run the block in a transaction, then commit or roll back as *end* says."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        yield
    except BaseException:
        await transaction.rollback()
        raise
    await (transaction.commit() if end == "commit" else transaction.rollback())


async def outcome(call: Awaitable[Any]) -> Any:
    """Return what *call* returns, or its error's class and which batch item it names."""
    try:
        return await call
    except assessments.AssessmentsError as error:
        return type(error), getattr(error, "parameter", None)


async def started(
    call: Awaitable[Any], by: Connection, on: Connection
) -> tuple[asyncio.Future[Any], bool]:
    """Start *call*; return it, and whether it waits for the other connection or has ended."""
    task = asyncio.ensure_future(call)
    blocks = "SELECT pg_backend_pid() = ANY (pg_blocking_pids($1))"
    for _ in range(2000):
        waits: bool = await by.fetchval(blocks, on.get_server_pid())
        if waits or task.done():
            return task, waits
        await asyncio.wait([task], timeout=0.005)
    message = "neither ended nor blocked after 10 seconds"
    raise TimeoutError(message)


async def blocked(call: Awaitable[Any], by: Connection, on: Connection) -> asyncio.Future[Any]:
    """Start *call* on one connection; return it once it waits for what the other has locked."""
    task, waits = await started(call, by, on)
    assert waits
    return task
