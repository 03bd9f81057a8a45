"""A database of some size, and one that grants what docs/reviewing.md grants."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from tests.helpers import plans
from tests.helpers.roles import ON_SCHEMA, ON_TABLES, ON_USERS, ROWS, Site
from tests.helpers.servers import database_url
from tests.helpers.yoyo import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection to the database with nothing in it."""
    connection = await asyncpg.connect(empty_database)
    yield connection
    await connection.close()


@pytest.fixture
async def many(conn: asyncpg.Connection[Any]) -> asyncpg.Connection[Any]:
    """Return a connection to the data set of the plans: 60,000 rows, half of them user 1's."""
    await plans.load(conn)
    return conn


@pytest.fixture(scope="module")
def site(server: str) -> Iterator[Site]:
    """Return the roles of docs/reviewing.md, and one that owns the host's ``users``."""

    async def is_superuser() -> bool:
        conn = await asyncpg.connect(server)
        found: bool = await conn.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = user")
        await conn.close()
        return found

    if not asyncio.run(is_superuser()):
        pytest.skip("creating roles and acting for them takes a superuser")
    created = Site(server)
    try:
        asyncio.run(created.create_roles())
        yield created
    finally:
        asyncio.run(created.drop_roles())


@pytest.fixture(scope="module")
def governed_template(site: Site) -> Iterator[str]:
    """Return the name of a database set up by the page's grants alone, each by its own role."""
    name = f"assessments_{uuid4().hex}"
    url = database_url(site.server, name)
    users = (
        "CREATE TABLE users (user_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text)"
    )

    async def set_up() -> None:
        await site.execute(site.server, f"CREATE DATABASE {name}")
        await site.execute(url, "GRANT CREATE ON SCHEMA public TO assessments_host")
        await site.execute(url, users, "host")
        await site.execute(url, "INSERT INTO users (email) VALUES ('a@'), ('b@')", "host")
        await site.execute(url, ON_SCHEMA)
        await site.execute(url, ON_USERS, "host")
        await migrate("apply", site.url(url, "owner"))
        await site.execute(url, ON_TABLES + ROWS, "owner")

    try:
        asyncio.run(set_up())
        yield name
    finally:
        drop = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
        asyncio.run(site.execute(site.server, drop))


@pytest.fixture
async def governed(site: Site, governed_template: str) -> AsyncIterator[str]:
    """Return the superuser's URL of a database of this test's own with the page's grants."""
    name = f"assessments_{uuid4().hex}"
    await site.execute(site.server, f"CREATE DATABASE {name} TEMPLATE {governed_template}")
    yield database_url(site.server, name)
    await site.execute(site.server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def login(
    site: Site, governed: str
) -> AsyncIterator[Callable[[str], Awaitable[asyncpg.Connection[Any]]]]:
    """Return a function that logs in to that database as a role."""
    async with AsyncExitStack() as connections:

        async def log_in(role: str) -> asyncpg.Connection[Any]:
            conn = await asyncpg.connect(site.url(governed, role))
            connections.push_async_callback(conn.close)
            return conn

        yield log_in
