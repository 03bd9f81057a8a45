"""A deploy under traffic fails no call, and what a stopped one leaves the next one repairs."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import backoffice
from assessments.testing import server as postgres
from tests.helpers.rows import new_user, submit
from tests.helpers.yoyo import IDS, MIGRATIONS, STANDALONE, schema, yoyo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PAGE = Path(assessments.__file__).parent.parent / "docs" / "deploying.md"
TRANSACTIONAL, CONCURRENT = IDS[:3], IDS[3]
LOCK_TIMEOUT = 2.0
HANGS = 60


def blocks(section: str) -> list[str]:
    """Return the shell blocks of a section of the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert found
    return found


LOOP, CHECK = blocks("Applying")
(BACK,) = blocks("Rolling back")
END, MARK = blocks("When a deploy was killed")
SAME_SHELL = LOOP[: LOOP.index("attempt")]


@asynccontextmanager
async def shell(url: str, script: str) -> AsyncIterator[Process]:
    """Start a shell on a script of the page; it and what it started are gone after the block."""
    psql = postgres.embedded_binaries() or postgres.installed_binaries()
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        script,
        env=os.environ
        | {
            "DATABASE_URL": url,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:{psql}",
            "PAUSE": "0",
        },
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()


async def run(url: str, script: str) -> tuple[int | None, str]:
    """Run a script of the page to its end; return its status and what it said."""
    async with shell(url, script) as process:
        said, _ = await asyncio.wait_for(process.communicate(), HANGS)
    return process.returncode, said.decode()


async def deploy(url: str) -> None:
    """Apply what is pending, at the first attempt, and check."""
    done = await yoyo("apply", url)
    assert done.returncode == 0, done.stderr
    status, said = await run(url, CHECK)
    assert status == 0, said


async def bring_to(url: str, migration: str) -> None:
    """Make a users table and apply what comes before *migration*."""
    before = f"000[0-{IDS.index(migration)}]"
    done = await yoyo(f"apply --match {before}", url, STANDALONE, MIGRATIONS)
    assert done.returncode == 0, done.stderr


async def hold(conn: asyncpg.Connection[Any], migration: str) -> None:
    """Write, in an open transaction, to the table for which *migration* has to wait."""
    if migration == IDS[0]:
        await new_user(conn)
    else:
        await submit(conn, "held", anonymous_token=uuid4())


async def until_deploy_waits(watch: asyncpg.Connection[Any], but: int = 0) -> int:
    """Return the backend of a deploy, other than *but*, once it waits for a lock."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'yoyo' AND wait_event_type = 'Lock' AND pid <> $1"
    )
    while not (pid := await watch.fetchval(waiting, but)):
        await asyncio.sleep(0.01)
    return int(pid)


async def until_a_call_waits_behind_a_deploy(watch: asyncpg.Connection[Any]) -> int:
    """Return the backend of a deploy once another backend waits in the queue behind it."""
    behind = """
        SELECT deploy.pid
        FROM pg_stat_activity AS call
        JOIN pg_stat_activity AS deploy ON deploy.pid = ANY (pg_blocking_pids(call.pid))
        WHERE deploy.datname = current_database() AND deploy.application_name = 'yoyo'
        LIMIT 1
    """
    while not (pid := await watch.fetchval(behind)):
        await asyncio.sleep(0.01)
    return int(pid)


Call = tuple[int, "Callable[[Any, int], Awaitable[Any]]"]  # the rows it stores, and what it does

BATCH: list[assessments.NewResponse] = [
    {"anonymous_token": UUID(int=1), "question_id": q, "module_slug": "m1", "answer_text": ""}
    for q in ("q2", "q3")
]
HOST: list[Call] = [
    (0, lambda pool, user: pool.fetch("SELECT email FROM users WHERE user_id = $1", user)),
    (0, lambda pool, user: pool.execute("UPDATE users SET email = 'a@' WHERE user_id = $1", user)),
    (0, lambda pool, _: pool.execute("INSERT INTO users (email) VALUES ('b@')")),
]
STUDENTS: list[Call] = [
    (1, lambda pool, user: submit(pool, user_id=user)),
    (1, lambda pool, user: submit(pool, anonymous_token=UUID(int=user))),
    (2, lambda pool, _: assessments.submit_responses(pool, BATCH)),
    (
        0,
        lambda pool, user: assessments.claim_assessment_responses(
            pool, anonymous_token=UUID(int=user), user_id=user
        ),
    ),
    (0, lambda pool, user: assessments.get_responses(pool, user_id=user, limit=20)),
]
SCORING: list[Call] = [
    (0, lambda pool, _: backoffice.record_score(pool, response_id=1, score_data={"points": 1})),
    (
        0,
        lambda pool, user: assessments.get_responses_with_latest_score(
            pool, user_id=user, limit=20
        ),
    ),
]
# What goes on while a migration comes and goes: what does not need what it makes.
TRAFFIC = dict(zip(IDS, (HOST, HOST + STUDENTS, *[HOST + STUDENTS + SCORING] * 2), strict=True))


@dataclass
class Seen:
    """What became of the calls."""

    stored: int = 0
    failed: list[Exception] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@asynccontextmanager
async def traffic(pool: asyncpg.Pool[Any], calls: list[Call]) -> AsyncIterator[Seen]:
    """Make fifty calls a second, however many of them wait, and end when all have ended."""
    seen, made, chance = Seen(), [], random.Random(20261122)

    async def make(rows: int, call: Callable[[Any, int], Awaitable[Any]]) -> None:
        due = perf_counter()
        try:
            await call(pool, chance.randint(1, 20))
            seen.stored += rows
        except Exception as error:  # noqa: BLE001 - whatever it is, it counts
            seen.failed.append(error)
        seen.seconds.append(perf_counter() - due)

    async def arrive() -> None:
        for call in cycle(calls):
            made.append(asyncio.create_task(make(*call)))
            await asyncio.sleep(0.02)

    arriving = asyncio.create_task(arrive())
    try:
        yield seen
    finally:
        arriving.cancel()
        await asyncio.wait_for(asyncio.gather(*made), HANGS)


async def behind_a_long_transaction(
    url: str, watch: asyncpg.Connection[Any], migration: str, script: str, seen: Seen
) -> None:
    """Run *script* behind an open transaction that ends once the script has given up once.

    The concurrent migration does not give up: there calls have to end while it waits.
    """
    holder = await asyncpg.connect(url)
    try:
        async with shell(url, script) as process:
            async with holder.transaction():
                await hold(holder, migration)
                if migration == CONCURRENT:
                    building = await until_deploy_waits(watch)
                    enough = len(seen.seconds) + 20
                    while len(seen.seconds) < enough:
                        await asyncio.sleep(0.01)
                    assert await until_deploy_waits(watch) == building
                else:
                    first = await until_a_call_waits_behind_a_deploy(watch)
                    await until_deploy_waits(watch, but=first)
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        assert (b"due to lock timeout" in said) == (migration != CONCURRENT)
    finally:
        await holder.close()


@pytest.mark.parametrize("migration", IDS)
async def test_a_deploy_under_traffic_fails_no_call(
    empty_database: str, migration: str, scale: int, figures: Callable[..., None]
) -> None:
    """Behind a long transaction a migration goes up, down and up, and 99 % of calls take < 4 s."""
    url = empty_database
    await bring_to(url, migration)
    up = LOOP.replace("yoyo apply", f"yoyo apply --revision {migration}")
    down = f"{SAME_SHELL} for attempt in 1 2 3 4 5; do {BACK.strip()} && exit; done; exit 1"
    watch = await asyncpg.connect(url)
    await watch.execute("ALTER TABLE users ADD COLUMN email text")
    await watch.execute("INSERT INTO users (email) SELECT '' FROM generate_series(1, 20)")
    if migration != IDS[0]:
        await submit(watch, "held", user_id=1)
    async with (
        assessments.create_pool(url, max_size=8) as pool,
        traffic(pool, TRAFFIC[migration]) as seen,
    ):
        for script in (up, down) * scale + (up,):
            await asyncio.wait_for(
                behind_a_long_transaction(url, watch, migration, script, seen), HANGS
            )

    p99 = sorted(seen.seconds)[len(seen.seconds) * 99 // 100]
    figures(
        f"deploy under traffic, {migration}",
        calls=len(seen.seconds),
        failed=len(seen.failed),
        p99=f"{p99:.2f} s",
        longest=f"{max(seen.seconds):.2f} s",
    )
    assert seen.failed == []
    assert p99 < 2 * LOCK_TIMEOUT
    rows = await watch.fetchval(
        "SELECT count(*) FROM assessment_responses WHERE question_id <> 'held'"
    )
    assert rows == seen.stored
    await watch.close()


async def every_call(conn: asyncpg.Connection[Any]) -> None:
    """Make every call of an application that knows no submission keys."""
    user_id, token = await new_user(conn), uuid4()
    response = await submit(conn, user_id=user_id)
    await assessments.submit_responses(conn, BATCH)
    await submit(conn, "q2", anonymous_token=token)
    owner: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}
    assert await assessments.claim_assessment_responses(conn, **owner) == 1
    response_id = response["response_id"]
    await backoffice.record_score(conn, response_id=response_id, score_data={})
    await backoffice.record_scores(conn, [{"response_id": response_id, "score_data": {}}])
    assert len(await assessments.get_scores(conn, response_id=response_id, **owner)) == 2
    assert len(await assessments.get_responses(conn, **owner)) == 2
    assert len(await assessments.get_responses_with_latest_score(conn, **owner)) == 2
    assert len(await assessments.get_latest_responses(conn, **owner)) == 2
    assert await assessments.get_responses_for_question(conn, question_id="q1", **owner)
    assert await backoffice.get_unscored_responses(conn)
    assert [row async for row in backoffice.iter_responses(conn, **owner)]
    await backoffice.purge_anonymous_responses(conn, older_than=timedelta(days=1))
    assert await assessments.delete_responses(conn, **owner) == 2


async def test_old_code_works_on_the_new_schema_and_on_the_old_one_again(
    empty_database: str,
) -> None:
    """Statements cached before a migration go on in transactions after it and after its undoing."""
    await bring_to(empty_database, IDS[2])
    conn = await asyncpg.connect(empty_database)
    await every_call(conn)
    for command in (f"apply -r {IDS[2]}", "apply", "rollback", "rollback"):
        async with conn.transaction():
            await conn.execute("SELECT 1")
            done = await yoyo(command, empty_database)
            assert done.returncode == 0, done.stderr
            await every_call(conn)
    await conn.close()


@pytest.mark.parametrize("missing", IDS[2:])
async def test_only_submission_keys_need_the_migrations_that_brought_them(
    empty_database: str, missing: str
) -> None:
    """Before 0003 and 0004 a submit with a key fails and stores nothing; one without is stored."""
    await bring_to(empty_database, missing)
    conn, key = await asyncpg.connect(empty_database), uuid4()

    with pytest.raises(asyncpg.PostgresError):
        await submit(conn, anonymous_token=key, submission_key=key)
    await submit(conn, anonymous_token=key)

    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 1
    await deploy(empty_database)
    await submit(conn, anonymous_token=key, submission_key=key)
    await conn.close()


async def is_repaired(url: str, undisturbed: list[str]) -> None:
    """Assert that a database is as after a deploy that nothing disturbed, and nothing is left."""
    conn = await asyncpg.connect(url)
    assert await schema(conn) == undisturbed
    marked = await conn.fetch("SELECT migration_id FROM _yoyo_migration ORDER BY 1")
    assert [id_ for (id_,) in marked if id_ in IDS] == IDS
    assert await conn.fetchval("SELECT count(*) FROM yoyo_lock") == 0
    await conn.close()


async def kill(process: Process) -> None:
    """Kill a deploy as a container's end does: the shell and all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    await asyncio.wait_for(process.communicate(), HANGS)


@pytest.mark.parametrize("migration", IDS)
async def test_a_deploy_killed_at_a_lock_is_repaired_by_the_runbook_and_the_next(
    empty_database: str, conn: asyncpg.Connection[Any], migration: str
) -> None:
    """Kill -9 in the middle of a migration: the runbook ends what is left, apply completes it."""
    await bring_to(empty_database, migration)
    watch, holder = [await asyncpg.connect(empty_database) for _ in range(2)]
    at_work = (
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'yoyo' AND state = 'active')"
    )
    half_built = "SELECT EXISTS (SELECT 1 FROM pg_index WHERE NOT indisvalid)"
    async with holder.transaction():
        await hold(holder, migration)
        async with shell(empty_database, LOOP) as process:
            await asyncio.wait_for(until_deploy_waits(watch), HANGS)
            await kill(process)
        assert await watch.fetchval("SELECT count(*) FROM yoyo_lock") == 1
        assert await watch.fetchval(at_work) or migration != CONCURRENT

        status, said = await run(empty_database, END)

        assert status == 0, said
        assert not await watch.fetchval(at_work)
        assert await watch.fetchval(half_built) == (migration == CONCURRENT)
    await deploy(empty_database)
    await is_repaired(empty_database, await schema(conn))
    await watch.close()
    await holder.close()


@pytest.mark.parametrize("migration", IDS[2:])
async def test_a_deploy_killed_before_its_mark_is_repaired_by_the_runbook(
    empty_database: str, conn: asyncpg.Connection[Any], migration: str
) -> None:
    """Kill -9 between a migration and yoyo's note of it: the runbook notes it, apply goes on."""
    await bring_to(empty_database, migration)
    watch, holder = [await asyncpg.connect(empty_database) for _ in range(2)]
    async with holder.transaction():
        await holder.execute("LOCK TABLE _yoyo_log IN SHARE MODE")
        async with shell(empty_database, LOOP) as process:
            await asyncio.wait_for(until_deploy_waits(watch), HANGS)
            await kill(process)
        status, said = await run(empty_database, END)
        assert status == 0, said

    if migration != CONCURRENT:
        again = await yoyo("apply", empty_database)
        assert again.returncode != 0
        assert "already exists" in again.stderr
        status, said = await run(empty_database, SAME_SHELL + MARK)
        assert status == 0, said
    await deploy(empty_database)
    await is_repaired(empty_database, await schema(conn))
    await watch.close()
    await holder.close()


@pytest.mark.parametrize(
    ("migration", "obstacle"),
    [
        (IDS[0], "idx_assessment_responses_module"),
        (IDS[1], "idx_assessment_scores_response_id"),
    ],
)
async def test_a_migration_that_fails_half_way_leaves_nothing_and_is_applied_by_the_next(
    empty_database: str, conn: asyncpg.Connection[Any], migration: str, obstacle: str
) -> None:
    """A statement that fails undoes its whole migration and releases yoyo's lock."""
    await bring_to(empty_database, migration)
    host = await asyncpg.connect(empty_database)
    await host.execute(f"CREATE INDEX {obstacle} ON users (user_id)")
    before = await schema(host)

    done = await yoyo("apply", empty_database)

    assert done.returncode != 0
    assert f'relation "{obstacle}" already exists' in done.stderr
    assert await schema(host) == before
    await host.execute(f"DROP INDEX {obstacle}")
    await deploy(empty_database)
    await is_repaired(empty_database, await schema(conn))
    await host.close()


async def test_deploys_at_once_apply_each_migration_once(
    empty_database: str, conn: asyncpg.Connection[Any], scale: int
) -> None:
    """Of three deploys begun together one applies, and the others wait or say why they fail."""
    host = await asyncpg.connect(empty_database)
    for _ in range(scale):
        await host.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await host.execute((STANDALONE / "assessments-0000-users.sql").read_text(encoding="utf-8"))

        deploys = await asyncio.gather(*(yoyo("apply", empty_database) for _ in range(3)))

        for done in deploys:
            assert done.returncode == 0 or "LockTimeout" in done.stderr, done.stderr
        applied = await host.fetch(
            "SELECT migration_id FROM _yoyo_log WHERE operation = 'apply' ORDER BY 1"
        )
        assert [id_ for (id_,) in applied] == IDS
        await is_repaired(empty_database, await schema(conn))
    await host.close()


async def test_a_deploy_that_finds_another_at_work_says_so_and_changes_nothing(
    empty_database: str, conn: asyncpg.Connection[Any]
) -> None:
    """While one builds the index a second fails with LockTimeout, and the first completes."""
    await bring_to(empty_database, CONCURRENT)
    watch, holder = [await asyncpg.connect(empty_database) for _ in range(2)]
    async with shell(empty_database, LOOP) as first:
        async with holder.transaction():
            await hold(holder, CONCURRENT)
            await asyncio.wait_for(until_deploy_waits(watch), HANGS)

            second = await yoyo("apply", empty_database)

        said, _ = await asyncio.wait_for(first.communicate(), HANGS)
    assert second.returncode != 0
    assert "LockTimeout" in second.stderr
    assert "break-lock" in second.stderr
    assert first.returncode == 0, said.decode()
    await is_repaired(empty_database, await schema(conn))
    await watch.close()
    await holder.close()


def test_the_page_names_tests_that_are_there() -> None:
    """Each word that the page gives to -k picks a test of this file."""
    promises = (
        PAGE.read_text(encoding="utf-8").partition("\n## Promises\n")[2].partition("\n## ")[0]
    )
    rows = re.findall(r"\| `([\w ]+)` \|$", promises, re.MULTILINE)
    words = " or ".join([*rows, *re.findall(r"-k (\w+)", promises)]).split(" or ")

    assert len(rows) == 5
    for word in words:
        assert any(word in name for name in globals() if name.startswith("test_")), word
