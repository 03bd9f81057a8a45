"""Before a service runs on a database, one command says whether it can."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import pytest

from assessments.queries import queries
from tests.helpers.commands import run
from tests.helpers.rows import submit
from tests.helpers.yoyo import yoyo

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
    """Status 0 and nothing but ok, and no row or relation is written."""
    await submit(conn, anonymous_token=uuid4())
    written = (
        "SELECT 'response', response_id, xmin::text FROM assessment_responses"
        " UNION ALL SELECT 'score', score_id, xmin::text FROM assessment_scores"
        " UNION ALL SELECT 'relations', count(*), NULL FROM pg_class"
    )
    before = await conn.fetch(written)

    status, lines = await checked(with_settings(database, FIT))

    assert status == 0
    assert len(lines) == 3
    assert all(line.startswith("ok ") for line in lines), lines
    assert await conn.fetch(written) == before


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
    shown = set(re.findall(r"^-- ([\w.]+)$", told, re.MULTILINE))
    everything = {name for name in queries.available_queries if not name.endswith("_cursor")}
    assert shown == everything - {
        "cli.get_server_facts",
        "cli.get_applied_migrations",
        "cli.get_column_types",
        "cli.get_constraints_and_indexes",
    }
    assert "Index Cond: (anonymous_token = $" in told


async def test_a_read_only_session_is_not_fit(database: str) -> None:
    """On a standby, or where the role's default is read-only, nothing could be stored."""
    read_only = ("default_transaction_read_only", "on")

    status, lines = await checked(with_settings(database, FIT, read_only))

    assert status == 1
    assert "FAILED   the session is read-only: a standby, or default_transaction_read_only" in lines


async def test_a_role_without_any_right_on_the_tables_is_not_fit(
    database: str, conn: asyncpg.Connection[Any], role: str
) -> None:
    """A role that may run no query on the tables is the wrong one, whatever the service does."""
    if urlsplit(database).password:
        pytest.skip("this server asks the role for a password")
    await conn.execute(
        f"REVOKE ALL ON assessment_responses FROM {role}; GRANT SELECT ON users TO {role}"
    )

    status, lines = await checked(with_settings(database, FIT, user=role))

    assert status == 1
    assert "FAILED   rights: this role may run no query" in lines


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        (
            "ALTER TABLE assessment_responses DROP CONSTRAINT {}",
            "assessment_responses_exactly_one_owner",
        ),
        (
            "ALTER TABLE assessment_scores DROP CONSTRAINT {}",
            "assessment_scores_response_id_fkey",
        ),
        (
            (
                "ALTER TABLE assessment_scores DROP CONSTRAINT {0}, ADD CONSTRAINT {0}"
                " CHECK (jsonb_typeof(score_data) = 'object') NOT VALID"
            ),
            "assessment_scores_score_data_is_object",
        ),
    ],
)
async def test_a_constraint_that_does_not_hold_is_named(
    database: str, conn: asyncpg.Connection[Any], statement: str, name: str
) -> None:
    """Dropped or not validated, a constraint is a promise about the rows that nobody keeps."""
    await conn.execute(statement.format(name))

    status, lines = await checked(with_settings(database, FIT))

    assert status == 1
    wrong = [line for line in lines if not line.startswith("ok ")]
    assert wrong == [f"FAILED   constraint {name} is missing or not validated"]


async def test_an_index_that_does_not_serve_is_a_warning(
    database: str, conn: asyncpg.Connection[Any]
) -> None:
    """Missing or invalid, an index makes queries slow and not wrong."""
    await conn.execute("DROP INDEX idx_assessment_responses_anon")
    await conn.execute(
        "UPDATE pg_index SET indisvalid = FALSE"
        " WHERE indexrelid = 'idx_assessment_scores_response_id'::regclass"
    )

    status, lines = await checked(with_settings(database, FIT))

    assert status == 0
    assert [line for line in lines if not line.startswith("ok ")] == [
        "warning  index idx_assessment_responses_anon is missing or invalid",
        "warning  index idx_assessment_scores_response_id is missing or invalid",
    ]


@pytest.mark.parametrize("command", ["check", "explain"])
async def test_a_command_does_not_wait_for_long_behind_a_lock(
    database: str, conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], command: str
) -> None:
    """It says so with status 1, and while it waits it holds no lock of the queries before."""

    async def held() -> list[str]:
        """Return what the backend that waits holds, once there is one."""
        while True:
            found = await other.fetchrow(
                "SELECT array_agg(relation::regclass || ' ' || mode) FILTER (WHERE granted"
                " AND relation IN ('assessment_responses'::regclass, '_yoyo_migration'::regclass))"
                " AS locks FROM pg_locks WHERE pid IN (SELECT pid FROM pg_locks WHERE NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
                " HAVING count(*) > 0"
            )
            if found is not None:
                return found["locks"] or []
            await asyncio.sleep(0.005)

    await conn.execute("BEGIN; LOCK TABLE assessment_scores")
    running = asyncio.create_task(
        asyncio.to_thread(run, command, "--database", with_settings(database, FIT))
    )
    # Of the query that waits, and nothing of those before, which write.
    assert set(await asyncio.wait_for(held(), 20)) <= {"assessment_responses AccessShareLock"}
    done = await asyncio.wait_for(running, 20)

    assert done.returncode == 1
    assert done.stderr == b"PostgreSQL says: canceling statement due to lock timeout\n"
    assert b"FAILED" not in done.stdout
    await conn.execute("COMMIT")


async def test_migrations_that_are_recorded_elsewhere_are_noted(
    database: str, conn: asyncpg.Connection[Any]
) -> None:
    """A database is fit where yoyo's table is in a schema that the service does not see."""
    await conn.execute("CREATE SCHEMA host; ALTER TABLE _yoyo_migration SET SCHEMA host")

    status, lines = await checked(with_settings(database, FIT))

    assert status == 0
    assert "note     migrations: _yoyo_migration is not on the search_path" in lines


async def test_tables_named_as_the_catalogues_mislead_nobody(
    database: str, conn: asyncpg.Connection[Any]
) -> None:
    """The catalogues are read where they are, whatever comes before them on the search_path."""
    for name in ("attribute", "class", "constraint", "index"):
        await conn.execute(f"CREATE TABLE public.pg_{name} ()")

    status, lines = await checked(
        with_settings(database, ("search_path", "public,pg_catalog,pg_temp"))
    )

    assert status == 0
    assert all(line.startswith("ok ") for line in lines), lines


async def test_explain_goes_on_after_a_query_that_the_role_may_not_run(
    database: str, role: str
) -> None:
    """What is not for the role is said under its name, and the plans after it are printed."""
    if urlsplit(database).password:
        pytest.skip("this server asks the role for a password")
    url = with_settings(database, FIT, user=role)

    done = await asyncio.to_thread(run, "explain", "--database", url)

    assert (done.returncode, done.stderr) == (0, b"")
    told = done.stdout.decode()
    assert "-- claim_assessment_responses\nnot for this role\n" in told
    assert re.search(r"^-- get_responses\n(?!not for)", told, re.MULTILINE)
