"""Before a service runs on a database, one command says whether it can."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import pytest

from assessments.queries import queries
from tests.commands import run
from tests.test_migrations import yoyo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

FIT = ("search_path", "public,pg_temp")


def with_settings(url: str, *settings: tuple[str, str], user: str = "") -> str:
    """Return *url* with *settings* for the session, logging in as *user* if one is given."""
    parts = urlsplit(url)
    query = "&".join(filter(None, [parts.query, urlencode(settings, quote_via=quote)]))
    where = f"{user}@{parts.netloc.rpartition('@')[2]}" if user else parts.netloc
    return parts._replace(query=query, netloc=where).geturl()


async def checked(url: str) -> tuple[int, list[str]]:
    """Return the status of ``assessments check`` and the lines that it printed."""
    done = await asyncio.to_thread(run, "check", "--database", url)
    said = done.stderr.decode()
    assert said == ("" if done.returncode == 0 else f"{UNFIT}\n")
    return done.returncode, done.stdout.decode().splitlines()


UNFIT = "this database is not fit for this version of assessments"


async def test_a_migrated_database_is_fit(database: str, conn: asyncpg.Connection[Any]) -> None:
    """Status 0 and nothing but ok, and nothing is changed or left prepared."""
    before = await conn.fetchval("SELECT pg_current_wal_insert_lsn()")

    status, lines = await checked(with_settings(database, FIT))

    assert status == 0
    assert len(lines) == 3
    assert all(line.startswith("ok ") for line in lines), lines
    assert await conn.fetchval("SELECT pg_current_wal_insert_lsn()") == before


async def test_a_database_without_the_tables_is_not(empty_database: str) -> None:
    """Status 1, and what is missing is said once and not for every query."""
    status, lines = await checked(empty_database)

    assert status == 1
    assert "FAILED   migrations: none is applied" in lines
    missing = [line for line in lines if 'relation "assessment_responses" does not exist' in line]
    assert len(missing) == 1
    assert "get_responses" in missing[0]


async def test_a_pending_migration_is_named_and_so_is_what_needs_it(database: str) -> None:
    """Without the newest migration the library's newest query is not fit to run."""
    rolled_back = await yoyo("rollback", database)
    assert rolled_back.returncode == 0, rolled_back.stderr

    status, lines = await checked(database)

    assert status == 1
    assert "FAILED   migrations: not applied: assessments-0004-submission-key-index" in lines
    (needing,) = [line for line in lines if "ON CONFLICT" in line]
    assert "submit_response_once" in needing
    assert "submit_response," not in needing


async def test_a_column_of_another_type_is_named(
    database: str, conn: asyncpg.Connection[Any]
) -> None:
    """A column that somebody has altered would hand out other values than the records promise."""
    await conn.execute("ALTER TABLE assessment_scores ALTER created_at TYPE timestamp")

    status, lines = await checked(database)

    assert status == 1
    assert lines[2] == (
        "FAILED   assessment_scores.created_at is timestamp without time zone"
        " and not timestamp with time zone"
    )


@pytest.fixture
async def role(conn: asyncpg.Connection[Any]) -> AsyncIterator[str]:
    """Return a role that may log in and read responses."""
    name = f"r{uuid4().hex}"
    await conn.execute(f"CREATE ROLE {name} LOGIN; GRANT SELECT ON assessment_responses TO {name}")
    yield name
    await conn.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_what_a_role_may_not_run_is_noted(database: str, role: str) -> None:
    """Rights are no failure, as a role needs only what it does; each query without is named."""
    if urlsplit(database).password:
        pytest.skip("this server asks the role for a password")
    status, lines = await checked(with_settings(database, FIT, user=role))

    assert status == 0
    (noted,) = [line for line in lines if line.startswith("note     rights: ")]
    assert {"submit_response", "delete_responses", "record_score"} <= set(re.findall(r"\w+", noted))
    assert "get_responses," not in noted
    assert f"note     migrations: {role} may not read which are applied" in lines


@pytest.mark.parametrize(
    ("setting", "value"), [("search_path", "public"), ("synchronous_commit", "off")]
)
async def test_a_setting_that_breaks_a_promise_is_a_warning(
    database: str, setting: str, value: str
) -> None:
    """It is named, and the database is fit nevertheless."""
    status, lines = await checked(with_settings(database, (setting, value)))

    assert status == 0
    assert any(line.startswith(f"warning  {setting} is {value}") for line in lines)


async def test_explain_prints_every_plan(database: str) -> None:
    """The plan of each query stands under its name, made for any arguments."""
    done = await asyncio.to_thread(run, "explain", "--database", database)

    assert (done.returncode, done.stderr) == (0, b"")
    told = done.stdout.decode()
    shown = set(re.findall(r"^-- (\w+)$", told, re.MULTILINE))
    everything = {name for name in queries.available_queries if not name.endswith("_cursor")}
    assert shown == everything - {"get_server_facts", "get_applied_migrations", "get_column_types"}
    assert "Index Cond: (anonymous_token = $" in told
