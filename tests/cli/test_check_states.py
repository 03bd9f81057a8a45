"""The verdict, exit status and time of ``assessments check`` in each state of a database."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

import assessments
from assessments.queries import promised_indexes
from assessments.testing import migrations, server
from tests.helpers import pgbouncer, plans
from tests.helpers.cluster import Cluster
from tests.helpers.commands import run
from tests.helpers.rows import new_user, submit
from tests.helpers.servers import database_url
from tests.helpers.yoyo import IDS, MIGRATIONS, migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    Figures = Callable[..., None]

PATH = "search_path=public,pg_temp"
INDEX = "idx_assessment_responses_anon"
INVALIDATE = "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = '{}'::regclass"


@dataclass(frozen=True)
class Verdict:
    """What a run of the command printed, without what is ok, and its exit status."""

    status: int
    found: dict[tuple[str, str], dict[str, Any]]
    errors: str


@pytest.fixture
def check(figures: Figures) -> Callable[..., Verdict]:
    """Return what runs the command, with no traceback, and adds its time to the run's figures.

    The start of Python is not in it.
    """

    def checked(state: str, url: str, *options: str) -> Verdict:
        start = perf_counter()
        done = run("check", "--database", url, "--json", *options)
        seconds = perf_counter() - start
        errors = done.stderr.decode()
        assert "Traceback" not in errors
        assert errors.count("\n") == (done.returncode != 0) or done.returncode == 2
        document = json.loads(done.stdout or b'{"findings": []}')
        found = {
            (each["subject"], each["level"]): each
            for each in document["findings"]
            if each["level"] != "ok"
        }
        verdict = ", ".join(f"{level} {subject}" for subject, level in found) or "no finding"
        figures(
            f"check, {state}",
            status=str(done.returncode),
            seconds=f"{seconds:.2f}",
            verdict=verdict if done.stdout else errors.splitlines()[-1][:60],
        )
        return Verdict(done.returncode, found, errors)

    return checked


def on_path(url: str, **changes: str) -> str:
    """Return *url* with the search_path of the documentation, and other parts changed."""
    parts = urlsplit(url)
    query = f"{parts.query}{'&' if parts.query else ''}{PATH}"
    return parts._replace(query=query, **changes).geturl()


async def test_a_good_database(database: str, check: Callable[..., Verdict]) -> None:
    """Status 0 and no finding, with --strict too."""
    assert check("good", on_path(database)) == Verdict(0, {}, "")
    assert check("good, --strict", on_path(database), "--strict") == Verdict(0, {}, "")


async def test_postgresql_s_own_search_path(database: str, check: Callable[..., Verdict]) -> None:
    """One quiet note, also with --strict."""
    verdict = check("PostgreSQL's own search_path, --strict", database, "--strict")

    assert (verdict.status, [*verdict.found]) == (0, [("search_path", "note")])


@pytest.mark.parametrize("behind", [1, 3])  # an index differs, and one is not there yet
async def test_some_migrations_behind(
    database: str, check: Callable[..., Verdict], behind: int
) -> None:
    """Status 1; the only finding says how many are missing, which, and what to do."""
    await migrate("rollback --revision " + IDS[-behind], database)

    verdict = check(f"{behind} behind", on_path(database))

    assert verdict.status == 1
    assert [*verdict.found] == [("migrations", "error")]
    found = verdict.found["migrations", "error"]
    missing = ", ".join(IDS[-behind:])
    assert found["message"] == f"migrations: {behind} of {len(IDS)} not applied: {missing}"
    assert found["remedy"].startswith("apply the migrations")


@pytest.mark.parametrize(
    "case",
    [
        (
            "missing",
            f"DROP INDEX {INDEX}",
            "build it CONCURRENTLY, as in migrations/assessments-0001-responses.sql",
        ),
        ("not valid", INVALIDATE.format(INDEX), f"REINDEX INDEX CONCURRENTLY {INDEX}"),
    ],
)
async def test_an_index_missing_or_invalid(
    database: str,
    conn: asyncpg.Connection[Any],
    check: Callable[..., Verdict],
    case: tuple[str, str, str],
) -> None:
    """A warning names the queries that promise it: status 0, with --strict 1."""
    state, statement, remedy = case
    await conn.execute(statement)

    verdict = check(f"index {state}", on_path(database))
    strict = check(f"index {state}, --strict", on_path(database), "--strict")

    assert (verdict.status, strict.status, strict.found) == (0, 1, verdict.found)
    ((subject, found),) = verdict.found.items()
    assert subject == ("indexes", "warning")
    assert found["message"] == f"index {INDEX} is {state}"
    assert found["remedy"] == remedy
    assert {"get_responses", "delete_responses"} <= {*found["queries"]}
    assert all(INDEX in promised_indexes(name) for name in found["queries"])
    assert strict.errors.endswith(": with --strict a warning counts\n")


UNUSED = "enable_indexscan=off&enable_indexonlyscan=off&enable_bitmapscan=off"


async def test_a_promised_index_that_the_plans_do_not_use(
    database: str, conn: asyncpg.Connection[Any], check: Callable[..., Verdict]
) -> None:
    """A note on a large table, with the queries; nothing on a small one, where it means nothing."""
    url = f"{on_path(database)}&{UNUSED}"
    small = check("promised index not used, small tables", url)
    await plans.load(conn)
    await conn.execute("ALTER TABLE assessment_responses RESET (autovacuum_enabled)")
    await conn.execute("ALTER TABLE assessment_scores SET (autovacuum_enabled = on)")

    kept = check("60,000 responses", on_path(database))
    large = check("promised index not used, large tables", url)

    assert small == kept == Verdict(0, {}, "")
    assert large.status == 0
    assert [*large.found] == [("plans", "note")]
    assert large.found["plans", "note"]["queries"]


async def test_a_database_of_one_row(
    database: str, conn: asyncpg.Connection[Any], check: Callable[..., Verdict]
) -> None:
    """No false alarm of a plan, analysed or not."""
    await submit(conn, user_id=await new_user(conn))
    assert check("one row", on_path(database), "--strict") == Verdict(0, {}, "")
    await conn.execute("ANALYZE")
    assert check("one row, analysed", on_path(database), "--strict") == Verdict(0, {}, "")


@pytest.fixture
async def role(database: str, conn: asyncpg.Connection[Any]) -> AsyncIterator[str]:
    """Return a role that may log in and has no rights."""
    if urlsplit(database).password:
        pytest.skip("this server asks the role for a password")
    name = f"r{uuid4().hex}"
    await conn.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    await conn.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def as_user(url: str, name: str) -> str:
    """Return *url* with another user."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return on_path(url, netloc=f"{name}@{host}")


async def test_a_role_without_rights(
    database: str, role: str, check: Callable[..., Verdict]
) -> None:
    """Status 1: it may run no query."""
    verdict = check("role without rights", as_user(database, role))

    assert verdict.status == 1
    assert verdict.found["rights", "error"]["message"] == "rights: this role may run no query"


async def test_a_role_with_the_rights_for_some_queries(
    database: str, conn: asyncpg.Connection[Any], role: str, check: Callable[..., Verdict]
) -> None:
    """A note names the others: status 0, with --strict too."""
    await conn.execute(f"GRANT SELECT ON assessment_responses, assessment_scores TO {role}")

    verdict = check("role with some rights, --strict", as_user(database, role), "--strict")

    assert verdict.status == 0
    denied = verdict.found["rights", "note"]
    assert {"submit_response", "record_score"} <= {*denied["queries"]}
    assert denied["message"] == f"rights: {len(denied['queries'])} queries are not for this role"


@pytest.mark.skipif(pgbouncer.binary() is None, reason="PgBouncer is not installed")
async def test_a_pooler(server: str, database: str, check: Callable[..., Verdict]) -> None:
    """A note for the command, which caches no statement; a warning for a pool that does."""
    with pgbouncer.running(server, default_pool_size=2) as url:
        pooled = urlsplit(url)._replace(path=urlsplit(database).path).geturl()
        verdict = check("pooler", pooled)
        caching: asyncpg.Connection[Any] = await asyncpg.connect(pooled)
        trap = [each for each in await assessments.check(caching) if each.subject == "pooler"]
        await caching.close()

    assert verdict.status == 0
    assert ("pooler", "note") in verdict.found
    assert [each.level for each in trap] == ["warning"]
    assert trap[0].remedy == 'open pools with pooler="transaction"'


async def test_a_read_only_session(database: str, check: Callable[..., Verdict]) -> None:
    """Status 1: nothing can be stored."""
    verdict = check("read-only", f"{on_path(database)}&default_transaction_read_only=on")

    assert (verdict.status, [*verdict.found]) == (1, [("server", "error")])


@pytest.fixture(scope="module")
def standby(pytestconfig: pytest.Config) -> Iterator[str]:
    """Return the URL of a migrated standby."""
    choice = pytestconfig.getoption("--server")
    embedded = None if choice == "installed" else server.embedded_binaries()
    binaries = embedded or server.installed_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL on this machine to restart")
    with server.running(binaries) as url:
        migrations.apply(url)
        asyncio.run(Cluster(url).demote())
        yield url


def test_a_standby(standby: str, check: Callable[..., Verdict]) -> None:
    """Status 1; the error says that it is one."""
    verdict = check("standby", on_path(standby))

    assert (verdict.status, [*verdict.found]) == (1, [("server", "error")])
    found = verdict.found["server", "error"]
    assert found["message"] == "the session is read-only: the server is a standby"


LOCK = "INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now() AT TIME ZONE 'UTC', 4711)"


async def test_a_killed_deploy_s_lock(
    database: str, server: str, role: str, check: Callable[..., Verdict]
) -> None:
    """A warning with the process and the remedy; a note while a session may be the deploy's."""
    owner = await asyncpg.connect(database)
    await owner.execute(f"ALTER TABLE yoyo_lock OWNER TO {role}; {LOCK}")
    await owner.close()
    deploy = await asyncpg.connect(database, server_settings={"application_name": "yoyo"})

    working = check("deploy at work", on_path(database))
    pid = deploy.get_server_pid()
    await deploy.close()
    administrator = await asyncpg.connect(server)
    while await administrator.fetch("SELECT FROM pg_stat_activity WHERE pid = $1", pid):
        await asyncio.sleep(0.01)
    await administrator.close()
    killed = check("killed deploy's lock", on_path(database))

    assert (working.status, [*working.found]) == (0, [("deploy", "note")])
    assert working.found["deploy", "note"]["message"].endswith(f"session {pid}")
    assert (killed.status, [*killed.found]) == (0, [("deploy", "warning")])
    found = killed.found["deploy", "warning"]
    assert re.match(
        r"deploy: yoyo_lock is held since \S+ \S+ UTC by process 4711,", found["message"]
    )
    assert found["remedy"].startswith("`yoyo break-lock`")


async def test_a_deploy_that_was_killed(
    database: str,
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    check: Callable[..., Verdict],
) -> None:
    """While its session works on, a note names it; then a warning says to break the lock."""
    await migrate("rollback --revision " + IDS[-1], database)
    yoyo = (sys.executable, "-m", "yoyo", "apply", "--no-config-file", "--batch")
    working = "SELECT pid FROM pg_stat_activity WHERE application_name = 'yoyo' AND datname = $1"
    name = await conn.fetchval("SELECT current_database()")
    await conn.execute("BEGIN; LOCK TABLE assessment_responses IN SHARE UPDATE EXCLUSIVE MODE")
    process = await asyncio.create_subprocess_exec(
        *yoyo, "--database", database, MIGRATIONS, env=os.environ | {"PGAPPNAME": "yoyo"}
    )
    while not await other.fetch(f"{working} AND wait_event_type = 'Lock'", name):
        await asyncio.sleep(0.02)
    process.kill()
    await process.wait()
    pid = await other.fetchval(working, name)
    left = await asyncio.to_thread(check, "deploy killed, its session left", on_path(database))
    await other.fetch("SELECT pg_terminate_backend($1, 10000)", pid)
    await conn.execute("COMMIT")

    verdict = await asyncio.to_thread(check, "deploy killed", on_path(database))

    assert left.found["deploy", "note"]["message"].endswith(f"session {pid}")
    assert (verdict.status, ("migrations", "error") in verdict.found) == (1, True)
    message = verdict.found["deploy", "warning"]["message"]
    assert f" by process {process.pid}, and its own can only be session " in message


async def test_an_older_session_of_the_deploying_role_may_hold_the_lock(
    database: str, role: str, conn: asyncpg.Connection[Any], check: Callable[..., Verdict]
) -> None:
    """Without its name a deploy's session is known by its role and by being older than the lock."""
    early = await asyncpg.connect(as_user(database, role))
    await conn.execute(f"ALTER TABLE yoyo_lock OWNER TO {role}; {LOCK}")
    late = await asyncpg.connect(as_user(database, role))

    verdict = check("deploy at work, not named", on_path(database))

    await late.close()
    message = verdict.found["deploy", "warning"]["message"]
    assert message.endswith(f"its own can only be session {early.get_server_pid()}")
    await early.close()


async def test_settings_that_let_tables_rot(
    database: str, conn: asyncpg.Connection[Any], check: Callable[..., Verdict]
) -> None:
    """Autovacuum off and an identity column near its end are warnings with their remedies."""
    for _ in range(2):
        await submit(conn, user_id=await new_user(conn))
    await conn.execute(
        "ALTER TABLE assessment_scores SET (autovacuum_enabled = off);"
        "ALTER TABLE assessment_responses ALTER response_id SET MAXVALUE 3"
    )

    verdict = check("autovacuum off, identity near its end", on_path(database))

    assert verdict.status == 0
    vacuum, identity = (verdict.found[each, "warning"] for each in ("settings", "identity"))
    assert vacuum["message"] == "autovacuum is off for assessment_scores"
    assert identity["message"] == "response_id of assessment_responses has used 67% of its range"
    await conn.execute(vacuum["remedy"])
    await conn.execute(identity["remedy"])
    assert check("the same, mended", on_path(database)) == Verdict(0, {}, "")


@pytest.mark.parametrize(
    ("state", "url", "status"),
    [
        ("no server", "postgresql://u:hunter2@127.0.0.1:1/d", 3),
        ("malformed URL", "postgresql:/u:hunter2@h/d", 2),
        ("URL of another system", "mysql://u:hunter2@h/d", 2),
    ],
)
def test_no_server_and_a_wrong_url(
    state: str, url: str, status: int, check: Callable[..., Verdict]
) -> None:
    """3 where there is no server, 2 where there is no URL; the password is not printed."""
    verdict = check(state, url)

    assert (verdict.status, verdict.found) == (status, {})
    assert "hunter2" not in verdict.errors


async def test_an_unknown_role_and_database(
    server: str, database: str, check: Callable[..., Verdict]
) -> None:
    """Status 3: there is no connection."""
    nobody = check("unknown role", as_user(database, "nobody_knows"))
    nowhere = check("unknown database", on_path(database_url(server, "nowhere")))

    assert (nobody.status, nowhere.status) == (3, 3)
    assert 'database "nowhere" does not exist' in nowhere.errors


def test_a_url_without_its_option_is_not_printed() -> None:
    """It is wrong usage, and the password stays with its user."""
    done = run("check", "postgresql://u:hunter2@h/d")

    assert done.returncode == 2
    assert b"hunter2" not in done.stdout + done.stderr


async def test_the_document_holds_every_finding(database: str) -> None:
    """--json prints one object: what it is, of which version, the verdict, and the findings."""
    done = await asyncio.to_thread(run, "check", "--database", database, "--json")

    document = json.loads(done.stdout)
    assert (document["format"], document["format_version"]) == ("assessments check", 1)
    assert document.keys() == {
        *("format", "format_version", "made_at", "assessments_version", "is_fit", "findings")
    }
    assert document["is_fit"] is True
    keys = {"subject", "level", "message", "effect", "queries", "remedy"}
    assert [each.keys() for each in document["findings"]] == [keys] * len(document["findings"])
