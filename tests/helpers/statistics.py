"""A server that counts statements with pg_stat_statements."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from assessments.testing import migrations, server
from tests.helpers.cluster import Cluster
from tests.helpers.servers import database_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LIBRARY = "pg_stat_statements"


async def settle(cluster: Cluster) -> bool:
    """Load the library that counts statements; return whether the server has it."""
    if not await cluster.fetch(f"SELECT FROM pg_available_extensions WHERE name = '{LIBRARY}'"):
        return False
    ((loaded,),) = await cluster.fetch("SHOW shared_preload_libraries")
    if LIBRARY not in loaded:
        await cluster.fetch(f"ALTER SYSTEM SET shared_preload_libraries = {LIBRARY}")
        await cluster.restart()
    return True


@contextmanager
def counting_server(choice: str) -> Iterator[str]:
    """Yield the URL of a server that counts: the one chosen by its URL, or our own; or skip."""
    if "://" in choice:
        if not asyncio.run(settle(Cluster(choice))):
            pytest.skip(f"the server has no {LIBRARY}")
        yield choice
        return
    for binaries in filter(None, (server.installed_binaries(), server.embedded_binaries())):
        with server.running(binaries) as url:
            if asyncio.run(settle(Cluster(url))):
                yield url
                return
    pytest.skip(f"no PostgreSQL on this machine has {LIBRARY}")


@asynccontextmanager
async def counting_database(server_url: str) -> AsyncIterator[tuple[str, asyncpg.Connection[Any]]]:
    """Yield the URL of a migrated database whose statements are counted, and a connection."""
    name = f"assessments_{uuid4().hex}"
    url = database_url(server_url, name)
    administrator = await asyncpg.connect(server_url)
    await administrator.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    try:
        await asyncio.to_thread(migrations.apply, url)
        conn: asyncpg.Connection[Any] = await asyncpg.connect(url)
        await conn.execute(f"CREATE EXTENSION {LIBRARY}; SELECT {LIBRARY}_reset()")
        yield url, conn
        await conn.close()
    finally:
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await administrator.close()
