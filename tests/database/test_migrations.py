"""The migrations go up, down and up again, and never touch what is the host's."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.helpers.rows import new_user, submit
from tests.helpers.yoyo import IDS, MIGRATIONS, STANDALONE, schema, yoyo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LANDED = Path(__file__).parent.with_name("landed_migrations.sha256")


@pytest.fixture
async def host(empty_database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection to a database that has the host's users table and nothing of ours."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(
        "CREATE TABLE users (user_id serial PRIMARY KEY, email text);"
        "INSERT INTO users (email) VALUES ('a@example.org'), ('b@example.org')"
    )
    yield connection
    await connection.close()


async def test_up_down_up(host: asyncpg.Connection[Any], empty_database: str) -> None:
    """Down gives the schema from before up, with the host's rows; up again gives the same as up."""
    before = await schema(host)

    assert (await yoyo("apply", empty_database)).returncode == 0
    up = await schema(host)
    await submit(host, user_id=1)
    assert (await yoyo("rollback --all", empty_database)).returncode == 0
    down = await schema(host)
    assert (await yoyo("apply", empty_database)).returncode == 0

    assert down == before
    assert await schema(host) == up != before
    assert await host.fetchval("SELECT count(*) FROM users") == 2


async def test_rollback_drops_scores_before_responses(
    host: asyncpg.Connection[Any], empty_database: str
) -> None:
    """Rolling back the scores leaves the responses; rolling back the responses takes both."""
    await yoyo("apply", empty_database)

    assert (await yoyo(f"rollback -r {IDS[1]}", empty_database)).returncode == 0

    assert await host.fetchval("SELECT to_regclass('assessment_scores')") is None
    assert await host.fetchval("SELECT to_regclass('assessment_responses')")
    await yoyo("apply", empty_database)
    done = await yoyo(f"rollback -r {IDS[0]}", empty_database)
    assert done.returncode == 0, done.stderr
    assert await host.fetchval("SELECT to_regclass('assessment_responses')") is None


async def test_the_standalone_users_table_comes_and_goes_on_its_own(empty_database: str) -> None:
    """Both folders apply in one command; ours roll back alone and leave users standing."""
    connection = await asyncpg.connect(empty_database)
    done = await yoyo("apply", empty_database, STANDALONE, MIGRATIONS)
    assert done.returncode == 0, done.stderr
    await new_user(connection)

    assert (await yoyo("rollback --all", empty_database)).returncode == 0

    assert await connection.fetchval("SELECT count(*) FROM users") == 1
    assert (await yoyo("rollback --all", empty_database, STANDALONE)).returncode == 0
    assert await schema(connection) == []
    await connection.close()


async def test_without_users_it_says_what_is_missing_and_leaves_nothing(
    empty_database: str,
) -> None:
    """Yoyo apply fails in words, stores nothing of ours, and works once users is there."""
    done = await yoyo("apply", empty_database)
    connection = await asyncpg.connect(empty_database)

    assert done.returncode != 0
    assert "assessments needs the host's table users (user_id), and there is none" in done.stderr
    assert "HINT:  Create the host's users table first" in done.stderr
    assert await schema(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM _yoyo_migration") == 0
    assert await connection.fetchval("SELECT count(*) FROM yoyo_lock") == 0
    assert (await yoyo("apply", empty_database, STANDALONE, MIGRATIONS)).returncode == 0
    await connection.close()


@pytest.mark.parametrize(
    "users",
    [
        "CREATE TABLE users (user_id uuid PRIMARY KEY)",
        "CREATE TABLE users (user_id text PRIMARY KEY)",
        "CREATE TABLE users (id bigint PRIMARY KEY)",
        "CREATE TABLE users (user_id bigint)",
        "CREATE TABLE users (user_id bigint, tenant_id bigint, PRIMARY KEY (user_id, tenant_id))",
        "CREATE TABLE users (user_id bigint, EXCLUDE (user_id WITH =))",
        "CREATE VIEW users AS SELECT 1::bigint AS user_id",
    ],
)
async def test_a_users_table_without_an_integer_key_is_refused_in_words(
    empty_database: str, users: str
) -> None:
    """A users that responses cannot refer to is named as such, and nothing is left behind."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(users)
    before = await schema(connection)

    done = await yoyo("apply", empty_database)

    assert done.returncode != 0
    assert "users.user_id to be an integer PRIMARY KEY or UNIQUE" in done.stderr
    assert await schema(connection) == before
    await connection.close()


@pytest.mark.parametrize("key", ["smallint", "integer", "bigint"])
async def test_users_may_have_any_integer_key(empty_database: str, key: str) -> None:
    """Every integer type of the host's key will do, and deleting a user deletes what is theirs."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(f"CREATE TABLE users (user_id {key} PRIMARY KEY)")
    assert (await yoyo("apply", empty_database)).returncode == 0

    await connection.execute("INSERT INTO users VALUES (7)")
    response = await submit(connection, user_id=7)
    await connection.execute(
        "INSERT INTO assessment_scores (response_id, score_data) VALUES ($1, '{}')",
        response["response_id"],
    )
    await connection.execute("DELETE FROM users")

    assert await connection.fetchval("SELECT count(*) FROM assessment_responses") == 0
    assert await connection.fetchval("SELECT count(*) FROM assessment_scores") == 0
    await connection.close()


async def test_a_lock_that_is_not_had_fails_soon_and_leaves_nothing(
    host: asyncpg.Connection[Any], empty_database: str
) -> None:
    """Behind an open writer of users apply gives up by itself; applied again it succeeds."""
    before = await schema(host)
    async with host.transaction():
        await host.execute("UPDATE users SET email = 'c@example.org' WHERE user_id = 1")
        done = await asyncio.wait_for(yoyo("apply", empty_database), 30)
        assert done.returncode != 0
        assert "lock timeout" in done.stderr

    assert await schema(host) == before
    assert (await yoyo("apply", empty_database)).returncode == 0


async def test_an_index_left_invalid_is_built_again(
    host: asyncpg.Connection[Any], empty_database: str
) -> None:
    """A concurrent build that failed half-way leaves an invalid index; apply again mends it."""
    await yoyo("apply", empty_database)
    await yoyo("rollback", empty_database)
    for _ in range(2):
        await submit(host, user_id=1)
    await host.execute(
        "UPDATE assessment_responses SET submission_key = '12345678-1234-4234-8234-123456789abc'"
    )
    valid = (
        "SELECT indisvalid FROM pg_index"
        " WHERE indexrelid = to_regclass('idx_assessment_responses_submission_key')"
    )

    assert (await yoyo("apply", empty_database)).returncode != 0
    assert await host.fetchval(valid) is not True
    with pytest.raises(asyncpg.UniqueViolationError):  # what a killed yoyo leaves behind
        await host.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY idx_assessment_responses_submission_key"
            " ON assessment_responses (submission_key)"
        )
    assert await host.fetchval(valid) is False

    await host.execute("UPDATE assessment_responses SET submission_key = gen_random_uuid()")
    assert (await yoyo("apply", empty_database)).returncode == 0
    assert await host.fetchval(valid) is True


async def until_building(conn: asyncpg.Connection[Any]) -> None:
    """Return once a backend that builds an index waits for a lock."""
    waiting = (
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND query ~ 'CREATE UNIQUE INDEX CONCURRENTLY idx' AND pid <> pg_backend_pid())"
    )
    while not await conn.fetchval(waiting):
        await asyncio.sleep(0.01)


async def test_submits_go_on_while_the_key_s_index_is_built(
    host: asyncpg.Connection[Any], empty_database: str
) -> None:
    """Behind an open transaction the concurrent build waits, and submits do not."""
    await yoyo("apply", empty_database)
    await yoyo("rollback", empty_database)
    reader = await asyncpg.connect(empty_database)
    try:
        async with reader.transaction():
            await submit(reader, user_id=1)
            building = asyncio.create_task(yoyo("apply", empty_database))
            await asyncio.wait_for(until_building(host), 30)
            await asyncio.wait_for(submit(host, user_id=2), 10)
        assert (await building).returncode == 0
    finally:
        await reader.close()


async def test_the_named_indexes_and_checks_are_there(conn: asyncpg.Connection[Any]) -> None:
    """The indexes and CHECKs that queries, pages and hosts name stand under their names."""
    indexes = await conn.fetch("SELECT indexname FROM pg_indexes WHERE indexname ~ '^idx_'")
    checks = await conn.fetch(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conname ~ '^assessment'"
    )

    assert {name for (name,) in indexes} == {
        "idx_assessment_responses_user_id",
        "idx_assessment_responses_anon",
        "idx_assessment_responses_question",
        "idx_assessment_responses_module",
        "idx_assessment_responses_submission_key",
        "idx_assessment_scores_response_id",
    }
    assert {name for (name,) in checks} == {
        "assessment_responses_exactly_one_owner",
        "assessment_responses_answer_metadata_is_object",
        "assessment_scores_score_data_is_object",
    }


async def test_every_table_and_column_has_a_comment(conn: asyncpg.Connection[Any]) -> None:
    """What a DBA sees of the tables in psql explains itself."""
    uncommented = await conn.fetch(
        """
        SELECT c.relname, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE c.relname ~ '^assessment_' AND c.relkind = 'r' AND a.attnum > 0
            AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT c.relname, NULL FROM pg_class AS c
        WHERE c.relname ~ '^assessment_' AND c.relkind = 'r'
            AND obj_description(c.oid, 'pg_class') IS NULL
        """
    )
    assert uncommented == []


@pytest.mark.parametrize("path", sorted(MIGRATIONS.rglob("*.sql")), ids=lambda path: path.name)
def test_every_migration_is_written_by_the_rules(path: Path) -> None:
    """Directives where yoyo reads them, timeouts first, a rollback beside, no IF NOT EXISTS."""
    text = path.read_text(encoding="utf-8")
    code = re.sub(r"^--.*\n", "", text, flags=re.MULTILINE).strip()
    header = text[: text.index("\n\n")]

    assert header.startswith("-- ")
    assert "/*" not in text
    assert not re.search(r"(TABLE|COLUMN) IF NOT EXISTS|INDEX IF NOT EXISTS", code)
    assert re.match(r"SET (LOCAL )?lock_timeout = '\d+s';\nSET (LOCAL )?statement_timeout", code)
    if path.name.endswith(".rollback.sql"):
        assert path.with_name(path.name.replace(".rollback", "")).exists()
        assert "CASCADE" not in code
    else:
        assert path.with_name(f"{path.stem}.rollback.sql").exists()
        assert re.search(r"^-- depends:", header, re.MULTILINE)
        assert re.fullmatch(r"assessments-\d{4}-[a-z-]+|assessments-0000-users", path.stem)


def test_landed_migrations_are_never_edited() -> None:
    """Every migration has the checksum it landed with; a new one adds a line of its own."""
    landed = {
        name: checksum
        for checksum, name in (line.split() for line in LANDED.read_text().splitlines())
    }
    found = {
        path.relative_to(MIGRATIONS.parent).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in MIGRATIONS.rglob("*.sql")
    }

    assert found == landed
