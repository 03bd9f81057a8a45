"""``explain --analyze`` runs each query on arguments from real rows, and leaves no trace of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from assessments import backoffice, plans
from assessments.cli import explain_data
from tests.helpers.commands import content
from tests.helpers.html import Page
from tests.helpers.rows import SECRET, new_user, submit

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from tests.helpers.commands import Database

USER_ID = 823_543_117


@pytest.fixture
async def filled(source: Database, token: UUID) -> Database:
    """Return a database whose users have 1, 2 and 5 responses, and whose tokens 1 and 3."""
    conn = source.conn
    await conn.execute("INSERT INTO users (user_id) VALUES ($1)", USER_ID)
    users = [await new_user(conn), USER_ID, await new_user(conn)]
    owners: list[dict[str, Any]] = [{"user_id": user_id} for user_id in users]
    owners += [{"anonymous_token": uuid4()}, {"anonymous_token": token}]
    for owner, count in zip(owners, (2, 5, 1, 1, 3), strict=True):
        for number in range(count):
            response = await submit(
                conn, f"q{number}", answer_text=SECRET, answer_metadata={"a": SECRET}, **owner
            )
            await backoffice.record_score(
                conn,
                response_id=response["response_id"],
                score_data={"feedback": SECRET},
                model_id="grader",
                prompt_version="p1",
            )
    return source


async def analyze(database: Database, *arguments: object) -> dict[str, Any]:
    """Return what the command prints as JSON."""
    done = await asyncio.to_thread(database.run, "explain", "--analyze", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_every_query_runs_and_nothing_stays(filled: Database) -> None:
    """Each has runs without a problem, and the tables hold what they held."""
    before = await content(filled.conn)

    found = await analyze(filled)

    assert [query["name"] for query in found["queries"] if not query["runs"]] == []
    runs = [run for query in found["queries"] for run in query["runs"]]
    assert [run for run in runs if run["problem"]] == []
    assert {frozenset(run) for run in runs} == {
        frozenset(
            (
                *("sample", "arguments", "problem", "milliseconds", "buffers", "rows", "plan"),
                "triggers",
            )
        )
    }
    assert await content(filled.conn) == before


async def test_arguments_are_of_a_typical_and_of_the_heaviest_owner(filled: Database) -> None:
    """The owner with the most responses and the one in the middle; filters make a third run."""
    found = await analyze(
        filled, "get_latest_responses", "claim_assessment_responses", "iter_responses"
    )

    assert found["samples"] == [
        {"name": "typical owner", "user_responses": 2, "anonymous_responses": 3},
        {"name": "heaviest owner", "user_responses": 5, "anonymous_responses": 3},
    ]
    latest, claims, walks = (query["runs"] for query in found["queries"])
    assert [run["sample"] for run in latest] == [
        *("typical owner", "heaviest owner", "heaviest owner, filtered"),
    ]
    assert latest[1]["arguments"] == ["anonymous_token", "user_id"]
    assert "module_slug" in latest[2]["arguments"]
    assert [(run["sample"], run["rows"]) for run in claims] == [
        *(("typical owner", 1), ("heaviest owner", 0)),
    ]
    assert [run["sample"] for run in walks] == ["any owner", "any owner, filtered"]


async def test_no_value_is_shown(filled: Database, token: UUID) -> None:
    """Neither text, JSON nor page holds an answer, a score, a token or a user's id."""
    for options in ((), ("--json",), ("--html", "-")):
        done = await asyncio.to_thread(filled.run, "explain", "--analyze", *options)
        assert (done.returncode, done.stderr) == (0, b"")
        printed = done.stdout.decode()
        for secret in (SECRET, str(USER_ID), f"{USER_ID:,}", str(token), token.hex):
            assert secret not in printed
        assert "anonymous_token" in printed


async def test_no_statement_holds_a_value(conn: asyncpg.Connection[Any]) -> None:
    """What the server's views and log show of a run names its arguments."""
    async with conn.transaction(), plans.prepared(conn, "get_scores") as statement:
        given = await statement.set_arguments({"response_id": str(USER_ID), "user_id": "7"})
        call = statement.call(given)

        assert str(USER_ID) not in call
        assert "current_setting('assessments_plan.response_id')::bigint" in call
        assert await conn.fetch(call) == []


async def test_what_cannot_run_is_said_of_the_query(filled: Database) -> None:
    """A query that waits for a lock ends after two seconds and is marked, and the others run."""
    async with filled.conn.transaction():
        await filled.conn.execute("SELECT FROM assessment_responses FOR UPDATE")
        found = await analyze(filled, "record_score", "get_responses")
        text, page = [
            (await asyncio.to_thread(filled.run, "explain", "--analyze", "record_score", *options))
            for options in ((), ("--html", "-"))
        ]

    waiting, reading = (query["runs"] for query in found["queries"])
    problem = "PostgreSQL says: canceling statement due to lock timeout"
    assert {run["problem"] for run in waiting} == {problem}
    assert {run["problem"] for run in reading} == {None}
    rows = text.stdout.decode().splitlines()
    assert rows[1].startswith("! record_score ")
    assert rows[2] == f"      typical owner: {problem}"
    shown = Page(page.stdout).text
    assert "record_score !" in shown
    assert f"typical owner: {problem}" in shown
    assert "record_score not every run ended" in shown


async def test_the_text_shows_what_was_measured(filled: Database) -> None:
    """The summary has buffers and time and fits a terminal; nodes and triggers have figures."""
    done = await asyncio.to_thread(filled.run, "explain", "--analyze", "delete_responses")
    every = await asyncio.to_thread(filled.run, "explain", "--analyze")

    printed = done.stdout.decode()
    assert printed.split()[:5] == ["query", "cost", "buffers", "ms", "indexes"]
    assert "\nheaviest owner, with anonymous_token, user_id:\nDelete on assessment" in printed
    assert "\ntrigger for assessment_scores_response_id_fkey: 8 calls, " in printed
    assert "What was written is rolled back; identity values" in printed
    summary = every.stdout.decode().partition("\n-- ")[0].splitlines()
    assert max(map(len, summary)) <= 80


async def test_a_database_without_responses_says_so(source: Database) -> None:
    """There is nothing to take arguments from: status 1."""
    done = await asyncio.to_thread(source.run, "explain", "--analyze")

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"--analyze: there are no responses to take arguments from\n"


async def test_one_kind_of_owner_is_enough(source: Database, pool: asyncpg.Pool[Any]) -> None:
    """Where all responses are anonymous, no user is made up."""
    await submit(source.conn, anonymous_token=uuid4())

    names = ["get_responses", "submit_response", "claim_assessment_responses"]
    found = await explain_data.read(pool, names, with_runs=True)

    runs = [query["runs"] for query in found["queries"]]
    assert runs[0][0]["arguments"] == ["anonymous_token", "max_rows"]
    assert {run["problem"] for each in runs for run in each} == {None}
