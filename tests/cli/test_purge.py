"""``assessments purge`` says what it would erase, and erases no more than that."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from assessments import backoffice
from tests.helpers.commands import backend_of_command, content, run, said_on_a_terminal, started
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg


async def aged(conn: asyncpg.Connection[Any], question_id: str, age: str, **owner: Any) -> int:
    """Store a response of such an age, with a score; return its key."""
    response_id = (await submit(conn, question_id, **owner))["response_id"]
    await backoffice.record_score(conn, response_id=response_id, score_data={})
    await conn.execute(
        "UPDATE assessment_responses SET created_at = now() - $2::text::interval "
        "WHERE response_id = $1",
        response_id,
        age,
    )
    return response_id


@pytest.fixture
async def old(conn: asyncpg.Connection[Any], user_id: int, token: UUID) -> None:
    """Store five anonymous responses over 90 days old, a younger one, and a user's old one."""
    for number in range(5):
        owner = token if number % 2 else uuid4()
        await aged(conn, f"old {number}", f"90 days {number + 1} seconds", anonymous_token=owner)
    await aged(conn, "young", "89 days", anonymous_token=token)
    await aged(conn, "claimed", "900 days", user_id=user_id)


@pytest.mark.usefixtures("old")
async def test_without_yes_it_only_says_how_many(
    conn: asyncpg.Connection[Any], database: str
) -> None:
    """It names the number, the age and the moment, says that nothing is erased, and it is so."""
    before = await content(conn)
    moment = await conn.fetchval(
        "SELECT to_char(now() AT TIME ZONE 'UTC' - interval '90 days', 'YYYY-MM-DD HH24:')"
    )

    done = run("purge", "--database", database, "--older-than", "90d")

    assert (done.returncode, done.stderr) == (0, b"")
    told = done.stdout.decode()
    assert told.startswith(f"5 anonymous responses are older than 90 days (from before {moment}")
    assert re.search(
        r"\d\d UTC\)\.\nNothing has been erased\. Run again with --yes to erase them\.\n$", told
    )
    assert await content(conn) == before


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("batch", [1, 2, 5, 10_000])
async def test_with_yes_it_erases_them_in_batches(
    conn: asyncpg.Connection[Any], database: str, batch: int
) -> None:
    """All of them go, with their scores, whatever the batch; the young and the claimed stay."""
    arguments = ("purge", "--database", database, "--older-than", "90d", "--yes", "--batch", batch)

    done = run(*arguments)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().startswith(
        "Erased 5 anonymous responses older than 90 days (from before "
    )
    left = await content(conn)
    assert [response["question_id"] for response, _ in left] == ["young", "claimed"]
    assert await conn.fetchval("SELECT count(*) FROM assessment_scores") == 2
    assert run(*arguments).stdout.startswith(b"Erased 0 anonymous responses")


@pytest.mark.parametrize(
    ("age", "words"),
    [("1d", "1 day"), ("2w", "2 weeks"), ("36h", "36 hours"), ("1000h", "1,000 hours")],
)
async def test_an_age_is_days_weeks_or_hours(
    conn: asyncpg.Connection[Any], database: str, token: UUID, age: str, words: str
) -> None:
    """It is said back in words, and one response is one."""
    span = {"d": "days", "w": "weeks", "h": "hours"}[age[-1]]
    await aged(conn, "older", f"{age[:-1]} {span} 1 minute", anonymous_token=token)
    await aged(conn, "younger", f"{age[:-1]} {span} -1 minute", anonymous_token=token)

    done = run("purge", "--database", database, "--older-than", age)

    assert done.stdout.decode().startswith(f"1 anonymous response is older than {words} (")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--older-than", "90"),
        ("--older-than", "0d"),
        ("--older-than=-1d",),
        ("--older-than", "1.5d"),
        ("--older-than", "999999999w"),
        ("--older-than", "365001d"),
        ("--older-than", "٣d"),
        ("--older-than", "1d", "--batch", "0"),
        ("--older-than", "1d", "--batch", "x"),
    ],
)
def test_what_is_no_age_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    """Without a plain age nothing is looked at, let alone erased."""
    done = run("purge", "--database", "postgresql://", "--yes", *arguments)

    assert done.returncode == 2
    assert b"error: " in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.usefixtures("old")
async def test_a_purge_shows_how_far_it_is_on_a_terminal(database: str) -> None:
    """A count runs on standard error; in a pipe nothing does."""
    said = said_on_a_terminal("purge", "--database", database, "--older-than", "90d", "--yes")

    assert b"5 responses erased" in said


@pytest.mark.usefixtures("old")
async def test_an_interrupted_purge_has_no_traceback(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], database: str
) -> None:
    """Ctrl-C ends it with 130, and what it was about to erase stays."""
    before = await content(conn)
    await conn.execute("BEGIN; LOCK TABLE assessment_responses")
    process = started(
        "purge",
        "--database",
        database,
        "--older-than",
        "90d",
        "--yes",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    await until_waiting_for_lock(other, await backend_of_command(other))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    await conn.execute("ROLLBACK")

    assert (process.returncode, said) == (130, b"interrupted\n")
    assert await content(conn) == before


async def test_an_error_is_one_line(empty_database: str) -> None:
    """A database without the tables is named as such."""
    done = run("purge", "--database", empty_database, "--older-than", "90d")

    assert done.returncode == 1
    assert done.stderr.startswith(b'relation "assessment_responses" does not exist: apply the mig')
    assert done.stderr.count(b"\n") == 1
