"""``assessments migrate`` applies the migrations, and says in a line what stands in its way."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from assessments import cli
from assessments.checks import surroundings
from tests.helpers import pgbouncer
from tests.helpers.commands import INTERRUPTIBLE, Database, run
from tests.helpers.polling import until
from tests.helpers.yoyo import IDS, MIGRATIONS, STANDALONE, migrate, schema, yoyo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    Connection = asyncpg.Connection[Any]

ALL_APPLIED = f"All {len(IDS)} migrations are applied."
RUNBOOK = "docs/deploying.md#when-a-deploy-was-killed"
YOYO = [sys.executable, "-m", "yoyo", "apply", "--no-config-file", "--batch", "--database"]
WAITS = """
SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name = 'yoyo'
    AND wait_event_type = 'Lock'
"""


@pytest.fixture
async def db(empty_database: str) -> AsyncIterator[Database]:
    """Return a database with the host's users table and nothing else."""
    conn = await asyncpg.connect(empty_database)
    await conn.execute((STANDALONE / "assessments-0000-users.sql").read_text(encoding="utf-8"))
    yield Database(empty_database, conn)
    await conn.close()


@pytest.fixture
async def watch(server: str) -> AsyncIterator[Connection]:
    """Return a connection to another database of the server."""
    conn = await asyncpg.connect(server)
    yield conn
    await conn.close()


async def run_migrate(url: str, *options: object) -> tuple[int, list[str], list[str]]:
    """Return the status of ``assessments migrate`` and the lines of its output and its errors."""
    done = await asyncio.to_thread(run, "migrate", "--database", url, "--pause", "0", *options)
    errors = done.stderr.decode()
    assert "Traceback" not in errors
    return done.returncode, done.stdout.decode().splitlines(), errors.splitlines()


async def bring_to(url: str, number: int, *sources: Path) -> None:
    """Apply the migrations before that of this *number*."""
    await migrate(f"apply --match 000[0-{number - 1}]", url, *sources, MIGRATIONS)


async def assert_deployed(conn: Connection, undisturbed: Connection) -> None:
    """Assert that the database is as plain yoyo leaves it, and unlocked."""
    assert await schema(conn) == await schema(undisturbed)
    assert await conn.fetchval("SELECT count(*) FROM yoyo_lock") == 0


async def test_it_leaves_what_yoyo_leaves(db: Database, conn: Connection) -> None:
    """A line for each migration with its seconds, one before each build; yoyo finds all applied."""
    dry = await run_migrate(db.url, "--dry-run")
    unchanged = await db.count("pg_class")
    again_dry = await run_migrate(db.url, "--dry-run")

    status, lines, errors = await run_migrate(db.url)

    assert (status, errors) == (0, [])
    assert lines.pop() == ALL_APPLIED
    applied = [line for line in lines if not line.endswith(": building", 0, line.find(" idx"))]
    assert [re.sub(r" \d+\.\d\d s$", "", line) for line in applied] == [
        f"{name}: applied in" for name in IDS
    ]
    assert lines[3] == f"{IDS[3]}: building idx_assessment_responses_submission_key"
    assert dry == again_dry
    assert (dry[0], dry[2]) == (0, [])
    assert [line.partition(":")[0] for line in dry[1]] == IDS
    assert dry[1][0] == f"{IDS[0]}: SHARE ROW EXCLUSIVE on users"
    assert dry[1][3] == (
        f"{IDS[3]}: SHARE UPDATE EXCLUSIVE on assessment_responses, building"
        " idx_assessment_responses_submission_key"
    )
    assert unchanged < await db.count("pg_class")
    await assert_deployed(db.conn, conn)
    marked = await db.conn.fetch("SELECT migration_id FROM _yoyo_migration ORDER BY 1")
    assert [name for (name,) in marked] == IDS
    await migrate("apply", db.url)
    assert await run_migrate(db.url) == (0, [ALL_APPLIED], [])
    status, _, errors = await run_migrate(db.url, "--standalone")
    assert (status, errors) == (1, ["--standalone: there is public.users: leave it out"])


NAMELESS = """
import os, pwd, sys
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
sys.modules |= dict.fromkeys(("rich", "jinja2", "vl_convert"))
from assessments.cli import main
sys.exit(main())
"""


async def test_the_stand_in_comes_first_and_the_user_needs_no_name(
    empty_database: str,
) -> None:
    """With --standalone it is migration 0000; a container's user without a name can deploy.

    The extra `cli` is not needed.
    """
    command = ("migrate", "--database", empty_database, "--standalone")
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", NAMELESS, *command], capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"assessments-0000-users: applied in ")
    assert done.stdout.endswith(f"All {len(IDS) + 1} migrations are applied.\n".encode())


@pytest.fixture
async def deployer(empty_database: str) -> AsyncIterator[str]:
    """Return the URL of a role that may log in and has no rights; its like, NAME_app, is there."""
    parts = urlsplit(empty_database)
    if parts.password:
        pytest.skip("this server asks the role for a password")
    name = f"r{uuid4().hex}"
    conn = await asyncpg.connect(empty_database)
    await conn.execute(f"CREATE ROLE {name} LOGIN; CREATE ROLE {name}_app LOGIN")
    await conn.close()
    yield parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}").geturl()
    conn = await asyncpg.connect(empty_database)
    roles = f"{name}, {name}_app"
    await conn.execute(f"DROP OWNED BY {roles} CASCADE; DROP ROLE {roles}")
    await conn.close()


async def test_what_is_wrong_is_said_before_it_starts(db: Database, deployer: str) -> None:
    """A line for the missing right, and one for the users table; nothing is created."""
    role = urlsplit(deployer).username

    no_rights = await run_migrate(deployer)
    await db.conn.execute(f"DROP TABLE users; GRANT CREATE ON SCHEMA public TO {role}")
    no_users = await run_migrate(deployer)
    await db.conn.execute("CREATE TABLE users (id integer PRIMARY KEY)")
    other_users = await run_migrate(deployer)

    def failed(*lines: str) -> tuple[int, list[str], list[str]]:
        return (1, [], [*lines])

    assert no_rights == failed(
        f"schema: {role} may not create tables in public, the first on search_path:"
        " docs/reviewing.md#rights",
        f"users: public.users (user_id bigint): {role} has no REFERENCES (user_id) on it:"
        " docs/users.md#what-is-expected",
    )
    assert no_users == failed(
        'users: no table users with a column user_id on search_path ("$user", public);'
        " none: docs/users.md#no-users-table"
    )
    assert other_users == failed(
        "users: public.users (id integer) has no column user_id:"
        " docs/users.md#a-column-in-your-table"
    )
    assert await schema(db.conn) == [
        line for line in await schema(db.conn) if re.search(r"\busers\b|users_", line)
    ]
    assert await db.conn.fetchval("SELECT to_regclass('yoyo_lock')") is None


def test_a_server_that_is_too_old_is_named(
    db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version that is needed grows here, as no old server is at hand."""
    monkeypatch.setattr(surroundings, "_OLDEST_SERVER", 99)

    status = cli.main(["migrate", "--database", db.url, "--dry-run"])

    (line,) = capsys.readouterr().err.splitlines()
    assert status == 1
    assert re.fullmatch(r"PostgreSQL \d+\.\d+.*, UTF8: it has to be 99 or newer, and UTF8", line)


@pytest.mark.skipif(pgbouncer.binary() is None, reason="PgBouncer is not installed")
@pytest.mark.parametrize(("mode", "status"), [("transaction", 1), ("session", 0)])
async def test_a_pooler_must_be_in_session_mode(db: Database, mode: str, status: int) -> None:
    """In transaction mode settings and locks of a session would be another client's."""
    with pgbouncer.running(db.url, pool_mode=mode) as url:
        done, lines, errors = await run_migrate(url, "--dry-run")

    assert (done, len(lines)) == (status, 0 if status else len(IDS))
    what = "pooler: a transaction-mode pooler stands in between"
    assert errors == [f"{what}: connect directly, or through one in session mode"] * status


@pytest.mark.parametrize(
    ("url", "status", "line"),
    [
        (
            "postgresql://u:hunter2@127.0.0.1:1/d",
            3,
            "no connection to the server: Connection refused",
        ),
        (
            "mysql://u:hunter2@h/d",
            2,
            "assessments migrate: error: argument --database: must be postgresql://…, not mysql://",
        ),
    ],
)
async def test_no_server_and_a_wrong_url(url: str, status: int, line: str) -> None:
    """3 where there is no server, 2 where there is no URL; the password is not printed."""
    done, lines, errors = await run_migrate(url)

    said = errors[-1].replace("user:password@host/database", "…")
    assert (done, lines, said) == (status, [], line)
    assert "hunter2" not in "".join(errors)


async def test_lock_timeouts_are_retried_and_nothing_else(
    db: Database, empty: Connection, conn: Connection
) -> None:
    """Behind a writer of users it gives up after the attempts, or succeeds once that has ended."""
    await empty.execute("BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE")
    timeout = f"{IDS[0]}: canceling statement due to lock timeout; "

    given_up = await run_migrate(db.url, "--attempts", "1")
    process = db.start("migrate", "--attempts", "2", "--pause", "0.1")
    assert process.stderr
    first = await asyncio.to_thread(process.stderr.readline)
    await empty.execute(
        "ROLLBACK; CREATE INDEX idx_assessment_scores_response_id ON users (user_id)"
    )
    output, error = await asyncio.to_thread(process.communicate, timeout=60)
    await empty.execute("DROP INDEX idx_assessment_scores_response_id")

    assert given_up == (1, [], [f"{timeout}attempts made: 1"])
    assert first.decode() == f"{timeout}attempt 2 of 2 in 0.1 s\n"
    assert output.startswith(f"{IDS[0]}: applied in ".encode())
    exists = 'PostgreSQL says: relation "idx_assessment_scores_response_id" already exists'
    assert error.decode() == f"{IDS[1]}: {exists}; after a killed deploy: {RUNBOOK}\n"
    assert process.returncode == 1
    assert (await run_migrate(db.url))[0] == 0
    await assert_deployed(db.conn, conn)


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[Connection]:
    """Return another connection to the database."""
    conn = await asyncpg.connect(empty_database)
    yield conn
    await conn.close()


async def test_a_killed_predecessor_is_passed_and_a_living_one_is_not(
    db: Database, empty: Connection, watch: Connection, conn: Connection
) -> None:
    """The lock ends with its session and not by break-lock; a build that is left is awaited."""
    await bring_to(db.url, 4)
    name = urlsplit(db.url).path[1:]
    await empty.execute("BEGIN; LOCK TABLE assessment_responses IN ROW EXCLUSIVE MODE")
    first = db.start("migrate")
    builder = await until(watch, WAITS, name)

    await yoyo("break-lock", db.url)
    beside = await run_migrate(db.url, "--attempts", "1")
    first.kill()
    first.communicate()
    behind = await run_migrate(db.url, "--attempts", "1")
    second = db.start("migrate", "--attempts", "1000", "--pause", "0.05")
    assert second.stderr
    waiting = await asyncio.to_thread(second.stderr.readline)
    await empty.execute("ROLLBACK")
    output, _ = await asyncio.to_thread(second.communicate, timeout=60)

    at_work = r"yoyo_lock: another deploy is at work: session \d+; attempts made: 1"
    assert beside[0] == 1
    assert re.fullmatch(at_work, "\n".join(beside[2]))
    building = f"{IDS[3]}: an index of assessment_responses is being built: session {builder}; "
    assert (behind[0], behind[2]) == (1, [f"{building}attempts made: 1"])
    assert waiting.decode() == f"{building}attempt 2 of 1000 in 0.05 s\n"
    assert (second.returncode, output.decode().splitlines()[-1]) == (0, ALL_APPLIED)
    await assert_deployed(db.conn, conn)


async def test_a_killed_yoyo_is_passed_once_no_session_can_be_its_own(
    empty_database: str, deployer: str, watch: Connection
) -> None:
    """While it works, or its session does, its lock stays, and the sessions are named."""
    role, name = urlsplit(deployer).username, urlsplit(deployer).path[1:]
    admin = await asyncpg.connect(empty_database)
    await admin.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
    await admin.close()
    await bring_to(deployer, 4, STANDALONE)
    owner = await asyncpg.connect(deployer)
    await owner.execute(f"GRANT INSERT ON assessment_responses TO {role}_app")
    await owner.close()
    service = await asyncpg.connect(deployer, user=f"{role}_app")
    await service.execute("BEGIN; LOCK TABLE assessment_responses IN ROW EXCLUSIVE MODE")
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND usename = $2"

    process = await asyncio.create_subprocess_exec(*YOYO, deployer, str(MIGRATIONS))
    blocked = WAITS.replace("application_name = 'yoyo'", "usename = $2")
    builder = await until(watch, blocked, name, role)
    living = await run_migrate(deployer, "--attempts", "1")
    process.kill()
    await process.wait()
    await until(watch, sessions.replace("count(*)", "count(*) = 1"), name, role)
    left = await run_migrate(deployer, "--attempts", "1")
    await service.execute("ROLLBACK")
    await until(watch, sessions.replace("count(*)", "count(*) = 0"), name, role)
    status, lines, errors = await run_migrate(deployer)
    await service.close()

    for failed, _, (line,) in (living, left):
        assert failed == 1
        assert re.match(rf"yoyo_lock: held since \S+ \S+ UTC by process {process.pid}, ", line)
        assert f"{builder} ({role})" in line
        assert line.endswith(f": {RUNBOOK}; attempts made: 1")
    assert (status, errors) == (0, [])
    assert lines[0].startswith("yoyo_lock: held since ")
    assert lines[0].endswith(f" by process {process.pid}, of which no session is left: removed")
    assert lines[-1] == ALL_APPLIED


async def test_a_signal_cancels_the_statement(
    db: Database, empty: Connection, watch: Connection
) -> None:
    """Ctrl-C and SIGTERM end it with a line, and no session works on at the server."""
    await empty.execute("BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE")
    name = urlsplit(db.url).path[1:]
    for number in (signal.SIGTERM, signal.SIGINT):
        process = db.start("migrate", **INTERRUPTIBLE)
        await until(watch, WAITS, name)
        process.send_signal(number)
        _, error = await asyncio.to_thread(process.communicate, timeout=60)

        what = "PostgreSQL says: canceling statement due to user request"
        assert (process.returncode, error.decode()) == (1, f"{IDS[0]}: {what}\n")
        assert await watch.fetchval(WAITS, name) is None
