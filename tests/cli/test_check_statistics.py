"""What ``check`` and ``explain`` plan does not take the place of the service's own statements."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from assessments.testing import migrations, server
from tests.helpers import pages
from tests.helpers.calls import Subject, catalogue
from tests.helpers.cluster import Cluster
from tests.helpers.commands import run
from tests.helpers.rows import new_user
from tests.helpers.servers import database_url

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARY = "pg_stat_statements"
(FIND,) = pages.blocks("sql/README.md", "sql", "Finding a query on the server")


async def settle(cluster: Cluster) -> bool:
    """Load the library that counts statements; return whether the server has it."""
    if not await cluster.fetch(f"SELECT FROM pg_available_extensions WHERE name = '{LIBRARY}'"):
        return False
    ((loaded,),) = await cluster.fetch("SHOW shared_preload_libraries")
    if LIBRARY not in loaded:
        await cluster.fetch(f"ALTER SYSTEM SET shared_preload_libraries = {LIBRARY}")
        await cluster.restart()
    return True


@pytest.fixture(scope="module")
def counting(pytestconfig: pytest.Config) -> Iterator[str]:
    """Return the URL of a server that counts statements: the one chosen by its URL, or our own."""
    choice = pytestconfig.getoption("--server") or ""
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


@pytest.mark.parametrize("command", ["check", "explain"])
async def test_after_a_command_and_traffic_every_query_is_found(
    counting: str, command: str
) -> None:
    """The documented query finds each statement by its name, and the text is the service's own."""
    name = f"assessments_{uuid4().hex}"
    url = database_url(counting, name)
    administrator = await asyncpg.connect(counting)
    await administrator.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    try:
        await asyncio.to_thread(migrations.apply, url)
        conn: asyncpg.Connection[Any] = await asyncpg.connect(url)
        await conn.execute(f"CREATE EXTENSION {LIBRARY}; SELECT {LIBRARY}_reset()")
        done = await asyncio.to_thread(run, command, "--database", url)
        assert (done.returncode, done.stderr) == (0, b"")
        user_id = await new_user(conn)
        for call in catalogue(Subject(user_id=user_id)).values():
            await call(conn)

        found = {row["query"]: row["calls"] for row in await conn.fetch(FIND)}
        await conn.close()
    finally:
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await administrator.close()

    texts = {
        re.findall(r"/\* assessments\.(\S+) \*/", text)[-1]: text
        for text in found
        if "assessments.cli." not in text
    }
    assert {"submit_response", "get_responses", "claim_assessment_responses"} <= texts.keys()
    assert {"record_score", "get_scores", "lock_claim", "purge_responses"} <= texts.keys()
    assert [text for text in found if re.search(r"PREPARE|EXPLAIN|\$10\d", text)] == []
    assert min(found.values()) >= 1
