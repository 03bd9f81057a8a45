"""Observe what a connection sends, what an error discloses, and who waits for a lock."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg


def everything_shown(error: BaseException) -> str:
    """Return everything that a log of *error* could show: its chain, arguments, attributes."""
    shown = "".join(traceback.format_exception(error))
    links: list[BaseException | None] = [error]
    for link in links:
        if link is not None:
            shown += repr(link) + repr(link.args) + repr(vars(link))
            links += (link.__cause__, link.__context__)
    return shown


async def until_waiting_for_lock(conn: asyncpg.Connection[Any], pid: int) -> None:
    """Return once the backend *pid* waits for a lock; fail after 10 seconds."""

    async def watch() -> None:
        waiting = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE pid = $1 AND NOT granted)"
        while not await conn.fetchval(waiting, pid):
            await asyncio.sleep(0.005)

    await asyncio.wait_for(watch(), 10)


class StatementLog(list[str]):
    """The queries that a connection sends from now on."""

    def __init__(self, conn: asyncpg.Connection[Any]) -> None:
        super().__init__()
        conn.add_query_logger(lambda record: self.append(record.query))

    async def complete(self) -> StatementLog:
        """Return them all: asyncpg reports a query one turn of the event loop after it ends."""
        for _ in range(3):
            await asyncio.sleep(0)
        return self
