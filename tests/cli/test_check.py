"""``assessments check`` tells whether a service can run on a database."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import pytest

from tests.helpers.commands import run
from tests.helpers.rows import submit
from tests.helpers.servers import database_url
from tests.helpers.yoyo import IDS, migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

SAFE_PATH = ("search_path", "public,pg_temp")
NOT_FIT = "this database is not fit for this version of assessments\n"


def with_settings(url: str, *settings: tuple[str, str], user: str = "") -> str:
    """Return *url* with *settings* for the session, logging in as *user* if one is given."""
    parts = urlsplit(url)
    query = "&".join(filter(None, [parts.query, urlencode(settings, quote_via=quote)]))
    where = f"{user}@{parts.netloc.rpartition('@')[2]}" if user else parts.netloc
    return parts._replace(query=query, netloc=where).geturl()


async def check(url: str) -> tuple[int, list[str]]:
    """Return the status of ``assessments check`` and its findings that are not ok, a line each."""
    done = await asyncio.to_thread(run, "check", "--database", url)
    assert done.stderr.decode() == ("" if done.returncode == 0 else NOT_FIT)
    findings = re.sub(r"\n {9}", "; ", done.stdout.decode()).splitlines()
    return done.returncode, [line for line in findings if not line.startswith("ok ")]


@pytest.fixture
async def role(database: str, conn: asyncpg.Connection[Any]) -> AsyncIterator[str]:
    """Return a role that may log in and read responses."""
    if urlsplit(database).password:
        pytest.skip("this server asks the role for a password")
    name = f"r{uuid4().hex}"
    await conn.execute(f"CREATE ROLE {name} LOGIN; GRANT SELECT ON assessment_responses TO {name}")
    yield name
    await conn.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_migrated_database_is_fit(database: str, conn: asyncpg.Connection[Any]) -> None:
    """Status 0 and nothing but ok, and no row or relation is written."""
    await submit(conn, anonymous_token=uuid4())
    written = (
        "SELECT 'response', response_id, xmin::text FROM assessment_responses"
        " UNION ALL SELECT 'score', score_id, xmin::text FROM assessment_scores"
        " UNION ALL SELECT 'relations', count(*), NULL FROM pg_class"
    )
    before = await conn.fetch(written)

    done = await asyncio.to_thread(run, "check", "--database", with_settings(database, SAFE_PATH))

    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "PostgreSQL"],
        ["ok", "migrations:"],
        ["ok", "queries:"],
    ]
    assert await conn.fetch(written) == before


async def test_a_database_without_the_tables_is_not_fit(empty_database: str) -> None:
    """What is missing is reported once and not for every query."""
    status, findings = await check(empty_database)

    assert status == 1
    assert [line.split(": ")[0] for line in findings] == ["FAILED   migrations", "FAILED   users"]


async def test_a_pending_migration_is_named_with_what_needs_it(
    database: str, conn: asyncpg.Connection[Any]
) -> None:
    """Its place is said, and of a submission key's index what fails without it."""
    await migrate("rollback", database)
    await conn.execute("DROP INDEX IF EXISTS idx_assessment_responses_submission_key")

    status, findings = await check(database)

    assert status == 1
    (behind,) = [line for line in findings if line.startswith("FAILED   migrations: ")]
    assert f"1 of {len(IDS)} not applied: {IDS[-1]}; remedy: apply the migrations" in behind
    (needing,) = [line for line in findings if "ON CONFLICT" in line]
    assert {"submit_response", "submit_responses"} <= set(re.findall(r"\w+", needing))
    assert "record_score" not in needing


CONSTRAINT = "FAILED   constraint {} is missing; effect: rows that break the rule"
NOT_VALID = "FAILED   constraint {} is not valid; effect: rows that break the rule"
INDEX = "warning  index {} is missing; effect: these queries read"
INVALID = "warning  index {} is not valid; effect: these queries read"
NOT_VALIDATED = (
    "ALTER TABLE assessment_scores DROP CONSTRAINT {0}, ADD CONSTRAINT {0}"
    " CHECK (jsonb_typeof(score_data) = 'object') NOT VALID"
)
INVALIDATED = "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = '{}'::regclass"
TYPE = (
    "FAILED   assessment_scores.{} is timestamp without time zone and not timestamp with time zone"
)


@pytest.mark.parametrize(
    ("statement", "finding", "name"),
    [
        ("ALTER TABLE assessment_scores ALTER {} TYPE timestamp", TYPE, "created_at"),
        (
            *("ALTER TABLE assessment_responses DROP CONSTRAINT {}", CONSTRAINT),
            "assessment_responses_exactly_one_owner",
        ),
        (
            *("ALTER TABLE assessment_scores DROP CONSTRAINT {}", CONSTRAINT),
            "assessment_scores_response_id_fkey",
        ),
        (NOT_VALIDATED, NOT_VALID, "assessment_scores_score_data_is_object"),
        ("DROP INDEX {}", INDEX, "idx_assessment_responses_anon"),
        (INVALIDATED, INVALID, "idx_assessment_scores_response_id"),
        (
            *(
                "CREATE SCHEMA host; ALTER TABLE {} SET SCHEMA host",
                "note     migrations: {} is not",
            ),
            "_yoyo_migration",
        ),
    ],
)
async def test_a_schema_that_deviates_is_named(
    database: str, conn: asyncpg.Connection[Any], statement: str, finding: str, name: str
) -> None:
    """What breaks a promise fails; a missing index makes queries slow, not wrong: status 0."""
    await conn.execute(statement.format(name))

    status, (found,) = await check(with_settings(database, SAFE_PATH))

    assert found.startswith(finding.format(name))
    assert status == finding.startswith("FAILED")


@pytest.mark.parametrize(
    ("name", "value", "finding"),
    [
        ("search_path", "public", "warning  search_path is public: unless it ends in pg_temp, "),
        ("synchronous_commit", "off", "warning  synchronous_commit is off; effect: what was"),
        (
            "default_transaction_read_only",
            "on",
            "FAILED   the session is read-only: by a setting",
        ),
    ],
)
async def test_a_setting_that_breaks_a_promise_is_named(
    database: str, name: str, value: str, finding: str
) -> None:
    """In a read-only session nothing could be stored; other settings only weaken a promise."""
    settings = {"search_path": "public,pg_temp", name: value}

    status, (found,) = await check(with_settings(database, *settings.items()))

    assert found.startswith(finding)
    assert status == finding.startswith("FAILED")


async def test_tables_named_as_the_catalogues_are_ignored(
    database: str, conn: asyncpg.Connection[Any]
) -> None:
    """The catalogues are read from pg_catalog, whatever comes before it on the search_path."""
    for name in ("attribute", "class", "constraint", "index"):
        await conn.execute(f"CREATE TABLE public.pg_{name} ()")

    url = with_settings(database, ("search_path", "public,pg_catalog,pg_temp"))
    status, (warning,) = await check(url)

    assert (status, "unless pg_catalog comes first" in warning) == (0, True)


@pytest.mark.parametrize("table", ["assessment_responses", "assessment_scores"])
async def test_a_trigger_that_can_change_or_drop_rows_is_named(
    database: str, conn: asyncpg.Connection[Any], table: str
) -> None:
    """One that runs after the row is stored, or is disabled, is not."""
    await conn.execute(
        f"""
        CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        CREATE TRIGGER trim_answer BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION pass();
        CREATE TRIGGER audit AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION pass();
        CREATE TRIGGER old BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION pass();
        ALTER TABLE {table} DISABLE TRIGGER old;
        """
    )

    status, (warning,) = await check(with_settings(database, SAFE_PATH))

    assert status == 0
    assert warning.startswith(f"warning  trigger trim_answer on {table}: ")


async def test_others_who_may_create_in_a_schema_on_the_path_are_named(
    database: str, conn: asyncpg.Connection[Any], role: str
) -> None:
    """They could put functions beside the catalogue's, as the owners of the schema could."""
    await conn.execute(
        f"""
        GRANT CREATE ON SCHEMA public TO PUBLIC, {role};
        CREATE SCHEMA elsewhere;
        GRANT CREATE ON SCHEMA elsewhere TO PUBLIC
        """
    )

    status, (warning,) = await check(with_settings(database, SAFE_PATH))

    creators = ", ".join(sorted(["PUBLIC", role]))
    what = f"schema public is on search_path, and {creators} may create objects in it"
    assert status == 0
    assert warning.startswith(f"warning  {what}; effect: a function")
    assert warning.endswith(f"; remedy: REVOKE CREATE ON SCHEMA public FROM {creators}")


async def test_missing_rights_are_noted(database: str, role: str) -> None:
    """A role needs only the rights for its own work: each query without them is named, status 0."""
    url = with_settings(database, SAFE_PATH, user=role)

    status, findings = await check(url)
    explained = await asyncio.to_thread(run, "explain", "--database", url)

    assert status == 0
    (noted,) = [line for line in findings if line.startswith("note     rights: ")]
    assert {"submit_response", "delete_responses", "record_score"} <= set(re.findall(r"\w+", noted))
    assert "get_responses," not in noted
    assert f"note     migrations: {role} may not read which are applied" in findings

    assert (explained.returncode, explained.stderr) == (0, b"")
    printed = explained.stdout.decode()
    assert "-- claim_assessment_responses\nnot for this role\n" in printed
    assert re.search(r"^-- get_responses\n(?!not for)", printed, re.MULTILINE)


async def test_a_role_without_any_right_on_the_tables_is_not_fit(
    database: str, conn: asyncpg.Connection[Any], role: str
) -> None:
    """A role that may run no query on the tables is the wrong one, whatever the service does."""
    await conn.execute(
        f"REVOKE ALL ON assessment_responses FROM {role}; GRANT SELECT ON users TO {role}"
    )

    status, findings = await check(with_settings(database, SAFE_PATH, user=role))

    assert status == 1
    assert any(line.startswith("FAILED   rights: this role may run no query;") for line in findings)


@pytest.mark.parametrize("command", ["check", "explain"])
async def test_a_command_gives_up_behind_a_lock(
    database: str, conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], command: str
) -> None:
    """It ends with status 1, and while it waits it holds no lock of the queries before."""

    async def locks_while_blocked() -> list[str]:
        """Return what the blocked backend holds, once there is one."""
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

    await conn.execute("BEGIN; LOCK TABLE users")
    running = asyncio.create_task(
        asyncio.to_thread(run, command, "--database", with_settings(database, SAFE_PATH))
    )
    # The blocked query's own, and none of those before, which write.
    held = set(await asyncio.wait_for(locks_while_blocked(), 20))
    assert held <= {"assessment_responses AccessShareLock"}
    done = await asyncio.wait_for(running, 20)

    assert done.returncode == 1
    assert done.stderr == b"PostgreSQL says: canceling statement due to lock timeout\n"
    assert b"FAILED" not in done.stdout
    await conn.execute("COMMIT")


async def test_a_database_that_is_not_utf8_is_not_fit(
    server: str, conn: asyncpg.Connection[Any]
) -> None:
    """It is named, however new the server is."""
    name = f"assessments_{uuid4().hex}"
    await conn.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        url = database_url(server, name)
        done = await asyncio.to_thread(run, "check", "--database", url)
    finally:
        await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")

    first = done.stdout.splitlines()[0]
    assert done.returncode == 1
    assert first.startswith(b"FAILED   PostgreSQL ")
    assert b"SQL_ASCII: it has to be" in first
