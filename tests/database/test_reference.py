"""The schema and the contract of the queries on file are those of this tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
