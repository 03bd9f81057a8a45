"""What ``check`` and ``explain`` plan does not take the place of the service's own statements."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from tests.helpers import pages
from tests.helpers.calls import Subject, catalogue
from tests.helpers.commands import run
from tests.helpers.rows import new_user
from tests.helpers.statistics import counting_database, counting_server

if TYPE_CHECKING:
    from collections.abc import Iterator

(FIND,) = pages.blocks("sql/README.md", "sql", "Finding a query on the server")


@pytest.fixture(scope="module")
def counting(pytestconfig: pytest.Config) -> Iterator[str]:
    """Return the URL of a server that counts statements."""
    with counting_server(pytestconfig.getoption("--server") or "") as url:
        yield url


@pytest.mark.parametrize("command", ["check", "explain"])
async def test_after_a_command_and_traffic_every_query_is_found(
    counting: str, command: str
) -> None:
    """The documented query finds each statement by its name, and the text is the service's own."""
    async with counting_database(counting) as (url, conn):
        done = await asyncio.to_thread(run, command, "--database", url)
        assert (done.returncode, done.stderr) == (0, b"")
        user_id = await new_user(conn)
        for call in catalogue(Subject(user_id=user_id)).values():
            await call(conn)

        found = {row["query"]: row["calls"] for row in await conn.fetch(FIND)}

    texts = {
        re.findall(r"/\* assessments\.(\S+) \*/", text)[-1]: text
        for text in found
        if "assessments.cli." not in text
    }
    assert {"submit_response", "get_response", "claim_assessment_responses"} <= texts.keys()
    assert {"record_score", "get_scores", "lock_claim", "purge_responses"} <= texts.keys()
    assert [text for text in found if re.search(r"PREPARE|EXPLAIN|\$10\d", text)] == []
    assert min(found.values()) >= 1
