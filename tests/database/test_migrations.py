"""The migrations go up, down and up again, and never touch the host's tables."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from assessments.migration_files import read_migration, stated_locks
from assessments.testing import migrations
from tests.helpers import migration_locks
from tests.helpers.rows import new_user, submit
from tests.helpers.traffic import submit_without_key
from tests.helpers.yoyo import IDS, MIGRATIONS, STANDALONE, migrate, schema, yoyo

LANDED = Path(__file__).parent.with_name("landed_migrations.sha256")


@pytest.fixture
async def host(empty: asyncpg.Connection[Any]) -> asyncpg.Connection[Any]:
    """Return a connection to a database that has the host's users table and nothing of ours."""
    await empty.execute(
        "CREATE TABLE users (user_id serial PRIMARY KEY, email text);"
        "INSERT INTO users (email) VALUES ('a@example.org'), ('b@example.org')"
    )
    return empty


async def test_up_down_up(host: asyncpg.Connection[Any], empty_database: str) -> None:
    """Down restores the schema before up, with the host's rows; up again gives the same as up."""
    before = await schema(host)

    await migrate("apply", empty_database)
    up = await schema(host)
    await submit(host, user_id=1)
    await migrate("rollback --all", empty_database)
    down = await schema(host)
    await migrate("apply", empty_database)

    assert down == before
    assert await schema(host) == up != before
    assert await host.fetchval("SELECT count(*) FROM users") == 2


async def test_rollback_drops_scores_before_responses(
    host: asyncpg.Connection[Any], empty_database: str
) -> None:
    """Rolling back the scores leaves the responses; rolling back the responses drops both."""
    tables = "SELECT to_regclass('assessment_responses')::text, to_regclass('assessment_scores')"
    for migration, left in ((IDS[1], "assessment_responses"), (IDS[0], None)):
        await migrate("apply", empty_database)
        await migrate(f"rollback -r {migration}", empty_database)
        assert await host.fetch(tables) == [(left, None)]


async def test_the_standalone_users_table_rolls_back_on_its_own(
    empty: asyncpg.Connection[Any], empty_database: str
) -> None:
    """Both folders apply in one command; ours roll back alone and leave users in place."""
    await migrate("apply", empty_database, STANDALONE, MIGRATIONS)
    await new_user(empty)

    await migrate("rollback --all", empty_database)

    assert await empty.fetchval("SELECT count(*) FROM users") == 1
    await migrate("rollback --all", empty_database, STANDALONE)
    assert await schema(empty) == []


@pytest.mark.parametrize(
    "users",
    [
        "",
        "CREATE TABLE users (user_id uuid PRIMARY KEY)",
        "CREATE TABLE users (user_id text PRIMARY KEY)",
        "CREATE TABLE users (id bigint PRIMARY KEY)",
        "CREATE TABLE users (user_id bigint)",
        "CREATE TABLE users (user_id bigint, tenant_id bigint, PRIMARY KEY (user_id, tenant_id))",
        "CREATE TABLE users (user_id bigint, EXCLUDE (user_id WITH =))",
        "CREATE VIEW users AS SELECT 1::bigint AS user_id",
    ],
)
async def test_users_without_an_integer_key_is_rejected(
    empty: asyncpg.Connection[Any], empty_database: str, users: str
) -> None:
    """Apply names what is missing, leaves nothing behind, and works once users is right."""
    await empty.execute(users or "SELECT")
    before = await schema(empty)

    done = await yoyo("apply", empty_database)

    assert done.returncode != 0
    if users:
        assert "users.user_id to be an integer PRIMARY KEY or UNIQUE" in done.stderr
    else:
        assert "needs the host's table users (user_id), and there is none" in done.stderr
        assert "HINT:  Create the host's users table first" in done.stderr
    assert await schema(empty) == before
    assert await empty.fetchval("SELECT count(*) FROM _yoyo_migration") == 0
    assert await empty.fetchval("SELECT count(*) FROM yoyo_lock") == 0
    await empty.execute("ALTER TABLE IF EXISTS users RENAME TO strangers")
    await migrate("apply", empty_database, STANDALONE, MIGRATIONS)


@pytest.mark.parametrize("key", ["smallint", "integer", "bigint"])
async def test_users_may_have_any_integer_key(
    empty: asyncpg.Connection[Any], empty_database: str, key: str
) -> None:
    """Responses reference every integer type of the host's key, and cascade with it."""
    await empty.execute(f"CREATE TABLE users (user_id {key} PRIMARY KEY)")
    await migrate("apply", empty_database)

    await empty.execute("INSERT INTO users VALUES (7)")
    response = await submit(empty, user_id=7)
    score = "INSERT INTO assessment_scores (response_id, score_data) VALUES ($1, '{}')"
    await empty.execute(score, response["response_id"])
    await empty.execute("DELETE FROM users")

    assert await empty.fetchval("SELECT count(*) FROM assessment_responses") == 0
    assert await empty.fetchval("SELECT count(*) FROM assessment_scores") == 0


async def test_a_lock_timeout_leaves_nothing(
    host: asyncpg.Connection[Any], empty_database: str
) -> None:
    """Behind an open writer of users apply gives up by itself; retried it succeeds."""
    before = await schema(host)
    async with host.transaction():
        await host.execute("UPDATE users SET email = 'c@example.org' WHERE user_id = 1")
        done = await asyncio.wait_for(yoyo("apply", empty_database), 30)
        assert done.returncode != 0
        assert "lock timeout" in done.stderr

    assert await schema(host) == before
    await migrate("apply", empty_database)


async def test_a_failed_index_build_is_repaired_by_the_next_apply(
    host: asyncpg.Connection[Any], empty_database: str
) -> None:
    """Duplicate submission keys fail the build of the index; without them apply completes it."""
    await migrate("apply", empty_database)
    await migrate(f"rollback -r {IDS[3]}", empty_database)
    await submit_without_key(host, "q1", "q2", user_id=1)
    key = "UPDATE assessment_responses SET submission_key = "
    valid = (
        "SELECT indisvalid FROM pg_index"
        " WHERE indexrelid = to_regclass('idx_assessment_responses_submission_key')"
    )

    await host.execute(f"{key} '12345678-1234-4234-8234-123456789abc'")
    assert (await yoyo("apply", empty_database)).returncode != 0
    assert await host.fetchval(valid) is not True
    await host.execute(f"{key} gen_random_uuid()")
    await migrate("apply", empty_database)
    assert await host.fetchval(valid) is True


async def test_indexes_and_checks_have_their_documented_names(
    conn: asyncpg.Connection[Any],
) -> None:
    """The indexes and CHECKs that queries, pages and hosts name exist under their names."""
    indexes = await conn.fetch("SELECT indexname FROM pg_indexes WHERE indexname ~ '^idx_'")
    checks = await conn.fetch(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conname ~ '^assessment'"
    )

    assert {name for (name,) in indexes} == {
        *("idx_assessment_responses_user_id", "idx_assessment_responses_anon"),
        *("idx_assessment_responses_question", "idx_assessment_responses_module"),
        *("idx_assessment_responses_user_question", "idx_assessment_responses_anon_question"),
        *("idx_assessment_responses_user_created", "idx_assessment_responses_anon_created"),
        *("idx_assessment_responses_user_module", "idx_assessment_responses_anon_module"),
        *("idx_assessment_responses_submission_key", "idx_assessment_scores_response_id"),
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
        SELECT c.relname, a.attname FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relname ~ '^assessment_' AND c.relkind = 'r' AND (
            obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL
        )
        """
    )
    assert uncommented == []


@pytest.mark.parametrize("path", sorted(MIGRATIONS.rglob("*.sql")), ids=lambda path: path.name)
def test_every_migration_follows_the_rules(path: Path) -> None:
    """Directives where yoyo reads them, timeouts first, a rollback beside, no IF NOT EXISTS."""
    text = path.read_text(encoding="utf-8")
    code = re.sub(r"^--.*\n", "", text, flags=re.MULTILINE).strip()
    header = text[: text.index("\n\n")]

    assert header.startswith("-- ")
    assert "/*" not in text
    assert not re.search(r"(TABLE|COLUMN|INDEX) IF NOT EXISTS", code)
    timeouts = r"SET (LOCAL )?lock_timeout = '\d+s';\nSET (LOCAL )?statement_timeout"
    assert re.match(timeouts, code), (
        f"{path.name}: begin with SET LOCAL lock_timeout = '2s' and statement_timeout, so that it "
        "gives up instead of holding up the service"
    )
    if path.name.endswith(".rollback.sql"):
        assert path.with_name(path.name.replace(".rollback", "")).exists()
        assert "CASCADE" not in code
    else:
        rollback = path.with_name(f"{path.stem}.rollback.sql")
        assert rollback.exists(), f"write {rollback.name}, which undoes {path.name}"
        assert re.search(r"^-- depends:", header, re.MULTILINE)
        assert re.fullmatch(r"assessments-\d{4}-[a-z-]+", path.stem)


@pytest.mark.parametrize("name", IDS)  # the stand-in for users meets no host's traffic
async def test_a_header_states_the_locks_that_are_taken(
    host: asyncpg.Connection[Any], empty_database: str, name: str
) -> None:
    """Each migration, and its rollback, takes on the tables before it what it states, no more."""
    other = await asyncpg.connect(empty_database)
    for earlier in IDS[: IDS.index(name)]:
        await migration_locks.taken(host, other, earlier)

    for file in (name, f"{name}.rollback"):
        stated = stated_locks(read_migration(file))
        taken = await migration_locks.taken(host, other, file)
        assert taken == stated, (
            f"migrations/{file}.sql takes {taken or 'no lock'} and states {stated or 'none'}: "
            "write `-- Locks:    MODE on TABLE: who waits` for what it takes, or take less"
        )
    await other.close()


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
    edited = sorted(name for name in landed if found.get(name) != landed[name])
    assert edited == [], "it has run on databases: restore it, and write a new migration instead"
    new = sorted(found.keys() - landed.keys())
    assert new == [], f"add its line to tests/{LANDED.name}: `sha256sum FILE`, from the root"


def test_a_failure_to_apply_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody goes on with a database without its tables; yoyo's reason is on standard error."""
    with pytest.raises(subprocess.CalledProcessError):
        migrations.apply("postgresql://postgres@/postgres?host=/nowhere")

    assert "/nowhere" in capfd.readouterr().err
