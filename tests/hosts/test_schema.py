"""The tables in a schema of their own, from an empty database on, by each way of docs/hosts.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import asyncpg
import pytest

from assessments import claim_assessment_responses, create_pool
from tests.helpers import pgbouncer
from tests.helpers.pages import blocks, section
from tests.helpers.rows import new_user, submit
from tests.helpers.yoyo import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

PATH = "assessments,public,pg_temp"
OPTIONS = f"options=-csearch_path%3D{PATH}"
USERS = "CREATE TABLE users (user_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)"
needs_pgbouncer = pytest.mark.skipif(
    pgbouncer.binary() is None, reason="PgBouncer is not installed (apt install pgbouncer)"
)


def with_options(url: str) -> str:
    """Return *url* as the page has it for the schema."""
    return f"{url}{'&' if '?' in url else '?'}{OPTIONS}"


@pytest.fixture
async def host(empty_database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection to a database in which the host has its users, in public."""
    conn = await asyncpg.connect(empty_database)
    await conn.execute(USERS)
    yield conn
    await conn.close()


@pytest.fixture
async def by_role(host: asyncpg.Connection[Any], empty_database: str) -> AsyncIterator[str]:
    """Return the URL of a role that the page's statements have set up."""
    role, password = f"app_{uuid4().hex}", uuid4().hex
    await host.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    await host.execute(f"GRANT SELECT, INSERT, REFERENCES ON users TO {role}")
    (statements,) = blocks("docs/hosts.md", "sql", "A schema of its own")
    await host.execute(statements.replace("app;", f"{role};").replace("app SET", f"{role} SET"))
    parts = urlsplit(empty_database)
    netloc = f"{role}:{quote(password)}@{parts.netloc.rpartition('@')[2]}"
    yield parts._replace(netloc=netloc).geturl()
    await host.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


async def use(pool: asyncpg.Pool[Any], host: asyncpg.Connection[Any], token: UUID) -> None:
    """Submit and claim on one connection after another; check that all is in the schema."""
    user_id = await new_user(host)
    await submit(pool, anonymous_token=token)
    assert await claim_assessment_responses(pool, anonymous_token=token, user_id=user_id) == 1
    count = "SELECT count(*) FROM assessments.assessment_responses WHERE user_id = $1"
    assert await host.fetchval(count, user_id) == 1
    tables = "SELECT array_agg(relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = $1"
    public = await host.fetchval("SELECT 'public'::regnamespace::oid")
    assert await host.fetchval(tables, public) == ["users"]


async def test_a_role_s_path_serves_the_migrations_and_the_pool(
    host: asyncpg.Connection[Any], by_role: str, token: UUID
) -> None:
    """The role creates the tables in the schema, and finds them there."""
    await migrate("apply", by_role)

    async with create_pool(by_role, max_size=1) as pool:
        await use(pool, host, token)


async def test_a_url_s_options_serve_the_migrations_and_the_pool(
    host: asyncpg.Connection[Any], empty_database: str, token: UUID
) -> None:
    """Both yoyo and asyncpg send them, and a connection's reset keeps them."""
    assert f"?{OPTIONS}" in section("docs/hosts.md", "A schema of its own")
    await host.execute("CREATE SCHEMA assessments")
    await migrate("apply", with_options(empty_database))

    async with create_pool(with_options(empty_database), max_size=1) as pool:
        await use(pool, host, token)


async def test_a_pool_s_server_settings_serve_the_pool(
    host: asyncpg.Connection[Any], empty_database: str, token: UUID
) -> None:
    """The migrations need another way; a connection's reset keeps the settings."""
    assert f'server_settings={{"search_path": "{PATH}"}}' in section(
        "docs/hosts.md", "A schema of its own"
    )
    await host.execute("CREATE SCHEMA assessments")
    await migrate("apply", with_options(empty_database))

    settings = {"search_path": PATH}
    async with create_pool(empty_database, max_size=1, server_settings=settings) as pool:
        await use(pool, host, token)


@needs_pgbouncer
async def test_a_role_s_path_survives_a_transaction_mode_pooler(
    host: asyncpg.Connection[Any], by_role: str, token: UUID
) -> None:
    """PostgreSQL itself applies it, whoever opens the connection."""
    await migrate("apply", by_role)

    with pgbouncer.running(by_role) as url:
        async with create_pool(url, pooler="transaction") as pool:
            await use(pool, host, token)


@needs_pgbouncer
@pytest.mark.parametrize("way", ["url", "server_settings"])
@pytest.mark.parametrize("ignored", ["", "options,search_path"])
async def test_no_other_path_survives_a_transaction_mode_pooler(
    host: asyncpg.Connection[Any], empty_database: str, token: UUID, way: str, ignored: str
) -> None:
    """PgBouncer refuses the connection or, told to ignore the path, drops it."""
    await host.execute("CREATE SCHEMA assessments")
    await migrate("apply", with_options(empty_database))
    settings = {"ignore_startup_parameters": ignored} if ignored else {}
    refused = asyncpg.UndefinedTableError if ignored else asyncpg.ProtocolViolationError

    with pgbouncer.running(empty_database, **settings) as url:
        pooled = create_pool(
            with_options(url) if way == "url" else url,
            pooler="transaction",
            server_settings={"search_path": PATH} if way == "server_settings" else {},
        )
        with pytest.raises(refused):
            async with pooled as pool:
                await submit(pool, anonymous_token=token)
