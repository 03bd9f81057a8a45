"""A query is planned for any arguments, and nothing of that stays."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from assessments import plans
from assessments.checks.planning import query_names
from assessments.queries import named, promised_indexes, queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def transaction(conn: asyncpg.Connection[Any]) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection in a transaction."""
    async with conn.transaction():
        yield conn


async def identifier(conn: asyncpg.Connection[Any], execute: str) -> str:
    """Return what pg_stat_statements would know the query of *execute* by."""
    lines = await conn.fetch(f"EXPLAIN (VERBOSE) {execute}")
    return str(lines[-1][0])


async def test_a_query_planned_is_another_to_pg_stat_statements(
    transaction: asyncpg.Connection[Any],
) -> None:
    """Nothing is planned under the identifier of the service's own statement, whose text it has."""
    conn = transaction
    await conn.execute("SET LOCAL compute_query_id = on")
    for name in query_names():
        count = len(queries.driver_adapter.var_sorted[name])
        nulls = f"({', '.join(['NULL'] * count)})" if count else ""
        await conn.execute(f"PREPARE own AS {named(name).sql}")
        own = await identifier(conn, f"EXECUTE own {nulls}")
        await conn.execute("DEALLOCATE own")

        async with plans.prepared(conn, name) as statement:
            planned = await identifier(conn, statement.call({}))

        assert own.startswith("Query Identifier: "), own
        assert planned != own, name


async def test_a_plan_names_parameters(transaction: asyncpg.Connection[Any]) -> None:
    """Text and tree hold the names of the query's parameters, and a number only of an InitPlan."""
    plan = await plans.plan_query(transaction, "claim_assessment_responses")

    assert plan
    assert "(anonymous_token = :anonymous_token)" in plan.text
    numbers = set(re.findall(r"\$(\d+)", plan.text))
    assert numbers <= set(re.findall(r"\(returns \$(\d+)\)", plan.text))
    assert plan.nodes[0]["Node Type"] == "ModifyTable"
    assert {"assessment_responses_pkey", "idx_assessment_responses_user_question"} <= plan.indexes
    assert ":skip_answered" in str(plan.top)


async def test_a_plan_names_the_indexes_of_the_tables(
    transaction: asyncpg.Connection[Any],
) -> None:
    """Those of scans, bitmap scans and ON CONFLICT are named; the key of users is the host's."""
    await transaction.execute("SET LOCAL enable_seqscan = off")
    submits = await plans.plan_query(transaction, "submit_response")
    deletes = await plans.plan_query(transaction, "delete_responses")

    assert submits
    assert submits.indexes == promised_indexes("submit_response")
    assert " on users" in submits.text
    assert deletes
    of_owners = {name.split("_")[3] for name in deletes.indexes if name.startswith("idx_")}
    assert of_owners == {"user", "anon"}


async def test_planning_leaves_nothing(transaction: asyncpg.Connection[Any]) -> None:
    """No statement, setting or lock stays, be the query planned or refused; the next one is."""
    conn = transaction
    await conn.execute("DROP TABLE assessment_scores")

    with pytest.raises(asyncpg.UndefinedTableError):
        await plans.plan_query(conn, "get_scores")
    assert await plans.plan_query(conn, "get_responses")

    assert await conn.fetchval("SHOW plan_cache_mode") == "auto"
    assert await conn.fetch("SELECT name FROM pg_prepared_statements WHERE from_sql") == []


async def plan_text(conn: asyncpg.Connection[Any], monkeypatch: Any, sql: str) -> plans.Plan | None:
    """Plan *sql*, a query of one parameter, as if it were one of sql/."""
    monkeypatch.setattr(plans, "named", lambda _: SimpleNamespace(sql=f"/* a */ {sql}"))
    monkeypatch.setitem(queries.driver_adapter.var_sorted, "a", ["only"])
    return await plans.plan_query(conn, "a")


async def test_a_server_without_generic_plans_is_no_error(
    transaction: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that is supported only with its arguments at hand has no generic plan."""
    condition = "a.user_id < b.user_id OR $1::text IS NULL"  # no condition for an argument of null
    sql = f"SELECT FROM users AS a FULL JOIN users AS b ON {condition}"

    assert await plan_text(transaction, monkeypatch, sql) is None
    assert await transaction.fetchval("SELECT 1") == 1


async def test_a_query_that_a_server_does_not_support_is_an_error(
    transaction: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be planned with any arguments raises PostgreSQL's error."""
    sql = "SELECT $1::text FROM users AS a FULL JOIN users AS b ON a.user_id < b.user_id"

    with pytest.raises(asyncpg.FeatureNotSupportedError):
        await plan_text(transaction, monkeypatch, sql)
    assert await transaction.fetchval("SELECT 1") == 1


async def test_a_host_s_codec_for_json_changes_no_plan(
    transaction: asyncpg.Connection[Any],
) -> None:
    """A connection that decodes JSON shows the same plan."""
    plain = await plans.plan_query(transaction, "get_scores")
    await transaction.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=json.loads)

    assert await plans.plan_query(transaction, "get_scores") == plain
