"""A server of this suite's own, since the tests kill it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from assessments.testing import migrations, server
from tests.helpers.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """Return a server with a migrated database and durable commits."""
    choice = pytestconfig.getoption("--server")
    embedded = None if choice == "installed" else server.embedded_binaries()
    binaries = embedded or server.installed_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL on this machine that a test may kill")
    with server.running(binaries) as url:
        cluster = Cluster(url)
        asyncio.run(make_durable(cluster))
        migrations.apply(url)
        yield cluster


async def make_durable(cluster: Cluster) -> None:
    """Turn on what `server.running` turns off, and wait until it is on."""
    settings = ("fsync", "full_page_writes", "synchronous_commit")
    for setting in settings:
        await cluster.fetch(f"ALTER SYSTEM SET {setting} = on")
    await cluster.fetch("SELECT pg_reload_conf()")
    off = "SELECT FROM pg_settings WHERE name = any($1) AND setting <> 'on'"
    while await cluster.fetch(off, settings):
        await asyncio.sleep(0.01)
