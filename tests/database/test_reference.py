"""The schema and the contract of the queries on file are those of this tree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import plans
from tests.helpers.yoyo import schema as read_schema
from tests.reference import ROOT, assert_on_file, contract, indexes, schema
from tests.reference.calls import CASES

if TYPE_CHECKING:
    import asyncpg


async def test_the_schema_on_file_is_the_schema(conn: asyncpg.Connection[Any]) -> None:
    """A change of what the migrations build is seen in docs/reference/schema.sql."""
    assert_on_file(await schema.pages(conn))


async def test_the_schema_on_file_builds_what_the_migrations_build(
    conn: asyncpg.Connection[Any],
) -> None:
    """The dump leaves nothing out: run, it gives the same columns, constraints and indexes."""
    built = await read_schema(conn)
    await conn.execute("DROP TABLE assessment_scores, assessment_responses")

    await conn.execute((ROOT / "docs/reference/schema.sql").read_text(encoding="utf-8"))

    assert await read_schema(conn) == built


async def test_the_contract_on_file_is_the_queries(conn: asyncpg.Connection[Any]) -> None:
    """A change of a query's parameters, result or callers is seen in the contract and the types."""
    assert_on_file(await contract.pages(conn))


async def test_the_indexes_on_file_are_the_indexes(conn: asyncpg.Connection[Any]) -> None:
    """Each index has a reason, and the queries that promise it are named beside it."""
    assert_on_file(await indexes.pages(conn))


@pytest.mark.parametrize("width", ["", "-narrow"])
async def test_the_diagram_has_every_column(conn: asyncpg.Connection[Any], width: str) -> None:
    """The diagram of docs/reviewing.md shows each column of our tables and its type."""
    diagram = (ROOT / f"docs/diagrams/tables{width}.svg").read_text(encoding="utf-8")
    shown = {
        table: re.findall(r'class="column"[^>]*>(\w+)<.*?class="type"[^>]*>(\w+)<', rows)
        for table, rows in re.findall(r'<g id="(assessment_\w+)">(.*?)</g>', diagram, re.DOTALL)
    }
    built = await conn.fetch(
        "SELECT c.relname, a.attname, replace(format_type(a.atttypid, a.atttypmod),"
        " 'timestamp with time zone', 'timestamptz') FROM pg_class AS c JOIN pg_attribute AS a"
        " ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE c.relname IN ('assessment_responses', 'assessment_scores') ORDER BY a.attnum"
    )

    assert shown == {
        table: [(column, kind) for name, column, kind in built if name == table]
        for table in ("assessment_responses", "assessment_scores")
    }, f"docs/diagrams/tables{width}.svg: draw the columns as the migrations build them"


async def test_what_is_not_null_in_the_contract_is_not(many: asyncpg.Connection[Any]) -> None:
    """No call on the data set of the plans returns a null in a column that is not null."""
    contracts = await contract.collect(many)
    rows: list[tuple[str, asyncpg.Record]] = []
    for name, case in CASES.items():
        for arguments in case.columns.values():
            async with plans.prepared(many, name, case.always | arguments) as execute:
                transaction = many.transaction()
                await transaction.start()
                rows += [(name, row) for row in await many.fetch(f"{execute} -- {name}")]
                await transaction.rollback()

    assert {name for name, _ in rows if contracts[name].not_null}
    assert [
        (name, column)
        for name, row in rows
        for column in contracts[name].not_null
        if row[column] is None
    ] == []
