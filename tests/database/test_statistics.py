"""The statement of docs/reviewing.md that lists the library's queries by their time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers import pages
from tests.helpers.calls import Subject, catalogue
from tests.helpers.plans import NAMES
from tests.helpers.rows import new_user
from tests.helpers.statistics import LIBRARY, counting_database, counting_server

if TYPE_CHECKING:
    from collections.abc import Iterator

(BY_TIME,) = pages.blocks("docs/reviewing.md", "sql", "Statistics")


@pytest.fixture(scope="module")
def counting(pytestconfig: pytest.Config) -> Iterator[str]:
    """Return the URL of a server that counts statements."""
    with counting_server(pytestconfig.getoption("--server") or "") as url:
        yield url


async def test_the_statement_lists_each_query_by_its_time(counting: str) -> None:
    """After traffic it lists our queries by name, the largest share first, beside all others."""
    async with counting_database(counting) as (_, conn):
        user_id = await new_user(conn)
        await conn.execute(f"SELECT {LIBRARY}_reset()")
        for call in catalogue(Subject(user_id=user_id)).values():
            await call(conn)
        found = await conn.fetch(BY_TIME)
        submits = await conn.fetchval(
            "SELECT calls FROM pg_stat_statements WHERE query ~ 'assessments.submit_response '"
        )

    names = {row["query"] for row in found}
    assert len(names) == len(found)
    assert {"submit_response", "lock_claim", "purge_responses", "(others)"} <= names
    assert names - {"(others)"} <= set(NAMES)
    shares = [row["percent"] for row in found]
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) < len(shares)
    (submitted,) = (row for row in found if row["query"] == "submit_response")
    assert (submitted["calls"], submitted["rows_per_call"]) == (submits, 1)
    assert submitted["buffers_per_call"] > 0
    assert submitted["mean_ms"] > 0


@pytest.mark.parametrize(
    "text", ["/* assessments.n_q */ SELECT 1", "SELECT 1 /* assessments.n_q */"]
)
async def test_a_name_is_found_at_either_end(counting: str, text: str) -> None:
    """PostgreSQL 18 drops a comment in front, so the name at the end is enough, and so is one."""
    async with counting_database(counting) as (_, conn):
        if conn.get_server_version().major >= 18 and text.startswith("/*"):
            pytest.skip("PostgreSQL 18 keeps no comment in front")
        await conn.execute(text)
        assert "n_q" in {row["query"] for row in await conn.fetch(BY_TIME)}
