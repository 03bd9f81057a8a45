"""A deploy under traffic fails no call, and the next deploy repairs what a stopped one left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

import assessments
from assessments.testing import server as postgres
from tests.helpers import pages
from tests.helpers.calls import SUBMITS, Subject, catalogue
from tests.helpers.polling import until
from tests.helpers.rows import new_user, submit
from tests.helpers.traffic import submit_without_key, traffic
from tests.helpers.yoyo import IDS, MIGRATIONS, STANDALONE, migrate, schema, yoyo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from random import Random

    from tests.helpers.traffic import Seen

    Connection = asyncpg.Connection[Any]

PAGE = "docs/deploying.md"
MIGRATE, CHECK = pages.blocks(PAGE, "sh", "Applying")
(LOOP,) = pages.blocks(PAGE, "sh", "Plain yoyo")
(BACK,) = pages.blocks(PAGE, "sh", "Rolling back")
END, MARK = pages.blocks(PAGE, "sh", "When a deploy was killed")
SAME_SHELL = LOOP[: LOOP.index("attempt")]
CONCURRENT = IDS[3:]
FORMS = [*IDS[:4], IDS[8]]  # the later ones are of the form of 0004 or 0009
LOCK_TIMEOUT = 2.0
HANGS = 60


@pytest.fixture
async def holder(empty_database: str) -> AsyncIterator[Connection]:
    """Return another connection to the database, whose transactions block deploys."""
    connection = await asyncpg.connect(empty_database)
    yield connection
    await connection.close()


@asynccontextmanager
async def shell(url: str, script: str) -> AsyncIterator[Process]:
    """Start a shell on a script of the page; after the block it and its children have ended."""
    psql = postgres.find_binaries()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:{psql}"
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", script),
        env=os.environ | {"DATABASE_URL": url, "PATH": path, "PAUSE": "0"},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            await kill(process)


async def kill(process: Process) -> None:
    """Kill a deploy as a container's end does: the shell and all its children."""
    os.killpg(process.pid, signal.SIGKILL)
    await asyncio.wait_for(process.communicate(), HANGS)


async def output_of(process: Process) -> str:
    """Return the output of a script of the page, which must end with status 0."""
    output, _ = await asyncio.wait_for(process.communicate(), HANGS)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def run(url: str, script: str) -> None:
    """Run a script of the page, which must succeed."""
    async with shell(url, script) as process:
        await output_of(process)


async def bring_to(url: str, migration: str) -> None:
    """Create a users table and apply the migrations before *migration*."""
    await migrate(f"apply --match 000[0-{IDS.index(migration)}]", url, STANDALONE, MIGRATIONS)


async def write(conn: Connection, migration: str) -> None:
    """Write to the table that *migration* locks."""
    if migration == IDS[0]:
        await new_user(conn)
    else:
        await submit_without_key(conn, "held", anonymous_token=uuid4())


async def until_deploy_waits(watch: Connection, but: int = 0) -> int:
    """Return the backend of a deploy, other than *but*, once it waits for a lock."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'yoyo' AND wait_event_type = 'Lock' AND pid <> $1"
    )
    return int(await until(watch, waiting, but, seconds=HANGS))


async def until_deploy_blocks_a_call(watch: Connection) -> int:
    """Return the backend of a deploy once another backend waits in the queue behind it."""
    blocking = """
        SELECT deploy.pid
        FROM pg_stat_activity AS call
        JOIN pg_stat_activity AS deploy ON deploy.pid = ANY (pg_blocking_pids(call.pid))
        WHERE deploy.datname = current_database() AND deploy.application_name = 'yoyo'
        LIMIT 1
    """
    return int(await until(watch, blocking, seconds=HANGS))


async def assert_deployed(deployed: Connection, undisturbed: Connection) -> None:
    """Assert that a database is as after a deploy that nothing disturbed, and nothing is left."""
    assert await schema(deployed) == await schema(undisturbed)
    marked = await deployed.fetch("SELECT migration_id FROM _yoyo_migration ORDER BY 1")
    assert [id_ for (id_,) in marked if id_ in IDS] == IDS
    assert await deployed.fetchval("SELECT count(*) FROM yoyo_lock") == 0


async def deploy(url: str, deployed: Connection, undisturbed: Connection) -> None:
    """Apply what is pending, at the first attempt, check, and find nothing wrong."""
    await migrate("apply", url)
    await run(url, CHECK)
    await assert_deployed(deployed, undisturbed)


async def give_up_once(
    holder: Connection, watch: Connection, migration: str, process: Process, seen: Seen
) -> None:
    """Let a deploy wait behind an open transaction until it has given up once, and then succeed.

    The concurrent migration does not give up: there calls have to end while it waits.
    """
    async with holder.transaction():
        await write(holder, migration)
        if migration in CONCURRENT:
            building = await until_deploy_waits(watch)
            enough = len(seen.seconds) + 20
            while len(seen.seconds) < enough:
                await asyncio.sleep(0.01)
            assert await until_deploy_waits(watch) == building
        else:
            first = await until_deploy_blocks_a_call(watch)
            await until_deploy_waits(watch, but=first)
    output = await output_of(process)
    assert ("due to lock timeout" in output) == (migration not in CONCURRENT)


@pytest.mark.parametrize("migration", FORMS)
async def test_a_deploy_under_traffic_fails_no_call(
    empty_database: str,
    empty: Connection,
    migration: str,
    *,
    scale: int,
    chance: Random,
    figures: Callable[..., None],
) -> None:
    """Behind a long transaction a migration goes up, down and up, and 99 % of calls take < 4 s.

    The last time `assessments migrate` applies it, and all that follow.
    """
    await bring_to(empty_database, migration)
    up = LOOP.replace("yoyo apply", f"yoyo apply --revision {migration}")
    down = f"{SAME_SHELL} for attempt in 1 2 3 4 5; do {BACK.strip()} && exit; done; exit 1"
    await empty.execute("ALTER TABLE users ADD COLUMN email text")
    await empty.execute("INSERT INTO users (email) SELECT '' FROM generate_series(1, 20)")
    if migration != IDS[0]:
        await submit_without_key(empty, "held", user_id=1)
    holder = await asyncpg.connect(empty_database)
    async with (
        assessments.create_pool(empty_database, max_size=8) as pool,
        traffic(pool, migration, HANGS, chance) as seen,
    ):
        for script in (up, down) * scale + (MIGRATE.strip() + " --pause 0",):
            async with shell(empty_database, script) as process:
                behind = give_up_once(holder, empty, migration, process, seen)
                await asyncio.wait_for(behind, HANGS)

    p99 = sorted(seen.seconds)[len(seen.seconds) * 99 // 100]
    title, longest = f"deploy under traffic, {migration}", f"{max(seen.seconds):.2f} s"
    counts = {"calls": len(seen.seconds), "failed": len(seen.failed)}
    figures(title, **counts, p99=f"{p99:.2f} s", longest=longest)
    assert seen.failed == []
    assert p99 < 2 * LOCK_TIMEOUT
    count = "SELECT count(*) FROM assessment_responses WHERE question_id <> 'held'"
    assert await empty.fetchval(count) == seen.stored
    await holder.close()


ROWS = {  # what each call but the submissions returns or counts, in this order
    "claim_assessment_responses": 1,
    "record_score": 1,
    "record_scores": 1,
    "record_score_once": 1,
    "get_scores": 3,
    "backoffice.get_scores": 3,
    "get_response": 1,
    "get_responses_by_id": 1,
    "get_responses": 3,
    "get_responses_with_latest_score": 3,
    "get_responses_for_question": 3,
    "get_latest_responses": 1,
    "get_latest_responses_with_latest_score": 1,
    "get_unscored_responses": 0,  # the newest attempt has a score
    "iter_responses": 3,
    "purge_anonymous_responses": 0,
    "delete_responses": 4,
    "purge_responses": 0,
}


async def every_call(conn: Connection) -> None:
    """Make every call of an application from before the submission keys."""
    user_id, token = await new_user(conn), uuid4()
    await submit_without_key(conn, "q2", anonymous_token=token)
    response_id = await submit_without_key(conn, "q1", "q1", "q1", user_id=user_id)
    calls = catalogue(Subject(user_id, token, response_id))
    assert ROWS.keys() == calls.keys() - SUBMITS - {"iter_responses_with_scores"}  # with keys
    for name, rows in ROWS.items():
        changes = dict.fromkeys({"before"} & calls[name].arguments.keys())
        result = await calls[name](conn, **changes)
        many = len(result) if isinstance(result, list) else 1
        assert (result if isinstance(result, int) else many) == rows, name


async def test_old_code_works_after_a_migration_and_after_its_rollback(
    empty_database: str, empty: Connection
) -> None:
    """Statements cached before a migration work in transactions after it and its rollback."""
    await bring_to(empty_database, IDS[2])
    await every_call(empty)
    for command in (f"apply -r {IDS[2]}", "apply", "rollback", "rollback"):
        async with empty.transaction():
            await empty.execute("SELECT 1")
            await migrate(command, empty_database)
            await every_call(empty)


@pytest.mark.parametrize("missing", IDS[2:4])
async def test_submissions_need_the_migrations_that_added_the_key(
    empty_database: str, empty: Connection, conn: Connection, missing: str
) -> None:
    """Before 0003 and 0004 every submission of this version fails and stores nothing."""
    await bring_to(empty_database, missing)
    owner: dict[str, Any] = {"anonymous_token": uuid4()}

    for key in (None, uuid4()):
        with pytest.raises((asyncpg.UndefinedColumnError, asyncpg.InvalidColumnReferenceError)):
            await submit(empty, **owner, submission_key=key)

    assert await empty.fetchval("SELECT count(*) FROM assessment_responses") == 0
    await deploy(empty_database, empty, conn)
    await submit(empty, **owner)


@pytest.mark.parametrize("migration", FORMS)
async def test_a_deploy_killed_at_a_lock_is_repaired_by_the_runbook_and_the_next(
    empty_database: str, empty: Connection, holder: Connection, conn: Connection, migration: str
) -> None:
    """Kill -9 in the middle of a migration: the runbook ends its session, apply completes it."""
    await bring_to(empty_database, migration)
    active = (
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'yoyo' AND state = 'active')"
    )
    half_built = "SELECT EXISTS (SELECT 1 FROM pg_index WHERE NOT indisvalid)"
    async with holder.transaction():
        await write(holder, migration)
        async with shell(empty_database, LOOP) as process:
            await until_deploy_waits(empty)
            await kill(process)
        assert await empty.fetchval("SELECT count(*) FROM yoyo_lock") == 1
        assert await empty.fetchval(active) or migration not in CONCURRENT

        await run(empty_database, END)

        assert not await empty.fetchval(active)
        assert await empty.fetchval(half_built) == (migration in CONCURRENT)
    await deploy(empty_database, empty, conn)


@pytest.mark.parametrize("migration", FORMS[2:])
async def test_a_deploy_killed_before_its_mark_is_repaired_by_the_runbook(
    empty_database: str, empty: Connection, holder: Connection, conn: Connection, migration: str
) -> None:
    """Kill -9 between a migration and yoyo's record of it: the runbook records it."""
    await bring_to(empty_database, migration)
    async with holder.transaction():
        await holder.execute("LOCK TABLE _yoyo_log IN SHARE MODE")
        async with shell(empty_database, LOOP) as process:
            await until_deploy_waits(empty)
            await kill(process)
        await run(empty_database, END)

    if migration not in CONCURRENT:
        again = await yoyo("apply", empty_database)
        assert again.returncode != 0
        assert "already exists" in again.stderr
        await run(empty_database, SAME_SHELL + MARK)
    await deploy(empty_database, empty, conn)


@pytest.mark.parametrize(
    ("migration", "obstacle"),
    [
        (IDS[0], "idx_assessment_responses_module"),
        (IDS[1], "idx_assessment_scores_response_id"),
    ],
)
async def test_a_migration_that_fails_half_way_is_applied_by_the_next_deploy(
    empty_database: str, empty: Connection, conn: Connection, migration: str, obstacle: str
) -> None:
    """A statement that fails rolls its whole migration back and releases yoyo's lock."""
    await bring_to(empty_database, migration)
    await empty.execute(f"CREATE INDEX {obstacle} ON users (user_id)")
    before = await schema(empty)

    done = await yoyo("apply", empty_database)

    assert done.returncode != 0
    assert f'relation "{obstacle}" already exists' in done.stderr
    assert await schema(empty) == before
    await empty.execute(f"DROP INDEX {obstacle}")
    await deploy(empty_database, empty, conn)


async def test_concurrent_deploys_apply_each_migration_once(
    empty_database: str, empty: Connection, conn: Connection, scale: int
) -> None:
    """Of three deploys started together one applies, and the others wait or say why they fail."""
    for _ in range(scale):
        await empty.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await empty.execute((STANDALONE / "assessments-0000-users.sql").read_text(encoding="utf-8"))

        for done in await asyncio.gather(*(yoyo("apply", empty_database) for _ in range(3))):
            assert done.returncode == 0 or "LockTimeout" in done.stderr, done.stderr

        applied = await empty.fetch(
            "SELECT migration_id FROM _yoyo_log WHERE operation = 'apply' ORDER BY 1"
        )
        assert [id_ for (id_,) in applied] == IDS
        await assert_deployed(empty, conn)


async def test_a_deploy_that_finds_another_at_work_fails_and_changes_nothing(
    empty_database: str, empty: Connection, holder: Connection, conn: Connection
) -> None:
    """While one builds the index a second fails with LockTimeout, and the first completes."""
    await bring_to(empty_database, CONCURRENT[0])
    async with shell(empty_database, LOOP) as first:
        async with holder.transaction():
            await write(holder, CONCURRENT[0])
            await until_deploy_waits(empty)

            second = await yoyo("apply", empty_database)

        await output_of(first)
    assert second.returncode != 0
    assert "LockTimeout" in second.stderr
    assert "break-lock" in second.stderr
    await assert_deployed(empty, conn)


def test_the_page_names_tests_that_exist() -> None:
    """Each word that the page gives to -k selects a test of this file."""
    promises = pages.section(PAGE, "Promises")
    rows = re.findall(r"\| `([\w ]+)` \|$", promises, re.MULTILINE)
    words = " or ".join([*rows, *re.findall(r"-k (\w+)", promises)]).split(" or ")

    assert len(rows) == 5
    for word in words:
        assert any(word in name for name in globals() if name.startswith("test_")), word
