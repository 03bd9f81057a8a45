"""Each role of docs/reviewing.md can do what the page says, and PostgreSQL refuses it the rest."""

from __future__ import annotations

import asyncio
import inspect
import re
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import backoffice
from assessments.queries import queries
from tests.helpers.commands import content, run
from tests.helpers.plans import PLANS, plan_of
from tests.helpers.rows import SECRET, submit
from tests.helpers.servers import database_url
from tests.helpers.yoyo import yoyo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Connection = asyncpg.Connection[Any]
    Act = Callable[[Connection], Awaitable[Any]]
    Login = Callable[[str], Awaitable[Connection]]

PAGE = Path(assessments.__file__).parent.parent / "docs" / "reviewing.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(heading: str) -> list[str]:
    """Return the blocks of SQL under *heading*."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sql\n(.*?)```", section, re.DOTALL)


CREATE_ROLES, ON_SCHEMA, ON_USERS, ON_TABLES = blocks("Rights")
CREATE_WORKER, POLICIES, IDENTIFY = blocks("Row-level security")

USER, STRANGER = 1, 2  # of the host's
TOKEN, OTHER_TOKEN = UUID(int=1), UUID(int=2)
RESPONSE, FOREIGN = 1, 2  # USER's with a score, STRANGER's with one
HOST = """
CREATE TABLE users (user_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text);
INSERT INTO users (email) VALUES ('a@example.org'), ('b@example.org');
"""
ROWS = f"""
INSERT INTO assessment_responses
    (user_id, anonymous_token, created_at, question_id, module_slug, answer_text)
VALUES
    ({USER}, NULL, now(), 'q1', 'm1', '{SECRET}'),
    ({STRANGER}, NULL, now(), 'q1', 'm1', '{SECRET}'),
    (NULL, '{TOKEN}', now() - interval '1 year', 'q2', 'm1', '{SECRET}'),
    (NULL, '{OTHER_TOKEN}', now() - interval '1 year', 'q2', 'm1', '{SECRET}');
INSERT INTO assessment_scores (response_id, score_data)
SELECT response_id, '{{"points": 1}}' FROM assessment_responses;
"""  # noqa: S608 - constants


class Site:
    """Roles of this run's own on a server, and whom the page's SQL calls by which name."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.suffix = uuid4().hex[:12]
        self.roles = [*re.findall(r"CREATE ROLE assessments_(\w+)", TEXT), "host"]

    def named(self, sql: str) -> str:
        """Return the page's *sql* with the names of this run's roles."""
        return re.sub(rf"\bassessments_({'|'.join(self.roles)})\b", rf"\g<0>_{self.suffix}", sql)

    def url(self, database: str, role: str) -> str:
        """Return the URL by which *role* logs in to *database*; ``admin`` is whoever we are."""
        url = database_url(self.server, database)
        if role == "admin":
            return url
        parts = urlsplit(url)
        user = self.named(f"assessments_{role}")
        netloc = f"{user}:{self.suffix}@{parts.netloc.rpartition('@')[2]}"
        return parts._replace(netloc=netloc).geturl()

    async def execute(self, database: str, role: str, sql: str) -> None:
        """Run the page's *sql* on *database* as *role*."""
        conn = await asyncpg.connect(self.url(database, role))
        try:
            await conn.execute(self.named(sql))
        finally:
            await conn.close()

    async def administer(self, sql: str) -> None:
        """Run the page's *sql*, which is about roles and databases."""
        await self.execute(urlsplit(self.server).path[1:], "admin", sql)


@pytest.fixture(scope="module")
def site(server: str) -> Iterator[Site]:
    """Return the roles that the page makes, and one that owns the host's ``users``."""
    made = Site(server)
    if not asyncio.run(is_superuser(server)):
        pytest.skip("making roles and acting for them takes a superuser")
    roles = [f"assessments_{role}" for role in made.roles]
    passwords = "".join(f"ALTER ROLE {role} PASSWORD '{made.suffix}';" for role in roles)
    try:
        asyncio.run(made.administer(f"{CREATE_ROLES}{CREATE_WORKER}CREATE ROLE {roles[-1]} LOGIN;"))
        asyncio.run(made.administer(passwords))
        yield made
    finally:
        asyncio.run(made.administer(f"DROP ROLE IF EXISTS {', '.join(roles)}"))


async def is_superuser(server: str) -> bool:
    """Say whether whoever runs the tests may do everything on *server*."""
    conn = await asyncpg.connect(server)
    try:
        return bool(await conn.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = user"))
    finally:
        await conn.close()


@pytest.fixture(scope="module")
def governed_template(site: Site) -> Iterator[str]:
    """Return a database set up by the page's rights alone, each part by whom the page says."""
    name = f"assessments_{uuid4().hex}"

    async def set_up() -> None:
        await site.administer(f"CREATE DATABASE {name}")
        await site.execute(name, "admin", "GRANT CREATE ON SCHEMA public TO assessments_host")
        await site.execute(name, "host", HOST)
        await site.execute(name, "admin", ON_SCHEMA)
        await site.execute(name, "host", ON_USERS)
        done = await yoyo("apply", site.url(name, "owner"))
        assert done.returncode == 0, done.stderr
        await site.execute(name, "owner", ON_TABLES + ROWS)

    try:
        asyncio.run(set_up())
        yield name
    finally:
        asyncio.run(site.administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
async def governed(site: Site, governed_template: str) -> AsyncIterator[str]:
    """Return the name of a database of this test's own with the page's rights."""
    name = f"assessments_{uuid4().hex}"
    await site.administer(f"CREATE DATABASE {name} TEMPLATE {governed_template}")
    yield name
    await site.administer(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(site: Site, governed: str) -> str:
    """Return the URL by which the superuser, and so ``conn``, comes to that database."""
    return site.url(governed, "admin")


@pytest.fixture
async def login(site: Site, governed: str) -> AsyncIterator[Login]:
    """Return what logs in to that database as a role."""
    async with AsyncExitStack() as open_connections:

        async def log_in(role: str) -> Connection:
            conn = await asyncpg.connect(site.url(governed, role))
            open_connections.push_async_callback(conn.close)
            return conn

        yield log_in


async def refused(conn: Connection, act: Act) -> bool:
    """Say whether PostgreSQL refuses *act* for want of a right, and undo it."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        await act(conn)
    except asyncpg.InsufficientPrivilegeError:
        return True
    finally:
        await transaction.rollback()
    return False


def executing(sql: str) -> Act:
    """Return the act of running *sql*."""
    return lambda conn: conn.execute(sql)


async def walk(conn: Connection, **owner: Any) -> list[Any]:
    """Return what ``iter_responses`` yields."""
    return [row async for row in backoffice.iter_responses(conn, **owner)]


def a_response(**changes: Any) -> Any:
    """Return the arguments of a submit."""
    return {"question_id": "q", "module_slug": "m", "answer_text": SECRET, **changes}


CALLS: dict[str, Act] = {
    "submit_response": lambda c: assessments.submit_response(
        c, **a_response(user_id=USER, answer_metadata={"a": 1})
    ),
    "submit_response with a key": lambda c: assessments.submit_response(
        c, **a_response(user_id=USER, submission_key=UUID("5" * 32))
    ),
    "submit_responses": lambda c: assessments.submit_responses(
        c, [a_response(user_id=USER), a_response(anonymous_token=TOKEN)]
    ),
    "submit_responses with a key": lambda c: assessments.submit_responses(
        c, [a_response(anonymous_token=TOKEN, submission_key=UUID("5" * 32))]
    ),
    "get_responses": lambda c: assessments.get_responses(c, user_id=USER),
    "get_responses_for_question": lambda c: assessments.get_responses_for_question(
        c, user_id=USER, question_id="q1"
    ),
    "get_latest_responses": lambda c: assessments.get_latest_responses(c, user_id=USER),
    "get_responses_with_latest_score": lambda c: assessments.get_responses_with_latest_score(
        c, user_id=USER
    ),
    "get_scores": lambda c: assessments.get_scores(c, response_id=RESPONSE, user_id=USER),
    "claim_assessment_responses": lambda c: assessments.claim_assessment_responses(
        c, user_id=USER, anonymous_token=TOKEN
    ),
    "record_score": lambda c: backoffice.record_score(
        c, response_id=RESPONSE, score_data={}, model_id="m", prompt_version="p"
    ),
    "record_scores": lambda c: backoffice.record_scores(
        c, [{"response_id": RESPONSE, "score_data": {}}]
    ),
    "get_unscored_responses": lambda c: backoffice.get_unscored_responses(c, model_id="m"),
    "iter_responses": walk,
    "delete_responses": lambda c: assessments.delete_responses(c, user_id=USER),
    "purge_anonymous_responses": lambda c: backoffice.purge_anonymous_responses(
        c, older_than=timedelta(days=90)
    ),
}
ERASING = {"delete_responses", "purge_anonymous_responses"}
SUBMITTING = {name for name in CALLS if name.startswith("submit")}
READING = {name for name in CALLS if re.match("get|iter", name)}
RUNS = {
    "app": set(CALLS) - ERASING,
    "eraser": ERASING,
    "analyst": set(),
    "transfer": READING | SUBMITTING,
    "host": set(),
}


def test_no_function_is_forgotten() -> None:
    """Every coroutine that the library exports is called here, under every role."""
    public = {
        name
        for module in (assessments, backoffice)
        for name in module.__all__
        if inspect.iscoroutinefunction(getattr(module, name))
        or inspect.isasyncgenfunction(getattr(module, name))
    }

    assert {name.partition(" ")[0] for name in CALLS} == public


@pytest.mark.parametrize("role", RUNS)
async def test_a_role_runs_the_functions_that_are_its_and_no_other(login: Login, role: str) -> None:
    """Every function works under the roles that the page gives it to; others get a 42501."""
    conn = await login(role)

    assert {name for name, call in CALLS.items() if not await refused(conn, call)} == RUNS[role]


RESPONSES = [
    *("response_id", "user_id", "created_at", "anonymous_token", "content_id", "question_id"),
    *("module_slug", "learning_outcome_id", "answer_text", "answer_metadata", "submission_key"),
]
SCORES = ["score_id", "response_id", "created_at", "score_data", "model_id", "prompt_version"]
COLUMNS = {
    "assessment_responses": RESPONSES,
    "assessment_scores": SCORES,
    "users": ["user_id", "email"],
}
STATEMENTS = {
    "SELECT": "SELECT {column} FROM {table} WHERE false",
    "INSERT": "INSERT INTO {table} ({column}) OVERRIDING SYSTEM VALUE SELECT NULL WHERE false",
    "UPDATE": "UPDATE {table} SET {column} = DEFAULT WHERE false",
}


def on(privilege: str, table: str, columns: list[str]) -> set[tuple[str, str, str]]:
    """Return the right to do one thing to *columns*."""
    return {(privilege, table, column) for column in columns}


def without(columns: list[str], *names: str) -> list[str]:
    """Return *columns* but those named."""
    assert set(names) <= set(columns)
    return [column for column in columns if column not in names]


MAY = {
    "app": on("SELECT", "assessment_responses", RESPONSES)
    | on("INSERT", "assessment_responses", without(RESPONSES, "response_id", "created_at"))
    | on("UPDATE", "assessment_responses", ["user_id", "anonymous_token"])
    | on("SELECT", "assessment_scores", SCORES)
    | on("INSERT", "assessment_scores", without(SCORES, "score_id", "created_at"))
    | on("SELECT", "users", ["user_id"]),
    "eraser": on(
        "SELECT",
        "assessment_responses",
        ["response_id", "user_id", "anonymous_token", "created_at"],
    ),
    "analyst": on(
        "SELECT",
        "assessment_responses",
        without(RESPONSES, "anonymous_token", "answer_text", "answer_metadata", "submission_key"),
    )
    | on("SELECT", "assessment_scores", without(SCORES, "score_data")),
    "transfer": on("SELECT", "assessment_responses", RESPONSES)
    | on("INSERT", "assessment_responses", RESPONSES)
    | on("SELECT", "assessment_scores", SCORES)
    | on("INSERT", "assessment_scores", SCORES)
    | on("SELECT", "users", ["user_id"]),
    "host": {
        right for privilege in STATEMENTS for right in on(privilege, "users", COLUMNS["users"])
    },
}


async def test_no_column_is_forgotten(conn: Connection) -> None:
    """Every column of the tables is tried below."""
    rows = await conn.fetch(
        "SELECT attrelid::regclass::text, array_agg(attname::text ORDER BY attnum)"
        " FROM pg_attribute WHERE attrelid = ANY ($1::text[]::regclass[]) AND attnum > 0"
        " GROUP BY attrelid",
        list(COLUMNS),
    )

    assert {table: set(columns) for table, columns in rows} == {
        table: set(columns) for table, columns in COLUMNS.items()
    }


@pytest.mark.parametrize("role", MAY)
async def test_a_role_reads_and_writes_the_columns_that_are_its_and_no_other(
    login: Login, role: str
) -> None:
    """Every column is read, inserted and updated by the roles that may; others get a 42501."""
    conn = await login(role)
    allowed = set()
    for table, columns in COLUMNS.items():
        for privilege, statement in STATEMENTS.items():
            for column in columns:
                sql = statement.format(table=table, column=column)
                if not await refused(conn, executing(sql)):
                    allowed.add((privilege, table, column))

    assert allowed == MAY[role]


FORBIDDEN = [
    *(
        statement.format(table)
        for table in ("assessment_responses", "assessment_scores")
        for statement in (
            "TRUNCATE {} CASCADE",
            "ALTER TABLE {} ADD COLUMN more text",
            "ALTER TABLE {} DISABLE TRIGGER ALL",
            "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
            "DROP TABLE {} CASCADE",
            "CREATE INDEX ON {} (response_id)",
            "CREATE TRIGGER t BEFORE DELETE ON {} EXECUTE FUNCTION pg_catalog.now()",
            "CREATE RULE r AS ON INSERT TO {} DO INSTEAD NOTHING",
            "COMMENT ON TABLE {} IS 'mine'",
            "CREATE POLICY mine ON {} USING (true)",
        )
    ),
    "DELETE FROM assessment_scores",
    "SELECT nextval('assessment_responses_response_id_seq')",
    "SELECT setval('assessment_scores_score_id_seq', 1)",
    "DROP INDEX idx_assessment_responses_submission_key",
    "CREATE TABLE public.mine (id int)",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE SCHEMA mine",
    "DELETE FROM users",
    "UPDATE users SET user_id = DEFAULT",
    "SELECT user_id FROM users FOR KEY SHARE",
    "ALTER TABLE users ADD COLUMN more text",
    "SELECT * FROM _yoyo_log",
    "DELETE FROM _yoyo_migration",
    "DELETE FROM yoyo_lock",
    "SET session_replication_role = replica",  # which switches foreign keys off
]


@pytest.mark.parametrize("role", ["app", "eraser", "analyst", "transfer", "worker"])
async def test_no_role_but_the_owner_changes_what_there_is(login: Login, role: str) -> None:
    """No table, index, sequence, policy or user is changed or dropped by a role of the service."""
    conn = await login(role)

    assert [sql for sql in FORBIDDEN if not await refused(conn, executing(sql))] == []


APPLIED = "SELECT migration_id FROM _yoyo_migration"


@pytest.mark.parametrize(
    ("sql", "roles"),
    [
        ("DELETE FROM assessment_responses", ["eraser"]),
        ("LOCK TABLE assessment_responses", ["eraser"]),
        (APPLIED, ["app", "worker"]),
    ],
)
async def test_what_few_roles_may_do(login: Login, sql: str, roles: list[str]) -> None:
    """To delete, with the lock that comes with it, is for one; to see what is applied, for two."""
    everyone = ("app", "worker", "eraser", "analyst", "transfer", "host")

    assert [
        role for role in everyone if not await refused(await login(role), executing(sql))
    ] == roles


async def moved(conn: Connection) -> None:
    """Do what the two commands do: read everything, and store it again under new keys."""
    await walk(conn)
    (detail, *_) = await queries.export_details(conn, response_ids=[RESPONSE])
    one = a_response(user_id=USER, anonymous_token=None, learning_outcome_id=None, content_id=None)
    columns = {f"{name}s": [value] for name, value in one.items()}
    await queries.import_responses(
        conn,
        **columns,
        answer_metadatas=["{}"],
        submission_keys=[uuid4()],
        response_ids=[FOREIGN],
        created_ats=[detail["created_at"]],
        score_numbers=[1],
        score_datas=["{}"],
        score_model_ids=["m"],
        score_prompt_versions=["p"],
        score_created_ats=[detail["created_at"]],
    )


NEEDS: dict[str, list[Act]] = {
    "app": [*(CALLS[name] for name in sorted(RUNS["app"])), executing(APPLIED)],
    "eraser": [CALLS[name] for name in sorted(ERASING)],
    "transfer": [moved],
}


@pytest.mark.parametrize("role", NEEDS)
async def test_no_role_has_a_right_that_it_does_not_need(
    site: Site, conn: Connection, role: str
) -> None:
    """Without any one of its rights, a role is refused something that it is there for."""
    name = site.named(f"assessments_{role}")
    granted = await conn.fetch(
        """
        SELECT a.privilege_type, c.relname, '' AS column FROM pg_class AS c, aclexplode(relacl) AS a
        WHERE a.grantee = $1::text::regrole
        UNION ALL
        SELECT a.privilege_type, attrelid::regclass::text, format('(%I)', attname)
        FROM pg_attribute, aclexplode(attacl) AS a WHERE a.grantee = $1::text::regrole
        """,
        name,
    )

    async def is_idle(privilege: str, table: str, column: str) -> bool:
        async def work(conn: Connection) -> None:
            await conn.execute(f"RESET ROLE; REVOKE {privilege} {column} ON {table} FROM {name}")
            await conn.execute(f"SET LOCAL ROLE {name}")
            for act in NEEDS[role]:
                if await refused(conn, act):
                    raise asyncpg.InsufficientPrivilegeError

        return not await refused(conn, work)

    assert granted
    assert [right for right in granted if await is_idle(*right)] == []


async def test_the_commands_run_under_the_roles_for_them(
    site: Site, governed: str, conn: Connection
) -> None:
    """The commands do their work; under the service's role import is refused in one line."""

    async def command(role: str, *arguments: str, given: bytes = b"") -> Any:
        url = site.url(governed, role)
        return await asyncio.to_thread(run, *arguments, "--database", url, given=given)

    before = await content(conn)

    exported = await command("transfer", "export")
    await conn.execute("DELETE FROM assessment_responses")
    by_app = await command("app", "import", given=exported.stdout)
    by_transfer = await command("transfer", "import", given=exported.stdout)
    moved_back = await content(conn)
    purged = await command("eraser", "purge", "--older-than", "90d", "--yes")
    checked = await command("app", "check")

    assert by_app.returncode == 1
    assert by_app.stderr.startswith(b"PostgreSQL says: permission denied for table assessment_")
    assert b"imported 4 responses with 4 scores; 0 were already there" in by_transfer.stderr
    assert moved_back == before
    assert b"Erased 2 anonymous responses" in purged.stdout, purged.stderr
    assert checked.returncode == 0, checked.stdout
    assert re.search(rb"^ok +migrations: all \d+ are applied$", checked.stdout, re.MULTILINE)


async def test_what_the_analyst_may_not_read_is_not_in_the_statistics_either(
    login: Login, conn: Connection
) -> None:
    """Of the samples of values in pg_stats the analyst sees those of its own columns."""
    await conn.execute("ANALYZE")
    seen = await (await login("analyst")).fetch(
        "SELECT tablename::text, attname::text FROM pg_stats WHERE schemaname = 'public'"
    )

    assert {tuple(row) for row in seen} <= {(table, column) for _, table, column in MAY["analyst"]}
    assert ("assessment_responses", "question_id") in {tuple(row) for row in seen}


async def test_a_temporary_table_of_the_session_takes_no_table_s_place(
    login: Login, conn: Connection
) -> None:
    """Every role's search_path ends in pg_temp, so that a response goes to the real table."""
    app = await login("app")
    await app.execute("CREATE TEMPORARY TABLE assessment_responses (LIKE assessment_responses)")

    stored = await submit(app, user_id=USER)

    kept = "SELECT count(*) FROM assessment_responses WHERE response_id = $1"
    assert await conn.fetchval(kept, stored["response_id"]) == 1


async def test_every_role_has_the_search_path(site: Site, login: Login) -> None:
    """No role that the page makes is left without it."""
    for role in site.roles[:-1]:
        path = await (await login(role)).fetchval("SHOW search_path")
        assert path == "public, pg_temp", role


async def test_the_owner_migrates_and_owns_what_it_made(
    site: Site, governed: str, conn: Connection
) -> None:
    """Down and up again run under the owner's role, beside a users table of somebody else's."""
    url = site.url(governed, "owner")

    for direction in ("rollback --all", "apply"):
        done = await yoyo(direction, url)
        assert done.returncode == 0, done.stderr

    owners = await conn.fetch(
        "SELECT relname::text, relowner::regrole::text FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    ours = {table: owner for table, owner in owners if table != "users"}
    assert {"assessment_responses", "assessment_scores"} < set(ours)
    assert set(ours.values()) == {site.named("assessments_owner")}
    assert dict(owners)["users"] == site.named("assessments_host")


@pytest.mark.parametrize(
    ("missing", "by", "said"),
    [
        ("CREATE ON SCHEMA public", "admin", "permission denied for schema public"),
        ("REFERENCES (user_id) ON users", "host", "permission denied for table users"),
    ],
)
async def test_the_owner_needs_each_of_its_two_rights(
    site: Site, governed: str, missing: str, by: str, said: str
) -> None:
    """Without one of them apply fails, names what is missing, and leaves nothing of ours."""
    url = site.url(governed, "owner")
    assert (await yoyo("rollback --all", url)).returncode == 0
    await site.execute(governed, by, f"REVOKE {missing} FROM assessments_owner")

    done = await yoyo("apply", url)

    assert done.returncode != 0
    assert said in done.stderr


async def test_whoever_deletes_a_user_erases_what_is_theirs(login: Login, conn: Connection) -> None:
    """The host's DELETE takes responses and scores along without any right to them."""
    host = await login("host")

    assert await refused(host, executing("SELECT count(*) FROM assessment_responses"))
    await host.execute("DELETE FROM users WHERE user_id = $1", USER)

    left = "SELECT response_id FROM {} WHERE response_id = $1"
    for table in ("assessment_responses", "assessment_scores"):
        assert await conn.fetch(left.format(table), RESPONSE) == []
        assert len(await conn.fetch(left.format(table), FOREIGN)) == 1


@pytest.fixture
async def policed(site: Site, governed: str) -> str:
    """Return the name of that database with the page's policies."""
    await site.execute(governed, "owner", POLICIES)
    return governed


async def identify(conn: Connection, user_id: int | None = None, token: UUID | None = None) -> None:
    """Say on *conn*, for its transaction, who asks."""
    await conn.execute(IDENTIFY, str(user_id or ""), str(token or ""))


@pytest.mark.usefixtures("policed")
async def test_with_its_identities_the_service_does_all_it_does_for_a_person(login: Login) -> None:
    """Under the policies submit, read, claim and score give what they give without them."""
    app = await login("app")
    for call in RUNS["app"]:
        async with app.transaction():
            await identify(app, USER, TOKEN)
            assert not await refused(app, CALLS[call]), call

    async with app.transaction():
        await identify(app, USER, TOKEN)
        assert (
            await assessments.claim_assessment_responses(app, user_id=USER, anonymous_token=TOKEN)
            == 1
        )
        stored = await assessments.submit_response(
            app, **a_response(user_id=USER, submission_key=UUID("5" * 32))
        )
        again = await assessments.submit_response(
            app, **a_response(user_id=USER, submission_key=UUID("5" * 32))
        )
        assert again == stored
        await backoffice.record_score(app, response_id=stored["response_id"], score_data={})
        mine = await assessments.get_responses_with_latest_score(app, user_id=USER)
        assert [row["question_id"] for row in mine] == ["q", "q1", "q2"]
        assert all(row["latest_score"] for row in mine)
        assert len(await assessments.get_scores(app, response_id=RESPONSE, user_id=USER)) == 1


@pytest.mark.usefixtures("policed")
async def test_another_owner_s_rows_are_not_there_for_sql_that_forgets_the_owner(
    login: Login,
) -> None:
    """With one's own identities no statement reads, changes, scores or takes another's rows."""
    app = await login("app")
    async with app.transaction():
        await identify(app, USER, TOKEN)

        owners = "SELECT user_id, anonymous_token FROM assessment_responses ORDER BY response_id"
        assert [tuple(row) for row in await app.fetch(owners)] == [(USER, None), (None, TOKEN)]
        scored = "SELECT response_id FROM assessment_scores ORDER BY response_id"
        assert [key for (key,) in await app.fetch(scored)] == [RESPONSE, 3]
        assert len(await walk(app)) == 2
        assert await assessments.get_responses(app, user_id=STRANGER) == []
        assert await assessments.get_scores(app, response_id=FOREIGN, user_id=STRANGER) == []
        with pytest.raises(assessments.UnknownResponse):
            await backoffice.record_score(app, response_id=FOREIGN, score_data={})
        give = "UPDATE assessment_responses SET user_id = $1 WHERE response_id = $2"
        assert await app.execute(give, USER, FOREIGN) == "UPDATE 0"
        assert await refused(app, lambda conn: conn.execute(give, STRANGER, RESPONSE))
        put = "INSERT INTO assessment_responses (user_id, question_id, module_slug, answer_text)"
        assert await refused(app, executing(f"{put} VALUES ({STRANGER}, 'q', 'm', 'A.')"))
        score = "INSERT INTO assessment_scores (response_id, score_data) VALUES ($1, '{}')"
        assert await refused(app, lambda conn: conn.execute(score, FOREIGN))


@pytest.mark.usefixtures("policed")
async def test_an_insert_that_is_refused_tells_nothing(login: Login) -> None:
    """A submit for another owner is a 42501 that names the table and quotes no row."""
    app = await login("app")
    for owner in ({"user_id": STRANGER}, {"anonymous_token": OTHER_TOKEN}):
        for key in ({}, {"submission_key": uuid4()}):
            async with app.transaction():
                await identify(app, USER, TOKEN)
                with pytest.raises(asyncpg.InsufficientPrivilegeError) as raised:
                    async with app.transaction():
                        await assessments.submit_response(app, **a_response(**owner, **key))
                assert await assessments.get_responses(app, user_id=USER)
            said = f"{raised.value!r} {raised.value.as_dict()}"
            assert 'policy for table "assessment_responses"' in said
            assert SECRET not in said
            assert str(OTHER_TOKEN) not in said


@pytest.mark.usefixtures("policed")
async def test_a_key_of_another_owner_s_is_a_conflict_under_the_policies_too(login: Login) -> None:
    """A key whose row the policies hide is refused as any key that is taken."""
    app, key = await login("app"), uuid4()
    async with app.transaction():
        await identify(app, STRANGER)
        await assessments.submit_response(app, **a_response(user_id=STRANGER, submission_key=key))

    async with app.transaction():
        await identify(app, USER)
        with pytest.raises(assessments.SubmissionConflict):
            await assessments.submit_response(app, **a_response(user_id=USER, submission_key=key))


@pytest.mark.usefixtures("policed")
async def test_without_identities_there_is_nothing_before_and_after(login: Login) -> None:
    """Never set, set to nothing, or ended with its transaction: no rows, and no INSERT."""
    app = await login("app")
    setting = "SELECT current_setting('assessments.user_id', true)"

    async def is_closed() -> bool:
        count = await app.fetchval("SELECT count(*) FROM assessment_responses")
        scores = await app.fetchval("SELECT count(*) FROM assessment_scores")
        return count == scores == 0 and await refused(app, CALLS["submit_response"])

    assert await app.fetchval(setting) is None
    assert await is_closed()
    async with app.transaction():
        await identify(app, USER)
        assert len(await assessments.get_responses(app, user_id=USER)) == 1
    assert await app.fetchval(setting) == ""
    assert await is_closed()
    async with app.transaction():
        await identify(app)
        assert await is_closed()


@pytest.mark.parametrize(
    ("user_id", "token", "claimed"), [(USER, None, 0), (None, TOKEN, None), (USER, TOKEN, 1)]
)
@pytest.mark.usefixtures("policed")
async def test_a_claim_needs_both_identities(
    login: Login, user_id: int | None, token: UUID | None, claimed: int | None
) -> None:
    """With the user alone there is nothing to claim; with the token alone it is refused."""
    app = await login("app")
    async with app.transaction():
        await identify(app, user_id, token)
        claim = CALLS["claim_assessment_responses"]
        if claimed is None:
            assert await refused(app, claim)
        else:
            assert await claim(app) == claimed


@pytest.mark.usefixtures("policed")
async def test_the_service_s_own_roles_see_everybody(login: Login) -> None:
    """Worker, eraser, transfer and analyst do under the policies what they do without them."""
    worker, analyst = await login("worker"), await login("analyst")

    assert {name for name, call in CALLS.items() if not await refused(worker, call)} == RUNS["app"]
    assert len(await backoffice.get_unscored_responses(worker, model_id="m")) == 4
    await backoffice.record_score(worker, response_id=FOREIGN, score_data={})
    assert await analyst.fetchval("SELECT count(*) FROM assessment_responses") == 4
    assert await analyst.fetchval("SELECT count(*) FROM assessment_scores") == 5
    await moved(await login("transfer"))
    eraser = await login("eraser")
    assert await assessments.delete_responses(eraser, user_id=STRANGER) == 1
    assert await CALLS["purge_anonymous_responses"](eraser) == 2


@pytest.mark.usefixtures("policed")
async def test_deleting_a_user_erases_what_is_theirs_under_the_policies_too(
    login: Login, conn: Connection
) -> None:
    """Policies hide no row from the foreign keys, even where they are forced on the owner."""
    owner = await login("owner")
    for table in ("assessment_responses", "assessment_scores"):
        await owner.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")

    await (await login("host")).execute("DELETE FROM users WHERE user_id = $1", USER)

    for table in ("assessment_responses", "assessment_scores"):
        assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 3  # noqa: S608 - its name


@pytest.mark.usefixtures("policed")
async def test_a_role_without_a_policy_has_nothing_whatever_it_was_granted(login: Login) -> None:
    """What a platform grants its public roles opens no row: no SELECT, INSERT, UPDATE or DELETE."""
    owner, public = await login("owner"), await login("host")
    await owner.execute("GRANT ALL ON assessment_responses, assessment_scores TO PUBLIC")

    assert await public.fetchval("SELECT count(*) FROM assessment_responses") == 0
    assert await public.fetchval("SELECT count(*) FROM assessment_scores") == 0
    assert await public.execute("DELETE FROM assessment_responses") == "DELETE 0"
    assert await refused(public, CALLS["submit_response"])


async def test_a_user_that_policies_on_users_hide_is_unknown(login: Login) -> None:
    """Submit and claim for such a user are UnknownUser, and the transaction goes on."""
    host, app = await login("host"), await login("app")
    await host.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")

    async with app.transaction():
        with pytest.raises(assessments.UnknownUser):
            await submit(app, user_id=USER)
        with pytest.raises(assessments.UnknownUser):
            await CALLS["claim_assessment_responses"](app)
        await submit(app, anonymous_token=TOKEN)


QUERIES_OF = {
    "worker": {"get_unscored_responses", "iter_responses", "iter_owner_responses"},
    "eraser": {"delete_responses", "purge_anonymous_responses", "count_anonymous_responses"},
    "transfer": {"cli.export_details", "cli.import_responses"},
}
QUERIES_OF["app"] = set(PLANS).difference(*QUERIES_OF.values())


@pytest.mark.usefixtures("many", "policed")
async def test_the_policies_leave_every_query_its_indexes(login: Login) -> None:
    """Under the policies each query keeps its indexes, and a setting is evaluated once."""
    for role, names in QUERIES_OF.items():
        conn = await login(role)
        await conn.execute("SET plan_cache_mode = force_generic_plan")
        for name in names:
            plan = await plan_of(conn, name, "COSTS OFF")
            used = set(
                re.findall(r"(?:using|on) (\w+_(?:pkey|key|id|anon|question|module))\b", plan)
            )
            more = used - PLANS[name]
            assert PLANS[name] <= used, f"{name}\n{plan}"
            assert more <= {"assessment_responses_pkey"}, f"{name}\n{plan}"  # a score's policy
            assert "Seq Scan" not in plan, f"{name}\n{plan}"
            assert "current_setting" not in plan, f"{name}\n{plan}"  # but in an InitPlan, once


@pytest.mark.usefixtures("many", "policed")
async def test_a_page_of_a_heavy_user_touches_few_buffers_under_the_policies(
    login: Login,
) -> None:
    """The newest 20 of a user with 20,000 rows are read in order: no policy makes them a sort."""
    app = await login("app")
    await app.execute("SET plan_cache_mode = force_generic_plan")
    async with app.transaction():
        await identify(app, USER)
        plan = await plan_of(app, "get_responses", "ANALYZE, BUFFERS", user_id="1", max_rows="20")

    assert "rows=20" in plan.splitlines()[0]
    buffers = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", plan)
    assert buffers
    assert sum(int(number or 0) for number in buffers.groups()) < 100


def test_every_file_that_the_page_names_is_there() -> None:
    """What the page links to, and every test that it says proves a promise, is in the tree."""
    links = re.findall(r"\]\(([^)#]+)", TEXT)
    named = {
        path.rstrip("/") for path in re.findall(r"`((?:tests|assessments|examples)/[\w./]+)`", TEXT)
    }

    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
    assert [path for path in sorted(named) if not (PAGE.parent.parent / path).exists()] == []
