"""docs/operating.md: its blocks run, and what it says of read-only sessions and copies holds."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg
import pytest

import assessments
from assessments import backoffice
from assessments.testing import migrations, server
from tests.helpers import pages, programs
from tests.helpers.calls import FUNCTIONS, Subject, catalogue
from tests.helpers.cluster import Cluster
from tests.helpers.commands import content, run
from tests.helpers.rows import ids, new_user, questions, submit
from tests.helpers.servers import database_url
from tests.helpers.yoyo import IDS, schema, yoyo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    Connection = asyncpg.Connection[Any]

PAGE = "docs/operating.md"
TOKEN, OTHER_TOKEN, KEY = UUID(int=1), UUID(int=2), UUID(int=3)
CALLS = catalogue(Subject(writer={"anonymous_token": TOKEN}))
DRY_RUNS = {name for name, call in CALLS.items() if "dry_run" in call.arguments}


async def shell(block: str, folder: Path, **environment: str) -> tuple[int, str]:
    """Run *block* in *folder*; return its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", block),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(pages.ROOT)} | environment,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def paths(conn: Connection) -> str:
    """Return a PATH that finds this Python and the server's own programs."""
    binaries = await conn.fetchval("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
    if not os.access(f"{binaries}/pg_dump", os.X_OK):
        pytest.skip("the server's programs are not on this machine")
    return f"{os.path.dirname(sys.executable)}:{binaries}:{os.environ['PATH']}"  # noqa: PTH120


async def store_some(conn: Connection) -> int:
    """Store scored responses of a user and of two anonymous owners; return the user's id."""
    user_id = await new_user(conn)
    anonymous = [{"anonymous_token": token} for token in (TOKEN, OTHER_TOKEN)]
    owners: list[dict[str, Any]] = [{"user_id": user_id}, *anonymous]
    for number, owner in enumerate(owners):
        stored = await submit(conn, f"q{number}", **owner, answer_metadata={"é": [1.0]})
        points, key = {"points": number}, stored["response_id"]
        await backoffice.record_score(conn, response_id=key, score_data=points, model_id="m")
    return user_id


def raising_functions() -> set[str]:
    """Return the functions of which the page says that they raise in a read-only session."""
    (row,) = re.findall(r"^\| raise [^|]*\|([^|]*)\|", pages.read(PAGE), re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row))


async def test_in_a_read_only_session_reads_work_and_nothing_else(
    conn: Connection, other: Connection
) -> None:
    """As the page lists: the rest raise PostgreSQL's error, and the connection stays usable."""
    await store_some(other)
    before = await content(other)
    await conn.execute("SET default_transaction_read_only = on")
    works, refused = set(), set()
    for call in CALLS.values():
        try:
            await call(conn)
            works.add(call.function)
        except asyncpg.ReadOnlySQLTransactionError:
            refused.add(call.function)
        assert not conn.is_in_transaction()
        assert len(await assessments.get_responses(conn, user_id=1)) == 1

    assert refused == raising_functions()
    assert works == FUNCTIONS.keys() - refused
    assert {name.rpartition(".")[2].partition("_")[0] for name in works} == {"get", "iter"}
    assert {await CALLS[name](conn, dry_run=True) for name in DRY_RUNS} == {2, 3}
    assert await content(other) == before


async def test_a_claim_on_a_standby_leaves_the_caller_s_transaction_usable(
    conn: Connection,
) -> None:
    """What runs in an atomic block of its own rolls back to its savepoint."""
    await store_some(conn)
    async with conn.transaction(readonly=True):
        for name in (
            "claim_assessment_responses",
            "record_score_once",
            "submit_responses with keys",
        ):
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await CALLS[name](conn)
            assert len(await assessments.get_responses(conn, anonymous_token=TOKEN)) == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("explain",), 0),
        (("export",), 0),
        (("report", "--output", "report.html"), 0),
        (("purge", "--older-than", "1h"), 0),
        (("purge", "--older-than", "1h", "--all-owners"), 0),
        (("purge", "--older-than", "1h", "--yes"), 1),
        (("import",), 1),
        (("check",), 1),
    ],
)
async def test_in_a_read_only_session_these_commands_work(
    conn: Connection, database: str, tmp_path: Path, arguments: tuple[str, ...], status: int
) -> None:
    """Those that read do, and the others end with 1 and without a traceback."""
    await store_some(conn)
    exported = await asyncio.to_thread(run, "export", "--database", database)
    mark = "&" if "?" in database else "?"
    url = f"{database}{mark}default_transaction_read_only=on"
    name, *others = (str(tmp_path / each) if ".html" in each else each for each in arguments)

    done = await asyncio.to_thread(run, name, "--database", url, *others, given=exported.stdout)

    assert done.returncode == status, done.stderr
    assert b"Traceback" not in done.stderr


async def test_what_is_purged_is_in_the_archive(
    conn: Connection, database: str, tmp_path: Path
) -> None:
    """The block under Archiving purges what it exported, which an import brings back whole."""
    await store_some(conn)
    for response_id, days in ((1, 1098), (2, 1098), (3, 1096)):
        await conn.execute(
            "UPDATE assessment_responses SET created_at = now() - $2::interval"
            " WHERE response_id = $1",
            *(response_id, timedelta(days=days)),
        )
    await submit(conn, "young", anonymous_token=TOKEN)
    before = await content(conn)
    (block,) = pages.blocks(PAGE, "sh", "Archiving")

    status, printed = await shell(block, tmp_path, DATABASE_URL=database, PATH=await paths(conn))

    assert status == 0, printed
    assert "Erased 2 responses older than 1,097 days" in printed
    assert questions(row for row, _ in await content(conn)) == ["q2", "young"]
    lines = (tmp_path / "archive.jsonl").read_bytes()
    assert len(lines.splitlines()) == 3
    done = await asyncio.to_thread(run, "import", "--database", database, given=lines)
    assert done.returncode == 0, done.stderr
    by_question = {row["question_id"]: (row, scores) for row, scores in await content(conn)}
    assert [by_question[row["question_id"]] for row, _ in before] == before


async def test_an_archive_that_is_out_of_date_is_not_followed_by_a_purge(
    conn: Connection, database: str, tmp_path: Path
) -> None:
    """A score recorded between the two exports makes the block fail, and nothing is erased."""
    await store_some(conn)
    await conn.execute("UPDATE assessment_responses SET created_at = now() - interval '9 years'")
    (block,) = pages.blocks(PAGE, "sh", "Archiving")
    scoring = 'psql --quiet "$DATABASE_URL" --command "$SCORING" &&\n'
    first, second, *rest = re.split(r"(?<=&&)\n", block)

    status, printed = await shell(
        "\n".join([first, scoring + second, *rest]),
        tmp_path,
        DATABASE_URL=database,
        PATH=await paths(conn),
        SCORING="INSERT INTO assessment_scores (response_id, score_data) VALUES (1, '{}')",
    )

    assert status == 1, printed
    assert len(await content(conn)) == 3


async def test_a_restored_dump_is_the_same_database(
    conn: Connection, database: str, empty: Connection, empty_database: str, tmp_path: Path
) -> None:
    """Check says ok, rows and schema are equal, no migration is due, and ids go on."""
    await store_some(conn)
    keyed: dict[str, Any] = {"submission_key": KEY, "anonymous_token": TOKEN}
    stored = await submit(conn, **keyed)
    (block,) = pages.blocks(PAGE, "sh", "Dump and restore")

    urls = {"DATABASE_URL": database, "OTHER_URL": empty_database}
    status, printed = await shell(block, tmp_path, **urls, PATH=await paths(conn))

    assert status == 0, printed
    assert re.search(rf"^ok +migrations: all {len(IDS)} are applied$", printed, re.MULTILINE)
    assert await content(empty) == await content(conn)
    assert await schema(empty) == await schema(conn)
    applied = await yoyo("apply -vv", empty_database)
    assert applied.returncode == 0, applied.stderr
    assert "Applying" not in applied.stderr
    assert await submit(empty, **keyed) == stored
    assert (await submit(empty, anonymous_token=TOKEN))["response_id"] > stored["response_id"]


@pytest.fixture(scope="module")
def publisher(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """Return a server with ``wal_level = logical`` and a migrated database."""
    choice = pytestconfig.getoption("--server")
    embedded = None if choice == "installed" else server.embedded_binaries()
    binaries = embedded or server.installed_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL on this machine to restart")
    with server.running(binaries) as url:
        cluster = Cluster(url)
        asyncio.run(cluster.fetch("ALTER SYSTEM SET wal_level = logical"))
        asyncio.run(cluster.restart())
        migrations.apply(url)
        yield cluster


@pytest.fixture
async def published(publisher: Cluster) -> AsyncIterator[Connection]:
    """Return a connection to the database that is published."""
    conn = await asyncpg.connect(publisher.url)
    yield conn
    await conn.close()


@pytest.fixture
async def subscribed(publisher: Cluster, published: Connection) -> AsyncIterator[Connection]:
    """Return a connection to a migrated database of the same server."""
    await published.execute("CREATE DATABASE subscriber")
    url = database_url(publisher.url, "subscriber")
    await asyncio.to_thread(migrations.apply, url)
    conn = await asyncpg.connect(url)
    yield conn
    await conn.close()


async def test_logical_replication_carries_every_call_and_survives_a_failover(
    published: Connection, subscribed: Connection, publisher: Cluster
) -> None:
    """Submissions, scores, claims, erasures and deleted users arrive; after setval ids go on."""
    publish, subscribe, fail_over = pages.blocks(PAGE, "sql", "Logical replication")
    (folder,) = parse_qs(urlsplit(publisher.url).query)["host"]
    here = f"CONNECTION 'host={folder} dbname=postgres user=postgres'"
    subscribe, replaced = re.subn(r"CONNECTION '[^']*'", here, subscribe)
    assert replaced == 1
    # Within one server the slot has to be there before the subscription.
    within = subscribe.replace(";", " WITH (create_slot = false);")
    await published.execute(publish)
    await store_some(published)
    await published.execute("SELECT pg_create_logical_replication_slot('assessments', 'pgoutput')")
    await subscribed.execute(within)

    async def same() -> bool:
        users = "SELECT user_id FROM users ORDER BY user_id"
        (one, ours), (another, theirs) = [
            (await conn.fetch(users), await content(conn)) for conn in (subscribed, published)
        ]
        return one == another and ours == theirs

    await programs.until(same)
    user_id = await store_some(published)
    claim: dict[str, Any] = {"anonymous_token": TOKEN, "user_id": user_id, "skip_answered": False}
    assert await assessments.claim_assessment_responses(published, **claim) == 2
    assert await assessments.delete_responses(published, anonymous_token=OTHER_TOKEN) == 2
    await published.execute("DELETE FROM users WHERE user_id = $1", await store_some(published))
    stored = await submit(published, "last", user_id=user_id)
    await programs.until(same)
    assert questions(row for row, _ in await content(published)) == [
        *("q0", "q1", "q0", "q1"),
        *("q1", "q2", "last"),
    ]

    with pytest.raises(asyncpg.UniqueViolationError):
        await submit(subscribed, "after", user_id=user_id)
    for statement in fail_over.split(";\n")[:-1]:  # the first runs in no transaction
        await subscribed.execute(statement)
    after = await submit(subscribed, "after", user_id=user_id)
    await backoffice.record_score(subscribed, response_id=after["response_id"], score_data={})

    assert after["response_id"] > stored["response_id"]
    read = await assessments.get_responses_with_latest_score(subscribed, user_id=user_id)
    assert ids(read)[:2] == [after["response_id"], stored["response_id"]]
    assert read[0]["latest_score"]


def test_every_file_that_the_page_names_exists() -> None:
    """The page links to files, and names commands and tests, that are in the tree."""
    text = pages.read(PAGE)
    links = re.findall(r"\]\(([^)#]+)", text)
    named = re.findall(r"`((?:tests|assessments|examples)/[\w./]+)`", text)

    assert links
    missing = [link for link in links if not (pages.ROOT / "docs" / link).exists()]
    assert missing + [path for path in named if not (pages.ROOT / path).exists()] == []
