"""Two connections in a fixed order: one holds a transaction open, the other runs beside it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import assessments
from tests.helpers.observe import until_waiting_for_lock

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


async def blocked(call: Awaitable[Any], by: Connection, on: Connection) -> asyncio.Future[Any]:
    """Start *call* on one connection; return once it waits for a lock that the other holds."""
    task = asyncio.ensure_future(call)
    await until_waiting_for_lock(by, on.get_server_pid())
    assert await _blocks(by, on)
    return task


async def started(
    call: Awaitable[Any], by: Connection, on: Connection
) -> tuple[asyncio.Future[Any], bool]:
    """Start *call*; once it has ended or waits for a lock, return it and whether *by* blocks it."""
    task = asyncio.ensure_future(call)
    waiting = asyncio.ensure_future(until_waiting_for_lock(by, on.get_server_pid()))
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waits = waiting.done() and not task.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return task, waits and await _blocks(by, on)


async def without_waiting(call: Awaitable[Any]) -> Any:
    """Return what *call* returns while another transaction is open that could block it."""
    return await asyncio.wait_for(call, 10)


async def _blocks(by: Connection, on: Connection) -> bool:
    query = "SELECT pg_backend_pid() = ANY (pg_blocking_pids($1))"
    blocks: bool = await by.fetchval(query, on.get_server_pid())
    return blocks
