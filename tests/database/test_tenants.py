"""One schema a tenant, as docs/scaling.md sets it up: migrated by a loop, and kept apart."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

import assessments
from tests.helpers import pages, pgbouncer
from tests.helpers.calls import TOKEN, Subject, catalogue
from tests.helpers.commands import content, run
from tests.helpers.rows import new_user, submit
from tests.helpers.servers import database_url
from tests.helpers.yoyo import IDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    Connection = asyncpg.Connection[Any]

(LOOP,) = pages.blocks("docs/scaling.md", "sh", "Migrations")
SCHOOLS = ("school_1", "school_2", "school_3")


async def apply(url: str, *schools: str) -> tuple[int, str]:
    """Run the page's loop; return its status and its output."""
    shell = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", LOOP),
        env=os.environ
        | {
            "DATABASE_URL": url,
            "SCHOOLS": " ".join(schools),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    output, _ = await asyncio.wait_for(shell.communicate(), 60)
    assert shell.returncode is not None
    return shell.returncode, output.decode()


async def execute(url: str, statement: str) -> None:
    """Run *statement* on a connection of its own."""
    conn = await asyncpg.connect(url)
    await conn.execute(statement)
    await conn.close()


@pytest.fixture(scope="module")
def schools_template(server: str) -> Iterator[str]:
    """Return the name of a database with three migrated schemas."""
    name = f"assessments_{uuid4().hex}"
    url = database_url(server, name)

    async def set_up() -> None:
        await execute(server, f"CREATE DATABASE {name}")
        await execute(url, ";".join(f"CREATE SCHEMA {school}" for school in SCHOOLS))
        assert (await apply(url, *SCHOOLS))[0] == 0

    try:
        asyncio.run(set_up())
        yield name
    finally:
        asyncio.run(execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
async def schools(server: str, schools_template: str) -> AsyncIterator[str]:
    """Return the URL of a database of this test's own with three migrated schemas."""
    name = f"assessments_{uuid4().hex}"
    await execute(server, f"CREATE DATABASE {name} TEMPLATE {schools_template}")
    yield database_url(server, name)
    await execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def tenants(schools: str) -> AsyncIterator[dict[str, Connection]]:
    """Return a connection to each school, which holds a scored response of a user's and a token's.

    Their ids are the same in each school, and texts and scores hold its name.
    """
    async with AsyncExitStack() as stack:
        opened = {}
        for school in SCHOOLS:
            path = {"search_path": f"{school}, pg_temp"}
            conn = opened[school] = await asyncpg.connect(schools, server_settings=path)
            stack.push_async_callback(conn.close)
            user_id, text = await new_user(conn), {"answer_text": school}
            scored = await submit(conn, "q2", user_id=user_id, **text)
            await submit(conn, anonymous_token=TOKEN, **text)
            await assessments.backoffice.record_score(
                conn, response_id=scored["response_id"], score_data={"by": school}
            )
        yield opened


async def test_a_submission_is_seen_in_its_own_school_only(tenants: dict[str, Connection]) -> None:
    """The same token names another owner in each school."""
    await submit(tenants["school_2"], "new", anonymous_token=TOKEN)

    seen = {
        school: [
            row["question_id"]
            for row in await assessments.get_responses(conn, anonymous_token=TOKEN)
        ]
        for school, conn in tenants.items()
    }
    assert seen == {"school_1": ["q1"], "school_2": ["new", "q1"], "school_3": ["q1"]}


async def test_no_call_reads_or_changes_another_school(tenants: dict[str, Connection]) -> None:
    """Every function, claims and erasures among them, stays in the school that it is called in."""
    mine, others = tenants["school_2"], ("school_1", "school_3")
    before = {school: await content(tenants[school]) for school in others}

    for name, call in catalogue(Subject(text="school_2")).items():
        undone = mine.transaction()
        await undone.start()
        result = await call(mine)
        assert result > 0 if isinstance(result, int) else "school_2" in repr(result), name
        for school in others:
            assert school not in repr(result), name
            await mine.execute(f"SET LOCAL search_path = {school}, pg_temp")
            assert await content(mine) == before[school], name
        await undone.rollback()


@pytest.mark.usefixtures("tenants")
async def test_an_export_keeps_its_users_out_of_another_school(
    schools: str, tmp_path: Path
) -> None:
    """User 1 of one school is not user 1 of the next: such responses are refused, as elsewhere."""
    sign = "&" if "?" in schools else "?"
    first, second = (f"{schools}{sign}search_path={school},pg_temp" for school in SCHOOLS[:2])
    path = tmp_path / "school_1.jsonl"
    assert run("export", "--database", first, "--output", path).returncode == 0

    refused = run("import", "--database", second, path)
    again = run("import", "--database", first, path)

    assert (refused.returncode, again.returncode) == (1, 0)
    assert b"--map-users" in refused.stderr


async def test_dropping_a_school_leaves_the_others(tenants: dict[str, Connection]) -> None:
    """DROP SCHEMA … CASCADE removes all of a school and nothing else."""
    gone = tenants.pop("school_2")
    before = [await content(conn) for conn in tenants.values()]
    await gone.execute("DROP SCHEMA school_2 CASCADE")

    assert [await content(conn) for conn in tenants.values()] == before
    for conn in tenants.values():
        await submit(conn, anonymous_token=TOKEN)
    assert await gone.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'school_2'") == 0
    with pytest.raises(asyncpg.UndefinedTableError):
        await submit(gone, anonymous_token=TOKEN)


async def test_the_loop_names_the_schools_that_failed(schools: str) -> None:
    """One school's failure stops no other's migration, and the loop may be run again."""
    await execute(schools, "CREATE SCHEMA school_5")
    status, output = await apply(schools, "school_1", "school_4", "school_5")

    assert status == 1
    assert output.endswith("failed: school_4\n")
    conn = await asyncpg.connect(schools)
    applied = await conn.fetch("SELECT migration_id FROM school_5._yoyo_migration")
    assert {name for (name,) in applied} > set(IDS)
    await conn.execute("CREATE SCHEMA school_4")
    assert (await apply(schools, "school_1", "school_4", "school_5"))[0] == 0
    assert await conn.fetchval("SELECT count(*) FROM school_4.assessment_responses") == 0
    await conn.close()


@pytest.fixture
def pooled(schools: str) -> Iterator[str]:
    """Return the URL of the database behind a transaction-mode pooler."""
    if pgbouncer.binary() is None:
        pytest.skip("PgBouncer is not installed (apt install pgbouncer)")
    with pgbouncer.running(schools) as url:
        yield url


async def test_set_local_finds_the_school_behind_a_pooler(
    tenants: dict[str, Connection], pooled: str
) -> None:
    """Transactions of all schools on the same server connections each stay in their own."""

    async def visit(pool: asyncpg.Pool[Any], school: str) -> None:
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute(f"SET LOCAL search_path = {school}, pg_temp")
            await submit(conn, answer_text=school, anonymous_token=TOKEN)
            for row in await assessments.get_responses(conn, anonymous_token=TOKEN):
                assert row["answer_text"] == school

    async with assessments.create_pool(pooled, pooler="transaction", max_size=12) as pool:
        await asyncio.gather(*(visit(pool, school) for school in SCHOOLS * 20))
        with pytest.raises(asyncpg.UndefinedTableError):
            await submit(pool, anonymous_token=TOKEN)
    for conn in tenants.values():
        assert len(await assessments.get_responses(conn, anonymous_token=TOKEN)) == 21


async def test_a_role_finds_its_school_behind_a_pooler(
    tenants: dict[str, Connection], schools: str
) -> None:
    """The search_path of a role needs no statement of the client's, and its rights end there."""
    if pgbouncer.binary() is None:
        pytest.skip("PgBouncer is not installed (apt install pgbouncer)")
    admin, role = tenants["school_2"], f"r{uuid4().hex}"
    if not await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        pytest.skip("creating a role that logs in takes a superuser")
    await admin.execute(
        f"CREATE ROLE {role} LOGIN; ALTER ROLE {role} SET search_path = school_2, pg_temp;"
        f"GRANT USAGE ON SCHEMA school_2 TO {role};"
        f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA school_2 TO {role}"
    )
    parts = urlsplit(schools)
    url = parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
    try:
        with pgbouncer.running(url) as behind:
            async with assessments.create_pool(behind, pooler="transaction") as pool:
                (row,) = await assessments.get_responses(pool, anonymous_token=TOKEN)
                assert row["answer_text"] == "school_2"
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await pool.fetch("SELECT FROM school_1.assessment_responses")
    finally:
        await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_url_names_the_school_only_without_a_pooler(
    tenants: dict[str, Connection], schools: str, pooled: str
) -> None:
    """PgBouncer refuses the search_path of a URL instead of ignoring it."""
    setting = "search_path=school_2,pg_temp"
    direct = f"{schools}{'&' if '?' in schools else '?'}{setting}"
    async with assessments.create_pool(direct) as pool:
        assert await assessments.get_responses(pool, anonymous_token=TOKEN) == (
            await assessments.get_responses(tenants["school_2"], anonymous_token=TOKEN)
        )

    with pytest.raises(asyncpg.ProtocolViolationError, match="search_path"):
        await assessments.create_pool(f"{pooled}&{setting}")
