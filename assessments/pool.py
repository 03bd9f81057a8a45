"""A pool with sane defaults, for a direct connection or behind a transaction-mode pooler."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg

from assessments.errors import InvalidInput
from assessments.urls import check_url

__all__ = ["create_pool"]

_DEFAULTS: dict[str, Any] = {
    "min_size": 1,
    "timeout": 10,
    "command_timeout": 30,
}
# Dashboards of hosted poolers and SQLAlchemy's users add these to URLs for other clients. asyncpg
# would send them to the server as settings, and the server would refuse the connection.
_FOREIGN_DSN_PARAMETERS = frozenset(
    {
        "async_fallback",
        "channel_binding",
        "connect_timeout",
        "connection_limit",
        "pgbouncer",
        "pool_timeout",
        "prepared_statement_cache_size",
        "prepared_statements",
        "schema",
        "statement_cache_size",
        "supa",
        "workaround",
    }
)


def create_pool(
    dsn: str, *, pooler: Literal["transaction"] | None = None, **asyncpg_options: Any
) -> asyncpg.Pool[Any]:
    """Create an ``asyncpg.Pool``; use it with ``async with``, or ``await`` it.

    The defaults: *min_size* 1, *timeout* (to connect) 10 seconds, *command_timeout* 30 seconds.

    Behind a pooler in transaction mode without prepared-statement support, a connection's next
    statement may reach another server process, where the name of a statement that asyncpg has
    cached belongs to a different statement. With ``pooler="transaction"`` no statement is cached.
    The reset at release, which would reach any server process, is left out; after a call that was
    cut short, one empty statement ends the transaction that asyncpg may have left open.

    Args:
        dsn: A ``postgresql://`` URL; ``postgres://`` and SQLAlchemy's ``postgresql+asyncpg://``
            will do. Parameters that are for other clients, such as ``?pgbouncer=true`` from a
            pooler's dashboard, are removed; ``pgbouncer=true`` implies ``pooler="transaction"``.
        pooler: ``"transaction"`` behind PgBouncer, Supavisor and their like in transaction mode.
        **asyncpg_options: Anything that ``asyncpg.create_pool`` takes; it wins over the defaults.

    Returns:
        The pool, not yet connected.

    Raises:
        InvalidInput: *pooler* is neither ``None`` nor ``"transaction"``, or *dsn* is not a URL of
            PostgreSQL; the error quotes no password.
    """
    dsn = check_url("dsn", dsn)
    if pooler not in (None, "transaction"):
        raise InvalidInput("pooler", 'must be None or "transaction"')
    dsn, foreign = _without_foreign_parameters(dsn)
    options = dict(_DEFAULTS)
    if pooler == "transaction" or foreign.get("pgbouncer") == "true":
        options |= {
            "statement_cache_size": 0,
            "connection_class": _PoolerConnection if _CAN_HOOK else asyncpg.Connection,
            "reset": _reset_on_release,
        }
    return asyncpg.create_pool(dsn, **options | asyncpg_options)


def _without_foreign_parameters(dsn: str) -> tuple[str, dict[str, str]]:
    url = urlsplit(dsn)
    parameters = parse_qsl(url.query, keep_blank_values=True)
    foreign = {name: value for name, value in parameters if name in _FOREIGN_DSN_PARAMETERS}
    if not foreign:
        return dsn, {}
    kept = [pair for pair in parameters if pair[0] not in foreign]
    return url._replace(query=urlencode(kept)).geturl(), foreign


_HOOKS = ("_get_statement", "_do_execute")
# Without them the plain connection is used, and every release sends the statement.
_CAN_HOOK = all(hasattr(asyncpg.Connection, name) for name in _HOOKS)


class _PoolerConnection(asyncpg.Connection):  # not generic at run time
    """A connection that knows whether it may have left a transaction open at the pooler.

    asyncpg prepares a statement before it encodes and sends the arguments; the preparing begins a
    transaction at the server, and only the sending ends it.
    """

    _may_hold_open_transaction = True  # until a call is complete

    async def _get_statement(self, *arguments: Any, **options: Any) -> Any:
        self._may_hold_open_transaction = True
        return await super()._get_statement(*arguments, **options)  # type: ignore[misc]

    async def _do_execute(self, *arguments: Any, **options: Any) -> Any:
        result = await super()._do_execute(*arguments, **options)  # type: ignore[misc]
        self._may_hold_open_transaction = False
        return result


async def _reset_on_release(connection: Any) -> None:
    """Send nothing, unless the connection may have left a transaction open: then an empty SELECT.

    A connection of another class cannot tell: there it is always sent.
    """
    if getattr(connection, "_may_hold_open_transaction", True):
        await connection.execute("SELECT")
