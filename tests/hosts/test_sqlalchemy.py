"""On SQLAlchemy's connection, what the library does is part of SQLAlchemy's transaction."""

from __future__ import annotations

import asyncio
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from sqlalchemy import BigInteger, Column, Text, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool

import assessments
from assessments import InvalidInput, UnknownUser, UnsafeIsolation, claim_assessment_responses
from assessments.sqlalchemy import asyncpg_connection
from tests.helpers import pages, pgbouncer
from tests.helpers.calls import RECORDS, SUBMITS, Subject, catalogue
from tests.helpers.polling import until
from tests.helpers.rows import counts, new_user, submit
from tests.helpers.sqlalchemy_hosts import HOSTS, HostError, running, sign_in, stored
from tests.helpers.transactions import open_transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncEngine

    Connection = asyncpg.Connection[Any]


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """Return a host's engine on this test's database."""
    async with running(database) as created:
        yield created


@pytest.fixture(params=HOSTS)
def begin(request: pytest.FixtureRequest) -> Callable[[AsyncEngine], Any]:
    """Return what begins a transaction on a connection or a session of SQLAlchemy's."""
    return HOSTS[request.param]


async def driver_connection(host: Any) -> Any:
    """Return what a host would pass that does not know of `asyncpg_connection`."""
    if isinstance(host, AsyncSession):
        host = await host.connection()
    return (await host.get_raw_connection()).driver_connection


async def count_statements(engine: AsyncEngine) -> Any:
    """Return how many named statements a connection of the server's has prepared."""
    async with engine.connect() as connection:
        named = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"
        return (await connection.execute(text(named))).scalar()


@pytest.mark.parametrize("options", [{}, {"poolclass": NullPool}], ids=["pool", "NullPool"])
async def test_what_comes_first_is_rolled_back_with_the_host(
    begin: Any,
    database: str,
    conn: Connection,
    user_id: int,
    token: UUID,
    *,
    options: dict[str, Any],
) -> None:
    """A submission and a claim before any statement of SQLAlchemy's end as its transaction does."""
    await submit(conn, anonymous_token=token)
    async with running(database, **options) as engine:
        call = partial(sign_in, token=token, user_id=user_id)
        await call(begin(engine), asyncpg_connection, fails=True)
        assert await stored(conn, token) == (1, 1)
        await call(begin(engine), asyncpg_connection, fails=False)

    assert await stored(conn, token) == (2, 0)


async def test_on_the_bare_driver_connection_it_would_stay(
    begin: Any, engine: AsyncEngine, conn: Connection, user_id: int, token: UUID
) -> None:
    """The trap that `asyncpg_connection` closes: SQLAlchemy has not yet begun on the server."""
    await submit(conn, anonymous_token=token)

    await sign_in(begin(engine), driver_connection, token=token, user_id=user_id, fails=True)

    assert await stored(conn, token) == (2, 0)


@pytest.mark.parametrize("commits", [False, True])
async def test_without_a_begin_the_host_s_commit_decides(
    engine: AsyncEngine, conn: Connection, token: UUID, *, commits: bool
) -> None:
    """SQLAlchemy begins by itself, on a connection, a session and a scoped session."""
    scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
    for host in (engine.connect(), AsyncSession(engine), scoped()):
        async with host as opened:
            await submit(await asyncpg_connection(opened), anonymous_token=token)
            if commits:
                await opened.commit()
    await submit(await asyncpg_connection(scoped), anonymous_token=token)
    await (scoped.commit() if commits else scoped.rollback())
    await scoped.remove()

    assert await counts(conn) == (4 * commits, 0)


async def test_each_transaction_of_a_session_is_asked_for_its_connection(
    engine: AsyncEngine, conn: Connection, token: UUID
) -> None:
    """After a commit the next one is begun as well."""
    async with AsyncSession(engine) as session:
        await submit(await asyncpg_connection(session), "q1", anonymous_token=token)
        await session.commit()
        await submit(await asyncpg_connection(session), "q2", anonymous_token=token)
        await session.rollback()

    assert await counts(conn) == (1, 0)


async def test_a_nested_transaction_is_rolled_back_alone(
    begin: Any, engine: AsyncEngine, conn: Connection, user_id: int, token: UUID
) -> None:
    """What the library did in a savepoint of SQLAlchemy's goes, and what it did before stays."""
    async with begin(engine) as host:
        await submit(await asyncpg_connection(host), anonymous_token=token)
        with suppress(HostError):
            async with host.begin_nested():
                inner = await asyncpg_connection(host)
                claim = claim_assessment_responses(inner, anonymous_token=token, user_id=user_id)
                assert await claim == 1
                raise HostError

    assert await stored(conn, token) == (1, 1)


async def test_a_nested_transaction_that_has_ended_is_refused(
    begin: Any, engine: AsyncEngine
) -> None:
    """SQLAlchemy refuses statements before its block is left; nothing goes to the outer one."""
    async with begin(engine) as host, host.begin_nested() as nested:
        await nested.rollback()
        with pytest.raises(Exception, match="closed transaction inside context manager"):
            await asyncpg_connection(host)


async def test_with_autocommit_each_call_commits_by_itself(
    begin: Any, database: str, conn: Connection, user_id: int, token: UUID
) -> None:
    """As AUTOCOMMIT says, the host's failure undoes nothing; a claim is still all or nothing."""
    await submit(conn, anonymous_token=token)
    async with running(database, isolation_level="AUTOCOMMIT") as engine:
        await sign_in(begin(engine), asyncpg_connection, token=token, user_id=user_id, fails=True)

    assert await stored(conn, token) == (2, 0)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_claim_refuses_the_engine_s_isolation_level(
    begin: Any, database: str, conn: Connection, user_id: int, token: UUID, *, level: str
) -> None:
    """It claims nothing, and the host's transaction goes on."""
    async with running(database, isolation_level=level) as engine, begin(engine) as host:
        inner = await asyncpg_connection(host)
        await submit(inner, anonymous_token=token)
        with pytest.raises(UnsafeIsolation):
            await claim_assessment_responses(inner, anonymous_token=token, user_id=user_id)
        await host.execute(text("SELECT 1"))

    assert await stored(conn, token) == (1, 1)


async def test_a_sign_in_may_ask_a_stricter_engine_for_read_committed(
    database: str, conn: Connection, user_id: int, token: UUID
) -> None:
    """As docs/hosts.md says: by the session's first statement, and then it claims."""
    await submit(conn, anonymous_token=token)
    async with (
        running(database, isolation_level="SERIALIZABLE") as engine,
        AsyncSession(engine) as session,
        session.begin(),
    ):
        await session.connection(execution_options={"isolation_level": "READ COMMITTED"})
        inner = await asyncpg_connection(session)
        await claim_assessment_responses(inner, anonymous_token=token, user_id=user_id)

    assert await stored(conn, token) == (1, 0)


async def test_an_error_of_the_library_s_leaves_the_transaction_usable(
    begin: Any, engine: AsyncEngine, conn: Connection, token: UUID
) -> None:
    """A host that catches it goes on and commits."""
    async with begin(engine) as host:
        inner = await asyncpg_connection(host)
        await submit(inner, anonymous_token=token)
        with pytest.raises(UnknownUser):
            await submit(inner, user_id=2**40)
        with pytest.raises(UnknownUser):
            await claim_assessment_responses(inner, anonymous_token=token, user_id=2**40)
        await host.execute(text("SELECT 1"))

    assert await stored(conn, token) == (1, 1)


WAITS = """
SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_database AS d ON d.oid = database
WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted)
"""


async def test_a_cancelled_sign_in_is_rolled_back(
    begin: Any, database: str, conn: Connection, other: Connection, *, user_id: int, token: UUID
) -> None:
    """What it had stored goes, and the connection is used again."""
    await submit(conn, anonymous_token=token)
    async with running(database, pool_size=1, max_overflow=0) as engine:
        call = partial(sign_in, get_connection=asyncpg_connection, token=token, user_id=user_id)
        async with open_transaction(other, "rollback"):
            await claim_assessment_responses(other, anonymous_token=token, user_id=user_id)
            task = asyncio.create_task(call(begin(engine), fails=False))
            await until(conn, WAITS)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await stored(conn, token) == (1, 1)
        await call(begin(engine), fails=False)

    assert await stored(conn, token) == (2, 0)


async def test_a_lost_connection_stores_nothing_and_is_replaced(
    begin: Any, engine: AsyncEngine, conn: Connection, token: UUID
) -> None:
    """SQLAlchemy's rollback fails, too, and its error has asyncpg's in its context."""

    async def lose() -> None:
        async with begin(engine) as host:
            inner = await asyncpg_connection(host)
            await submit(inner, anonymous_token=token)
            await conn.execute("SELECT pg_terminate_backend($1)", inner.get_server_pid())
            await submit(inner, anonymous_token=token)

    with pytest.raises(DBAPIError) as lost:
        await lose()
    async with begin(engine) as host:
        await submit(await asyncpg_connection(host), anonymous_token=token)

    error: BaseException = lost.value
    while error.__context__:
        error = error.__context__
    assert type(error).__module__.startswith("asyncpg.")
    assert await counts(conn) == (1, 0)


def unidentified(result: Any) -> Any:
    """Return *result* without what every new row has of its own."""
    rows = result if isinstance(result, list) else [result]
    own = ("response_id", "score_id", "created_at")
    return [{name: row[name] for name in row if name not in own} for row in rows]


@pytest.mark.parametrize("options", [{}, {"json_deserializer": str}], ids=["json", "own json"])
async def test_every_call_returns_the_same_on_sqlalchemy_s_connection(
    database: str, conn: Connection, user_id: int, token: UUID, options: dict[str, Any]
) -> None:
    """SQLAlchemy sets codecs for json and jsonb, with a host's own deserializer too."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    calls = catalogue(Subject(user_id, token, response_id, {"anonymous_token": token}))
    async with running(database, **options) as engine, engine.connect() as connection:
        for name, call in calls.items():
            async with open_transaction(conn, "rollback"):
                expected = await call(conn)
            result = await call(await asyncpg_connection(connection))
            await connection.rollback()
            if name in SUBMITS | RECORDS:
                result, expected = unidentified(result), unidentified(expected)
            assert result == expected, name


@pytest.mark.skipif(
    pgbouncer.binary() is None, reason="PgBouncer is not installed (apt install pgbouncer)"
)
@pytest.mark.parametrize(
    ("level", "sign_ins"), [("READ COMMITTED", ["fails", "commits"]), ("AUTOCOMMIT", ["commits"])]
)
async def test_behind_a_transaction_mode_pooler_with_the_page_s_settings(
    server: str, begin: Any, database: str, conn: Connection, *, level: str, sign_ins: list[str]
) -> None:
    """16 clients on 3 server connections commit or roll back their own, and leave no statement."""
    page: dict[str, Any] = {}
    exec(pages.blocks("docs/hosts.md", "python", "SQLAlchemy")[1], page)  # noqa: S102 - our own
    options = {"connect_args": page["connect_args"], "isolation_level": level, "pool_size": 16}

    async def client(engine: AsyncEngine, token: UUID, user_id: int) -> None:
        for end in sign_ins:
            fails = end == "fails"
            call = partial(sign_in, token=token, user_id=user_id, fails=fails)
            await call(begin(engine), asyncpg_connection)

    users = {uuid4(): await new_user(conn) for _ in range(16)}
    for token in users:
        await submit(conn, anonymous_token=token)
    with pgbouncer.running(server, default_pool_size=3) as pooler:
        pooled = urlsplit(pooler)._replace(path=urlsplit(database).path).geturl()
        async with running(pooled, **options) as engine:
            await asyncio.gather(*(client(engine, *each) for each in users.items()))
            left = await asyncio.gather(*(count_statements(engine) for _ in range(16)))

    assert left == [0] * 16
    owned = await conn.fetch("SELECT user_id FROM assessment_responses ORDER BY 1")
    assert [row["user_id"] for row in owned] == sorted([*users.values()] * 2)


async def test_the_page_s_sign_in_is_one_transaction(
    engine: AsyncEngine, conn: Connection, token: UUID
) -> None:
    """The first block of docs/hosts.md adds a user by the host's ORM and claims for it."""

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "users"
        user_id = Column(BigInteger, primary_key=True)
        email = Column(Text)

    await conn.execute("ALTER TABLE users ADD COLUMN email text")
    await submit(conn, anonymous_token=token)
    names = {"AsyncSession": AsyncSession, "User": User, "assessments": assessments}
    block, _ = pages.blocks("docs/hosts.md", "python", "SQLAlchemy")
    code = compile(block, "docs/hosts.md", "exec", flags=PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, {**names, "engine": engine, "token": token})  # noqa: S307 - our own page

    assert await stored(conn, token) == (1, 0)


async def test_only_what_has_an_asyncpg_connection_is_accepted(engine: AsyncEngine) -> None:
    """Anything else is InvalidInput, and so is an engine on another driver, which is named."""
    others: Any = (None, "postgresql+asyncpg://app:secret@db/app", engine, engine.sync_engine)
    for other in others:
        with pytest.raises(InvalidInput) as refused:
            await asyncpg_connection(other)
        assert refused.value.parameter == "connection_or_session"
        assert refused.value.problem == "must be an AsyncConnection or AsyncSession of SQLAlchemy"
    sqlite = create_async_engine("sqlite+aiosqlite://")
    async with AsyncSession(sqlite) as session:
        with pytest.raises(InvalidInput, match="an engine on asyncpg, not aiosqlite"):
            await asyncpg_connection(session)
    await sqlite.dispose()
