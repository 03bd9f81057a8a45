"""The named queries of ``sql/``, as async functions.

``queries.get_responses(conn, user_id=…, …)`` runs the text under ``-- name: get_responses`` in
``sql/responses.sql``. A query without an operator returns a list, ``^`` a row or ``None``,
``$`` a value, ``!`` the number of rows changed.
"""

from __future__ import annotations

import re
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from uuid import UUID

import aiosql
from aiosql.adapters.asyncpg import AsyncPGAdapter
from aiosql.query_loader import QueryLoader
from asyncpg import DataError

from assessments.codecs import run_with_text
from assessments.driver_errors import driver_errors
from assessments.transactions import check_task, invalid_connection

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    from assessments.query_types import Queries

    Connection: TypeAlias = asyncpg.Connection[Any] | PoolConnectionProxy[Any] | asyncpg.Pool[Any]
    """What the functions of this library run on."""


_TEXT = frozenset({str, type(None)})
_QUERY = re.compile(r"^-- name: ", re.MULTILINE)
_INDEX = re.compile(r"\b(?:idx_assessment_\w+|assessment_\w+_pkey)\b")


def folder(name: str) -> Path:
    """Return the directory *name*, ``sql`` or ``migrations``.

    It stands inside the package where a wheel was installed, beside it in a checkout.
    """
    package = Path(str(files("assessments")))
    for parent in (package, package.parent):
        if (found := parent / name).is_dir():
            return found
    raise FileNotFoundError(f"{name}/ is neither in {package} nor beside it")


class Adapter(AsyncPGAdapter):
    """aiosql's adapter for asyncpg, lean and strict.

    aiosql's own tests at each call whether it was given a pool, which asyncpg's pool does not need;
    returns lists as generators that run nothing before they are iterated and hold a pool's
    connection until then; and returns counts as status strings.
    """

    is_aio_driver = False  # so that aiosql returns our coroutines as they are

    def process_sql(self, query_name: str, operation: Any, sql: str) -> str:
        """Number the parameters and put the name at both ends, for the server's views and log.

        ``pg_stat_activity`` cuts a long text at its end. ``pg_stat_statements`` drops a comment in
        front, from PostgreSQL 18 on, and whatever comes behind the semicolon.
        """
        if query_name in self.var_sorted:
            raise ValueError(f"sql/ holds two queries named {query_name}")
        self.var_sorted[query_name] = []
        numbered = super().process_sql(query_name, operation, sql)  # type: ignore[no-untyped-call]
        name = f"/* assessments.{query_name} */"
        return f"{name} {numbered.rstrip().removesuffix(';')} {name}"

    def select(
        self, conn: Any, query_name: str, sql: str, parameters: Any, _record_class: Any = None
    ) -> Any:
        """Run a query for the list of its rows."""
        return self._run(conn, "fetch", query_name, sql, parameters)

    def select_one(
        self, conn: Any, query_name: str, sql: str, parameters: Any, _record_class: Any = None
    ) -> Any:
        """Run a query for its first row, or ``None``."""
        return self._run(conn, "fetchrow", query_name, sql, parameters)

    def select_value(self, conn: Any, query_name: str, sql: str, parameters: Any) -> Any:
        """Run a query for the first column of its first row, or ``None``."""
        return self._run(conn, "fetchval", query_name, sql, parameters)

    async def insert_update_delete(
        self, conn: Any, query_name: str, sql: str, parameters: Any
    ) -> int:
        """Run a command for the number of rows that it changed."""
        status: str = await self._run(conn, "execute", query_name, sql, parameters)
        return int(status.rpartition(" ")[2])

    async def _run(self, conn: Any, method: str, query_name: str, sql: str, parameters: Any) -> Any:
        check_task(conn)
        try:
            _, run = conn.fetch, getattr(conn, method)  # other drivers have an execute, too
        except AttributeError as error:
            raise invalid_connection(conn) from error
        arguments = [parameters[name] for name in self.var_sorted[query_name]]
        with driver_errors():
            try:
                return await run(sql, *arguments)
            except DataError as error:
                return await run_with_text(run, sql, arguments, error)


class Loader(QueryLoader):
    """aiosql's loader without its search for ``/* */``, which `sql/` does not have.

    That search stops at every character: it took two thirds of ``import assessments``.
    """

    def load_query_data_from_sql(
        self, sql: str, ns_parts: list[str], fname: Path | str = "<unknown>"
    ) -> list[Any]:
        """Return the queries of a file."""
        head, *texts = _QUERY.split(sql)
        line = 1 + head.count("\n")
        found = []
        for text in texts:
            found.append(self._make_query_datum(text, ns_parts, (fname, line)))
            line += text.count("\n")
        return found


# The adapter follows neither of aiosql's two protocols: its functions are plain, as in the
# synchronous one, and return awaitables, as in the asynchronous one.
queries = cast(
    "Queries",
    aiosql.from_path(
        folder("sql"),
        Adapter,  # type: ignore[arg-type]
        attribute=None,  # no :parameter.attribute, for which each text would be searched
        loader_cls=Loader,
        encoding="utf-8",
    ),
)


def named(name: str) -> Any:
    """Return the query *name*, such as ``get_responses`` or ``cli.import_responses``."""
    return attrgetter(name)(queries)


def promised_indexes(name: str) -> set[str]:
    """Return the indexes that the comment of the query *name* says its plan uses."""
    return set(_INDEX.findall(named(name).__doc__))


def text_arrays(columns: dict[str, list[Any]]) -> dict[str, list[str | None]]:
    """Return *columns* as the text arrays that a query for many takes, under their plural names.

    asyncpg knows text[] beforehand; any other array type it looks up in the catalogue first.
    """
    return {
        f"{name}s": column
        if _TEXT.issuperset(map(type, column))
        else [value if type(value) in _TEXT else _to_text(value) for value in column]
        for name, column in columns.items()
    }


def _to_text(value: object) -> str:
    if isinstance(value, str):
        return value  # of a subclass, whose overrides are ignored
    return value.hex if isinstance(value, UUID) else str(value)
