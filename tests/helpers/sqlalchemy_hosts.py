"""Hosts on SQLAlchemy: their engine, their transactions, and a sign-in in one of them."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from assessments import claim_assessment_responses
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncEngine

    Connection = asyncpg.Connection[Any]


class HostError(Exception):
    """What a host raises after the library's call, in the same transaction."""


@asynccontextmanager
async def running(database: str, **options: Any) -> AsyncIterator[AsyncEngine]:
    """Yield an engine on *database*."""
    url = database.replace("postgresql", "postgresql+asyncpg", 1)
    engine = create_async_engine(url, **options)
    try:
        yield engine
    finally:
        await engine.dispose()


HOSTS: dict[str, Callable[[AsyncEngine], Any]] = {
    "connection": lambda engine: engine.begin(),
    "session": lambda engine: async_sessionmaker(engine).begin(),
}
"""What begins a transaction, on a connection and on a session."""


async def sign_in(
    begun: Any, get_connection: Any, *, token: UUID, user_id: int, fails: bool
) -> None:
    """Submit, claim, and then write the host's own; commit, or fail and roll back."""
    with suppress(HostError):
        async with begun as host:
            conn = await get_connection(host)
            await submit(conn, "q2", user_id=user_id)
            claim = claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
            assert await claim == 1
            await host.execute(text("INSERT INTO users DEFAULT VALUES"))
            if fails:
                raise HostError


async def stored(conn: Connection, token: UUID) -> tuple[int, int]:
    """Return how many responses are stored, and how many of them the token still has."""
    held = "SELECT count(*), count(*) FILTER (WHERE anonymous_token = $1) FROM assessment_responses"
    row = await conn.fetchrow(held, token)
    assert row
    return row[0], row[1]
