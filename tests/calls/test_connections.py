"""What is neither an asyncpg connection nor a pool is refused by name, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from assessments import InvalidInput, claim_assessment_responses, delete_responses, get_responses
from tests.helpers.calls import TOKEN, catalogue
from tests.helpers.rows import counts, submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    Connection = asyncpg.Connection[Any]


class Foreign:
    """Another driver's connection: it can execute, but not fetch."""

    async def execute(self, *_: object) -> str:
        """Fail the test: nothing may be sent."""
        pytest.fail("was sent to another driver's connection")


class Session(AsyncSession):
    """A host's own session class."""


class Proxy:
    """A host's own proxy, which has every method of the connection that it stands for."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


class Broken(asyncpg.Connection):  # not generic at run time
    """A host's connection class, in which each method has a defect."""

    async def fetch(self, *_: Any, **__: Any) -> Any:
        """Fail."""
        raise AttributeError("the host's own")

    execute = fetch

    def is_in_transaction(self) -> bool:
        """Fail."""
        raise AttributeError("the host's own")


@pytest.fixture(params=["engine", "connection", "session", "pooled", "adapted"])
async def of_sqlalchemy(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Any]:
    """Return what a host on SQLAlchemy could take for a connection."""
    engine = create_async_engine(database.replace("postgresql", "postgresql+asyncpg", 1))
    async with engine.connect() as connection, Session(engine) as session:
        pooled = await connection.get_raw_connection()
        yield {
            "engine": engine,
            "connection": connection,
            "session": session,
            "pooled": pooled,
            "adapted": pooled.dbapi_connection,
        }[request.param]
    await engine.dispose()


async def test_a_connection_of_sqlalchemy_is_refused_by_every_call(of_sqlalchemy: Any) -> None:
    """The error names the function that returns the connection to pass instead."""
    for name, call in catalogue().items():
        with pytest.raises(InvalidInput, match=r"sqlalchemy\.asyncpg_connection") as no:
            await call(of_sqlalchemy)
        assert no.value.parameter == "conn", name


@pytest.mark.parametrize(
    ("conn", "named"),
    [
        (None, "NoneType"),
        ("postgresql://app:secret@db/app", "str"),
        (Foreign(), "tests.calls.test_connections.Foreign"),
    ],
    ids=["none", "url", "another driver's"],
)
async def test_what_is_no_connection_is_refused_by_every_call(conn: Any, named: str) -> None:
    """The error names its type and not its value, and nothing is sent."""
    for name, call in catalogue().items():
        with pytest.raises(InvalidInput) as refused:
            await call(conn)
        assert refused.value.parameter == "conn", name
        assert refused.value.problem == f"must be an asyncpg connection or pool, not {named}"


async def test_a_host_s_proxy_is_accepted(conn: Connection, user_id: int, token: UUID) -> None:
    """Whatever has the methods of a connection is one, inside the host's transaction too."""
    proxy: Any = Proxy(conn)
    await submit(proxy, anonymous_token=token)
    transaction = conn.transaction()
    await transaction.start()
    assert await claim_assessment_responses(proxy, anonymous_token=token, user_id=user_id) == 1
    assert await delete_responses(proxy, user_id=user_id) == 1
    await transaction.rollback()

    assert await counts(conn) == (1, 0)


async def test_an_error_inside_a_host_s_connection_is_not_taken_for_a_wrong_type(
    database: str,
) -> None:
    """An AttributeError in one of its methods is raised as it is."""
    conn = await asyncpg.connect(database, connection_class=Broken)
    for call in (
        get_responses(conn, user_id=1),
        delete_responses(conn, user_id=1),
        claim_assessment_responses(conn, anonymous_token=TOKEN, user_id=1),
    ):
        with pytest.raises(AttributeError, match="the host's own"):
            await call
    conn.terminate()
