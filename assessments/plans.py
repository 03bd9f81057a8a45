"""Generic plans of the named queries: what PostgreSQL caches for any arguments."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.queries import named, queries
from assessments.transactions import rolled_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    Node = dict[str, Any]

# Parameters are numbered from here on. pg_stat_statements takes such a query for another one, so
# that the service's own keeps its own text there; and the $0 of an InitPlan, as PostgreSQL 15 and
# 16 print it, is no parameter.
_FIRST = 100
_NUMBER = re.compile(r"\$(\d+)")
_TABLES = ("assessment_responses", "assessment_scores")


@dataclass(frozen=True)
class Plan:
    """A plan, as EXPLAIN prints it, with the names of the parameters in the place of numbers.

    Attributes:
        top: What ``EXPLAIN (FORMAT JSON)`` returns: ``"Plan"``, and what was measured.
        text: The same as text; empty where it was not asked for.
    """

    top: Node
    text: str = ""

    @property
    def nodes(self) -> list[Node]:
        """The plan's nodes, each before those below it."""
        return list(_walk(self.top["Plan"]))

    @property
    def indexes(self) -> set[str]:
        """The indexes of this library's tables that the plan uses, that of ON CONFLICT too."""
        return set(_indexes(self.top["Plan"]))


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _indexes(node: Node, relation: str = "") -> Iterator[str]:
    relation = node.get("Relation Name", relation)  # a bitmap index scan has that of the heap scan
    if relation in _TABLES:
        if "Index Name" in node:
            yield node["Index Name"]
        yield from node.get("Conflict Arbiter Indexes", ())
    for child in node.get("Plans", ()):
        yield from _indexes(child, relation)


async def plan_query(conn: Any, name: str, *, with_text: bool = True) -> Plan | None:
    """Plan the query *name* without running it, in a savepoint of *conn*'s transaction.

    Returns:
        The generic plan, or ``None`` where the server makes none, as Citus does.

    Raises:
        asyncpg.PostgresError: The query cannot be planned for this role on this database.
    """
    async with rolled_back(conn), prepared(conn, name) as statement:
        call = statement.call({})
        try:
            async with rolled_back(conn):
                await conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                top = await statement.explain("FORMAT JSON", call)
                text = await statement.explain("FORMAT TEXT", call) if with_text else ""
                return Plan(top, text)
        except asyncpg.FeatureNotSupportedError:
            async with rolled_back(conn):  # unless the query itself is what is not supported
                await conn.execute("SET LOCAL plan_cache_mode = force_custom_plan")
                await statement.explain("FORMAT TEXT", call)
            return None


@dataclass(frozen=True)
class Prepared:
    """A named query, prepared on a connection."""

    conn: Any
    parameters: tuple[str, ...]

    async def set_arguments(self, values: Mapping[str, str | None]) -> dict[str, str]:
        """Return expressions of *values*, the text of arguments, until the transaction ends.

        They are kept in settings, so that the text of what executes it, which the server's views
        and log may show, holds none of them.
        """
        given = {name: value for name, value in values.items() if value is not None}
        settings = [f"assessments_plan.{name}" for name in given]
        await self.conn.fetch(
            "SELECT pg_catalog.set_config(s.name, s.value, TRUE)"
            " FROM unnest($1::text[], $2::text[]) AS s (name, value)",
            settings,
            list(given.values()),
        )
        ((types,),) = await self.conn.fetch(
            "SELECT parameter_types::text[] FROM pg_catalog.pg_prepared_statements"
            " WHERE name = 'assessments_plan'::text"
        )
        kinds = dict(zip(self.parameters, types[_FIRST:], strict=True))
        return {
            name: f"pg_catalog.current_setting('{setting}')::{kinds[name]}"
            for name, setting in zip(given, settings, strict=True)
        }

    def call(self, expressions: Mapping[str, str]) -> str:
        """Return what executes it; a parameter that has no SQL expression is null."""
        arguments = ["NULL"] * _FIRST + [expressions.get(each, "NULL") for each in self.parameters]
        return f"EXECUTE assessments_plan ({', '.join(arguments)})"

    async def explain(self, options: str, call: str) -> Any:
        """Return what EXPLAIN prints of *call*, with the names of the parameters."""
        rows = await self.conn.fetch(f"EXPLAIN ({options}) {call}")
        if "JSON" not in options:
            return self._name_parameters("\n".join(line for (line,) in rows))
        ((shown,),) = rows
        text = shown if isinstance(shown, str) else json.dumps(shown)  # a codec of the host's
        return json.loads(self._name_parameters(text))[0]

    def _name_parameters(self, text: str) -> str:
        names = {str(n): f":{each}" for n, each in enumerate(self.parameters, _FIRST + 1)}
        return _NUMBER.sub(lambda found: names.get(found[1], found[0]), text)


@asynccontextmanager
async def prepared(conn: Any, name: str) -> AsyncIterator[Prepared]:
    """Prepare the query *name* for a block, which leaves the transaction usable.

    pg_stat_statements keeps the text of the first statement of each query, PREPARE's too: what is
    prepared here is a query of its own to it.
    """
    parameters = tuple(queries.driver_adapter.var_sorted[name])
    sql = _NUMBER.sub(lambda found: f"${_FIRST + int(found[1])}", named(name).sql)
    if not parameters:  # a query that nothing reads, and so is not planned
        sql = re.sub(
            r"\*/ (WITH\b)?",
            lambda found: f"*/ WITH unread AS (SELECT){',' if found[1] else ' '}",
            sql,
            count=1,
        )
    types = ["boolean"] * _FIRST + ["unknown"] * len(parameters)
    await conn.execute(f"PREPARE assessments_plan ({', '.join(types)}) AS {sql}")
    try:
        yield Prepared(conn, parameters)
    finally:
        await conn.execute("DEALLOCATE assessments_plan")
