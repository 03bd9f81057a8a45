"""Waiting for what other sessions of the server do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg


async def until(
    conn: asyncpg.Connection[Any], query: str, *arguments: Any, seconds: float = 30
) -> Any:
    """Return the value of *query* once it is true; fail after *seconds*."""

    async def poll() -> Any:
        while not (value := await conn.fetchval(query, *arguments)):
            await asyncio.sleep(0.005)
        return value

    return await asyncio.wait_for(poll(), seconds)
