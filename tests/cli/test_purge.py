"""``assessments purge`` reports what it would erase, and erases no more than that."""

from __future__ import annotations

import json
import re
import signal
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from assessments import backoffice
from tests.helpers.commands import INTERRUPTIBLE, active_backend, content
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import questions, submit

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from tests.helpers.commands import Database


async def submit_aged(conn: Any, question_id: str, age: str, **owner: Any) -> None:
    """Store a response of such an age, with a score."""
    response_id = (await submit(conn, question_id, **owner))["response_id"]
    await backoffice.record_score(conn, response_id=response_id, score_data={})
    await conn.execute(
        "UPDATE assessment_responses SET created_at = now() - $2::text::interval "
        "WHERE response_id = $1",
        *(response_id, age),
    )


@pytest.fixture
async def old(source: Database, user_id: int, token: UUID) -> Database:
    """Return a database with five old anonymous responses, a young one, and a user's old one."""
    for number in range(5):
        owner = token if number % 2 else uuid4()
        age = f"90 days {number + 1} seconds"
        await submit_aged(source.conn, f"old {number}", age, anonymous_token=owner)
    await submit_aged(source.conn, "young", "89 days", anonymous_token=token)
    await submit_aged(source.conn, "claimed", "900 days", user_id=user_id)
    return source


async def test_without_yes_it_only_counts(old: Database) -> None:
    """It reports the number, the age and the cut-off, and erases nothing."""
    before = await content(old.conn)
    cutoff = await old.conn.fetchval(
        "SELECT to_char(now() AT TIME ZONE 'UTC' - interval '90 days', 'YYYY-MM-DD HH24:')"
    )

    done = old.run("purge", "--older-than", "90d")

    assert (done.returncode, done.stderr) == (0, b"")
    assert re.fullmatch(
        rf"5 anonymous responses are older than 90 days \(from before {cutoff}\d\d UTC\)\.\n"
        r"Nothing has been erased\. Run again with --yes to erase them\.\n",
        done.stdout.decode(),
    )
    assert await content(old.conn) == before


async def test_json_has_the_count(old: Database) -> None:
    """A script reads how many, from before when, and whether they are erased."""
    purge = ("purge", "--older-than", "90d", "--json")

    counted, erased = (json.loads(old.run(*purge, *yes).stdout) for yes in ((), ("--yes",)))

    assert (counted["is_erased"], counted["responses"]) == (False, 5)
    assert (erased["is_erased"], erased["responses"]) == (True, 5)
    assert datetime.fromisoformat(erased["before"]) < datetime.now(timezone.utc)


@pytest.mark.parametrize(
    ("batch", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (10_000, [5])]
)
async def test_with_yes_it_erases_them_in_batches(
    old: Database, batch: int, sizes: list[int]
) -> None:
    """All are erased, with their scores, no more than a batch at a time; the others stay."""
    await old.conn.execute(
        """
        CREATE TABLE erasures (number serial, rows bigint);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO erasures (rows) SELECT count(*) FROM erased; RETURN NULL; END';
        CREATE TRIGGER note AFTER DELETE ON assessment_responses
        REFERENCING OLD TABLE AS erased FOR EACH STATEMENT EXECUTE FUNCTION note();
        """
    )
    arguments = ("purge", "--older-than", "90d", "--yes", "--batch", batch)

    done = old.run(*arguments)

    assert (done.returncode, done.stderr) == (0, b"")
    erased = b"Erased %d anonymous responses older than 90 days (from before "
    assert done.stdout.startswith(erased % 5)
    rows = await old.conn.fetch("SELECT rows FROM erasures ORDER BY number")
    assert [count for (count,) in rows] == [*sizes, 0]
    assert questions(r for r, _ in await content(old.conn)) == ["young", "claimed"]
    assert await old.count("assessment_scores") == 2
    assert old.run(*arguments).stdout.startswith(erased % 0)


@pytest.mark.parametrize("batch", [1, 4, 10_000])
async def test_with_all_owners_it_erases_users_responses_too(old: Database, batch: int) -> None:
    """It counts and erases every response of that age, and calls none of them anonymous."""
    arguments = ("purge", "--all-owners", "--older-than", "90d")

    counted, erased = old.run(*arguments), old.run(*arguments, "--yes", "--batch", batch)

    assert counted.stdout.startswith(b"6 responses are older than 90 days (from before ")
    assert erased.stdout.startswith(b"Erased 6 responses older than 90 days (from before ")
    assert questions(r for r, _ in await content(old.conn)) == ["young"]
    assert await old.count("assessment_scores") == 1


@pytest.mark.parametrize(
    ("age", "words"),
    [("1d", "1 day"), ("2w", "2 weeks"), ("36h", "36 hours"), ("1000h", "1,000 hours")],
)
async def test_an_age_is_days_weeks_or_hours(
    source: Database, token: UUID, age: str, words: str
) -> None:
    """It is repeated in words, and one response is one."""
    span = f"{age[:-1]} " + {"d": "days", "w": "weeks", "h": "hours"}[age[-1]]
    await submit_aged(source.conn, "older", f"{span} 1 minute", anonymous_token=token)
    await submit_aged(source.conn, "younger", f"{span} -1 minute", anonymous_token=token)

    done = source.run("purge", "--older-than", age)

    assert done.stdout.startswith(f"1 anonymous response is older than {words} (".encode())


async def test_an_interrupted_purge_erases_nothing(
    old: Database, other: asyncpg.Connection[Any]
) -> None:
    """Ctrl-C ends it with 130, and what it was about to erase stays."""
    before = await content(old.conn)
    await old.conn.execute("BEGIN; LOCK TABLE assessment_responses")
    process = old.start("purge", "--older-than", "90d", "--yes", **INTERRUPTIBLE)
    await until_waiting_for_lock(other, await active_backend(other))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    await old.conn.execute("ROLLBACK")

    assert (process.returncode, errors) == (130, b"interrupted\n")
    assert await content(old.conn) == before
