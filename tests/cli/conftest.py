"""Two databases: one to export from, one to import into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from tests.helpers.commands import Database
from tests.helpers.rows import new_user
from tests.helpers.servers import database_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def source(database: str, conn: asyncpg.Connection[Any]) -> Database:
    """Return this test's database."""
    return Database(database, conn)


@pytest.fixture
async def target(server: str, template: str) -> AsyncIterator[Database]:
    """Return another migrated database, with three users."""
    name = f"assessments_{uuid4().hex}"
    url = database_url(server, name)
    administrator = await asyncpg.connect(server)
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    conn = await asyncpg.connect(url)
    for _ in range(3):
        await new_user(conn)
    yield Database(url, conn)
    await conn.close()
    await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await administrator.close()
