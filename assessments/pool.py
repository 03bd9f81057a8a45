"""A pool with sane defaults, for a direct connection or behind a transaction-mode pooler."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import asyncpg

from assessments.errors import InvalidInput

__all__ = ["create_pool"]

_DEFAULTS: dict[str, Any] = {
    "min_size": 1,
    "timeout": 10,
    "command_timeout": 30,
}
# Dashboards of hosted poolers hand these out for other clients. asyncpg would send them to the
# server as settings, and the connection would be refused.
_FOREIGN_DSN_PARAMETERS = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "connection_limit",
        "pgbouncer",
        "pool_timeout",
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
    statement may reach another server process, where a name that asyncpg has cached stands for
    another statement. With ``pooler="transaction"`` none is cached; the reset at release, which
    would reach any server process, is left out, and where a call was cut short one empty statement
    ends the transaction that asyncpg may have left open.

    Args:
        dsn: A ``postgresql://`` URL. Parameters that poolers' dashboards add for other clients,
            such as ``?pgbouncer=true``, are taken out; ``pgbouncer=true`` is taken at its word
            and implies ``pooler="transaction"``.
        pooler: ``"transaction"`` behind PgBouncer, Supavisor and their like in transaction mode.
        **asyncpg_options: Anything that ``asyncpg.create_pool`` takes; it wins over the defaults.

    Returns:
        The pool, not yet connected.

    Raises:
        InvalidInput: *pooler* is neither ``None`` nor ``"transaction"``, or *dsn* is not a URL.
    """
    if not isinstance(dsn, str):
        raise InvalidInput("dsn", "must be a str")
    if pooler not in (None, "transaction"):
        raise InvalidInput("pooler", 'must be None or "transaction"')
    dsn, foreign = _without_foreign_parameters(dsn)
    options = dict(_DEFAULTS)
    if pooler == "transaction" or foreign.get("pgbouncer") == "true":
        options |= {
            "statement_cache_size": 0,
            "connection_class": _SharedConnection,
            "reset": _settle,
        }
    return asyncpg.create_pool(dsn, **options | asyncpg_options)


def _without_foreign_parameters(dsn: str) -> tuple[str, dict[str, str]]:
    url = _split(dsn)
    parameters = parse_qsl(url.query, keep_blank_values=True)
    foreign = {name: value for name, value in parameters if name in _FOREIGN_DSN_PARAMETERS}
    if not foreign:
        return dsn, {}
    kept = [pair for pair in parameters if pair[0] not in foreign]
    return url._replace(query=urlencode(kept)).geturl(), foreign


def _split(dsn: str) -> SplitResult:
    try:
        return urlsplit(dsn)
    except ValueError:
        pass  # it may quote the password: raise outside, so that it is not even the context
    raise InvalidInput("dsn", "is not a URL")


class _SharedConnection(asyncpg.Connection):  # not generic at run time
    """A connection that leaves the server process as it was for the pooler's next client."""

    cut_short = True  # until a call has come to its end

    async def _get_statement(self, *arguments: Any, **options: Any) -> Any:
        # asyncpg prepares a statement before it encodes and sends the arguments, and only the
        # sending ends the transaction that the preparing begins.
        self.cut_short = True
        return await super()._get_statement(*arguments, **options)  # type: ignore[misc]

    async def _do_execute(self, *arguments: Any, **options: Any) -> Any:
        result = await super()._do_execute(*arguments, **options)  # type: ignore[misc]
        self.cut_short = False
        return result

    async def _introspect_types(self, *arguments: Any) -> Any:
        # Around its query for array types asyncpg switches jit off and on again for the session:
        # three transactions, each of which could reach another server process.
        begin, undo = "BEGIN", "ROLLBACK"
        if self.is_in_transaction():
            begin, undo = "SAVEPOINT types", "ROLLBACK TO SAVEPOINT types; RELEASE SAVEPOINT types"
        try:
            await self.execute(begin)
            types = await super()._introspect_types(*arguments)  # type: ignore[misc]
        except BaseException:  # at BEGIN too, which the server may have done
            with suppress(Exception):
                await self.execute(undo)
            raise
        await self.execute(undo)
        return types


async def _settle(connection: Any) -> None:
    """Send nothing at release, unless a call that was cut short may have left something open.

    A connection class of the caller's cannot tell: there an empty statement is always sent.
    """
    if getattr(connection, "cut_short", True):
        await connection.execute("SELECT")
