"""``assessments check`` on a database of another encoding."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.helpers import commands
from tests.helpers.servers import database_url

if TYPE_CHECKING:
    import asyncpg


async def test_a_database_that_is_not_utf8_is_not_fit(
    server: str, conn: asyncpg.Connection[Any]
) -> None:
    """It is named, however new the server is."""
    name = f"assessments_{uuid4().hex}"
    await conn.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        url = database_url(server, name)
        done = await asyncio.to_thread(commands.run, "check", "--database", url)
    finally:
        await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")

    first = done.stdout.splitlines()[0]
    assert done.returncode == 1
    assert first.startswith(b"FAILED   PostgreSQL ")
    assert b"SQL_ASCII: it has to be" in first
