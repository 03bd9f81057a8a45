"""For hosts on SQLAlchemy, which only this module imports: the asyncpg connection under theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

from assessments.errors import InvalidInput

if TYPE_CHECKING:
    import asyncpg

__all__ = ["asyncpg_connection"]


async def asyncpg_connection(
    connection_or_session: AsyncConnection | AsyncSession | async_scoped_session[Any],
) -> asyncpg.Connection[Any]:
    """Return the asyncpg connection of SQLAlchemy's transaction, begun on the server.

    What the library does on it commits and rolls back with SQLAlchemy's transaction. SQLAlchemy
    sends BEGIN only with its own first statement: on the bare ``driver_connection``, what the
    library stored before that would stay after a rollback. So this function sends one first.
    Without a ``begin()``, the transaction is the one that SQLAlchemy begins by itself: commit it.
    With AUTOCOMMIT there is none, and each call commits by itself.

    Ask again in each transaction, and do not keep the connection beyond it: SQLAlchemy hands it to
    others. A session is not flushed: a new user is there for a claim after ``session.flush()``.

    Args:
        connection_or_session: An ``AsyncConnection`` or ``AsyncSession`` (or a scoped one) of an
            engine on asyncpg, ``postgresql+asyncpg://``.

    Returns:
        The connection to pass as *conn*.

    Raises:
        InvalidInput: It is something else, or its engine is on another driver.
    """
    connection = connection_or_session
    if isinstance(connection, (AsyncSession, async_scoped_session)):
        connection = await connection.connection()
    if not isinstance(connection, AsyncConnection):
        problem = "must be an AsyncConnection or AsyncSession of SQLAlchemy"
        raise InvalidInput("connection_or_session", problem)
    if connection.dialect.driver != "asyncpg":
        problem = f"must be of an engine on asyncpg, not {connection.dialect.driver}"
        raise InvalidInput("connection_or_session", problem)
    await connection.exec_driver_sql("SELECT 1")
    pooled = await connection.get_raw_connection()
    return pooled.driver_connection  # type: ignore[return-value]
