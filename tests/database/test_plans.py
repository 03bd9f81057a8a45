"""Every query keeps its promise about its plan, and the plans on file are the plans."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from assessments.queries import named, promised_indexes
from tests.helpers.plans import EXEMPT, PROMISING, generic_plan, indexes
from tests.helpers.servers import database_url
from tests.reference import assert_on_file, plans
from tests.reference.calls import CASES, EXCEPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.plans import Call
    from tests.reference.plans import Facts

BY_AGE = {"idx_assessment_responses_user_created", "idx_assessment_responses_anon_created"}
ONE_OF_EACH = """
INSERT INTO assessment_responses (user_id, anonymous_token, question_id, module_slug, answer_text)
SELECT
    CASE WHEN n % 2 = 0 THEN $1::bigint END,
    CASE WHEN n % 2 = 1 THEN 'fbf1c2a4-7a58-4a0c-b7fe-5a3d2e8c1f60'::uuid END,
    'q' || n % 20, 'm' || n % 4, 'Because.'
FROM generate_series(1, 400) AS n
"""


@pytest.fixture(scope="module")
def facts(server: str, template: str) -> Facts:
    """Return the plans and the calls of all queries on the data set."""
    name = f"assessments_{uuid4().hex}"

    async def collect() -> Facts:
        admin = await asyncpg.connect(server)
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        conn = await asyncpg.connect(database_url(server, name))
        try:
            return await plans.collect(conn)
        finally:
            await conn.close()
            await admin.execute(f"DROP DATABASE {name}")
            await admin.close()

    return asyncio.run(collect())


def calls_of(facts: Facts) -> Iterator[tuple[str, set[str], Call]]:
    """Yield each call with the name of its query, and its filters and column."""
    for name, rows in facts.calls.items():
        for given, row in rows.items():
            for column, call in row.items():
                yield name, {*given, column}, call


def test_the_plans_on_file_are_the_plans(facts: Facts) -> None:
    """A change of SQL or of an index is seen in docs/reference/ by what it does to the plans."""
    if facts.version not in plans.VERSIONS:
        pytest.skip(f"no plans of PostgreSQL {facts.version} are on file")

    assert_on_file({plans.file(facts.version): plans.render(facts)})


@pytest.mark.parametrize("name", PROMISING)
def test_a_query_uses_the_indexes_that_its_comment_names(facts: Facts, name: str) -> None:
    """Its generic plan uses those indexes and the key of users where the comment says so."""
    plan, comment = facts.plans[name], " ".join(named(name).__doc__.split())

    assert indexes(plan) == promised_indexes(name), plan
    assert (" on users" in plan) == ("key of users" in comment), plan


@pytest.mark.parametrize("name", PROMISING)
def test_no_query_scans_a_table(facts: Facts, name: str) -> None:
    """Its generic plan has no sequential scan."""
    assert "Seq Scan" not in facts.plans[name], facts.plans[name]


@pytest.mark.parametrize("name", sorted(EXEMPT))
def test_a_query_of_whole_tables_promises_no_index(name: str) -> None:
    """What reads all of a table, or the catalogue, names no index in its comment."""
    assert promised_indexes(name) == set()


def test_every_query_of_the_tables_is_called(facts: Facts) -> None:
    """Each query that uses an index has calls on file."""
    assert set(CASES) >= {name for name in PROMISING if indexes(facts.plans[name])}


def test_no_argument_changes_a_plan(facts: Facts) -> None:
    """A query has one plan, whichever of its filters are given."""
    shapes: dict[str, set[str]] = {}
    for name, _, call in calls_of(facts):
        shapes.setdefault(name, set()).add(str(call.shape))

    assert {name for name, each in shapes.items() if len(each) > 1} == set()


def test_an_owners_read_is_planned_once_for_all_calls(facts: Facts) -> None:
    """PostgreSQL keeps one plan of it, whichever owner and filters are given."""
    assert facts.planned_anew == set()


def test_a_call_reads_and_sorts_no_more_than_it_returns(facts: Facts) -> None:
    """Rows, buffers and sorts are in proportion to the result, also for the heaviest owner."""
    beyond = [
        (name, sorted(labels), call[:4])
        for name, labels, call in calls_of(facts)
        if plans.is_beyond(call) and not labels & EXCEPTIONS.get(name, {}).keys()
    ]

    assert beyond == []


def test_every_exception_is_one(facts: Facts) -> None:
    """What is written down as reading more does: delete the entry once it does not."""
    beyond = {
        (name, label)
        for name, labels, call in calls_of(facts)
        for label in labels
        if plans.is_beyond(call)
    }

    entries = {(name, label) for name, labels in EXCEPTIONS.items() for label in labels}
    assert entries - beyond == set()


def test_a_page_is_read_in_index_order(facts: Facts) -> None:
    """A page merges two ordered scans and touches few buffers, whatever the owner has."""
    plan, pages = facts.plans["get_responses"], facts.calls["get_responses"]["limit 20",]

    assert "Merge Append" in plan
    assert plan.count("Sort") == plan.count("Sort Key:") == 1, plan
    assert max(call.buffers for call in pages.values()) < 20


async def test_no_read_by_owner_scans_by_age(conn: asyncpg.Connection[Any], user_id: int) -> None:
    """A new service's statistics, of one user and one token, lead no read to a purge's index."""
    await conn.execute(ONE_OF_EACH, user_id)
    await conn.execute("ANALYZE")

    used = {name: indexes(await generic_plan(conn, name)) for name in PROMISING}

    assert {name for name in used if used[name] & BY_AGE - promised_indexes(name)} == set()
