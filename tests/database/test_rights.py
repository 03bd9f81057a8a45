"""Each role of docs/reviewing.md can do what the page grants, and PostgreSQL refuses the rest."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import assessments
from tests.helpers import pages, roles
from tests.helpers.calls import ERASURES
from tests.helpers.commands import content, run
from tests.helpers.roles import CALLS, RUNS, USER, executing, refused
from tests.helpers.rows import submit
from tests.helpers.yoyo import migrate, yoyo

if TYPE_CHECKING:
    from tests.helpers.roles import Act, Connection, Login, Site


@pytest.fixture
def assessments_database_url(governed: str) -> str:
    """Let ``conn`` be the superuser's connection to the database with the page's grants."""
    return governed


@pytest.mark.parametrize("role", RUNS)
async def test_a_role_runs_its_own_functions_and_no_other(login: Login, role: str) -> None:
    """Every function works under the roles that the page grants it to and is a 42501 to others."""
    assert await roles.allowed(await login(role)) == RUNS[role]


RESPONSES = {
    *("response_id", "user_id", "created_at", "anonymous_token", "content_id", "question_id"),
    *("module_slug", "learning_outcome_id", "answer_text", "answer_metadata", "submission_key"),
}
SCORES = {"score_id", "response_id", "created_at", "score_data", "model_id", "prompt_version"}
STATEMENTS = {
    "SELECT": "SELECT {column} FROM {table} WHERE false",
    "INSERT": "INSERT INTO {table} ({column}) OVERRIDING SYSTEM VALUE SELECT NULL WHERE false",
    "UPDATE": "UPDATE {table} SET {column} = DEFAULT WHERE false",
}
MAY = {
    "app": {
        ("SELECT", "assessment_responses"): RESPONSES,
        ("INSERT", "assessment_responses"): RESPONSES - {"response_id", "created_at"},
        ("UPDATE", "assessment_responses"): {"user_id", "anonymous_token"},
        ("SELECT", "assessment_scores"): SCORES,
        ("INSERT", "assessment_scores"): SCORES - {"score_id", "created_at"},
        ("SELECT", "users"): {"user_id"},
    },
    "eraser": {
        ("SELECT", "assessment_responses"): {
            *("response_id", "user_id", "anonymous_token", "created_at")
        },
    },
    "analyst": {
        ("SELECT", "assessment_responses"): RESPONSES
        - {"anonymous_token", "answer_text", "answer_metadata", "submission_key"},
        ("SELECT", "assessment_scores"): SCORES - {"score_data"},
    },
    "transfer": {
        ("SELECT", "assessment_responses"): RESPONSES,
        ("INSERT", "assessment_responses"): RESPONSES,
        ("SELECT", "assessment_scores"): SCORES,
        ("INSERT", "assessment_scores"): SCORES,
        ("SELECT", "users"): {"user_id"},
    },
    "host": {(privilege, "users"): {"user_id", "email"} for privilege in STATEMENTS},
}


@pytest.mark.parametrize("role", MAY)
async def test_a_role_reads_and_writes_its_own_columns_and_no_other(
    login: Login, conn: Connection, role: str
) -> None:
    """Every column is read, inserted and updated by the roles that may; others get a 42501."""
    columns = await conn.fetch(
        "SELECT attrelid::regclass::text, attname::text FROM pg_attribute WHERE attnum > 0"
        " AND attrelid = ANY ('{assessment_responses, assessment_scores, users}'::regclass[])"
    )
    session, may = await login(role), dict[tuple[str, str], set[str]]()
    for table, column in columns:
        for privilege, statement in STATEMENTS.items():
            sql = statement.format(table=table, column=column)
            if not await refused(session, executing(sql)):
                may.setdefault((privilege, table), set()).add(column)

    assert may == MAY[role]


APPLIED = "SELECT migration_id FROM _yoyo_migration"
ON_A_TABLE = [
    *("TRUNCATE {} CASCADE", "DROP TABLE {} CASCADE", "COMMENT ON TABLE {} IS 'mine'"),
    *("ALTER TABLE {} ADD COLUMN more text", "ALTER TABLE {} DISABLE TRIGGER ALL"),
    *("ALTER TABLE {} DISABLE ROW LEVEL SECURITY", "CREATE POLICY mine ON {} USING (true)"),
    *("CREATE INDEX ON {} (response_id)", "CREATE RULE r AS ON INSERT TO {} DO INSTEAD NOTHING"),
    "CREATE TRIGGER t BEFORE DELETE ON {} EXECUTE FUNCTION pg_catalog.now()",
]
ON_USERS = [
    *("DELETE FROM users", "UPDATE users SET user_id = DEFAULT WHERE false"),
    *("SELECT user_id FROM users FOR KEY SHARE", "ALTER TABLE users ADD COLUMN more text"),
]
IN_THE_SCHEMA = [
    "CREATE TABLE public.mine (id int)",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql RETURN 1",
]
ERASING = ["DELETE FROM assessment_responses", "LOCK TABLE assessment_responses"]
STRONG = [
    *(sql.format("assessment_responses") for sql in ON_A_TABLE),
    *(sql.format("assessment_scores") for sql in ON_A_TABLE),
    *("DELETE FROM assessment_scores", "DELETE FROM _yoyo_migration", "DELETE FROM yoyo_lock"),
    *("SELECT * FROM _yoyo_log", "CREATE SCHEMA mine"),
    "SELECT nextval('assessment_responses_response_id_seq')",
    "SELECT setval('assessment_scores_score_id_seq', 1)",
    "DROP INDEX idx_assessment_responses_submission_key",
    "SET session_replication_role = replica",  # which switches foreign keys off
    *(APPLIED, *ERASING, *ON_USERS, *IN_THE_SCHEMA),
]


@pytest.mark.parametrize(
    ("role", "may"),
    [
        *(("app", [APPLIED]), ("worker", [APPLIED]), ("eraser", ERASING)),
        *(("analyst", []), ("transfer", []), ("host", ON_USERS + IN_THE_SCHEMA)),
    ],
)
async def test_only_the_owner_changes_the_schema(login: Login, role: str, may: list[str]) -> None:
    """No role changes a table, index, sequence or policy; one deletes, two see what is applied."""
    conn = await login(role)

    assert [sql for sql in STRONG if not await refused(conn, executing(sql))] == may


NEEDS: dict[str, list[Act]] = {
    "app": [*(CALLS[name] for name in sorted(RUNS["app"])), executing(APPLIED)],
    "eraser": [CALLS[name] for name in sorted(ERASURES)],
    "transfer": [roles.transfer],
}


@pytest.mark.parametrize("role", NEEDS)
async def test_a_role_needs_each_of_its_rights(site: Site, conn: Connection, role: str) -> None:
    """Without any one of its rights a role is refused some of its own work."""
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

    async def is_needless(privilege: str, table: str, column: str) -> bool:
        async def work(conn: Connection) -> None:
            await conn.execute(f"RESET ROLE; REVOKE {privilege} {column} ON {table} FROM {name}")
            await conn.execute(f"SET LOCAL ROLE {name}")
            for act in NEEDS[role]:
                if await refused(conn, act):
                    raise asyncpg.InsufficientPrivilegeError

        return not await refused(conn, work)

    assert granted
    assert [right for right in granted if await is_needless(*right)] == []


async def test_the_commands_run_under_their_roles(
    site: Site, governed: str, conn: Connection
) -> None:
    """Each command works under its role; under the service's role import is refused in one line."""

    async def command(role: str, *arguments: str, given: bytes = b"") -> Any:
        url = site.url(governed, role)
        return await asyncio.to_thread(run, *arguments, "--database", url, given=given)

    before = await content(conn)

    exported = await command("transfer", "export")
    await conn.execute("DELETE FROM assessment_responses")
    by_app = await command("app", "import", given=exported.stdout)
    by_transfer = await command("transfer", "import", given=exported.stdout)
    imported = await content(conn)
    purged = await command("eraser", "purge", "--older-than", "90d", "--yes")
    checked = await command("app", "check")

    assert by_app.returncode == 1
    assert by_app.stderr.startswith(b"PostgreSQL says: permission denied for table assessment_")
    assert b"imported 4 responses with 4 scores; 0 were already there" in by_transfer.stderr
    assert imported == before
    assert b"Erased 2 anonymous responses" in purged.stdout, purged.stderr
    assert checked.returncode == 0, checked.stdout
    assert re.search(rb"^ok +migrations: all \d+ are applied$", checked.stdout, re.MULTILINE)


async def test_statistics_show_the_analyst_only_its_own_columns(
    login: Login, conn: Connection
) -> None:
    """The samples of values in pg_stats hide the columns that the analyst may not read."""
    await conn.execute("ANALYZE")
    rows = await (await login("analyst")).fetch(
        "SELECT tablename::text, attname::text FROM pg_stats WHERE schemaname = 'public'"
    )

    seen = {tuple(row) for row in rows}
    assert seen <= {(table, each) for (_, table), own in MAY["analyst"].items() for each in own}
    assert ("assessment_responses", "question_id") in seen


async def test_every_role_s_search_path_ends_in_pg_temp(
    site: Site, login: Login, conn: Connection
) -> None:
    """A session's temporary table does not shadow ours, so a response goes to the real table."""
    for role in site.roles[:-1]:
        path = await (await login(role)).fetchval("SHOW search_path")
        assert path == "public, pg_temp", role
    app = await login("app")
    await app.execute("CREATE TEMPORARY TABLE assessment_responses (LIKE assessment_responses)")

    stored = await submit(app, user_id=USER)

    kept = "SELECT count(*) FROM assessment_responses WHERE response_id = $1"
    assert await conn.fetchval(kept, stored["response_id"]) == 1


async def test_the_owner_migrates_and_owns_the_tables(
    site: Site, governed: str, conn: Connection
) -> None:
    """Rollback and apply run under the owner's role, beside a users table of another owner."""
    for direction in ("rollback --all", "apply"):
        await migrate(direction, site.url(governed, "owner"))

    owners = dict(
        await conn.fetch(
            "SELECT relname::text, relowner::regrole::text FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        )
    )
    assert owners.pop("users") == site.named("assessments_host")
    assert {"assessment_responses", "assessment_scores"} < owners.keys()
    assert set(owners.values()) == {site.named("assessments_owner")}


@pytest.mark.parametrize(
    ("missing", "grantor", "message"),
    [
        ("CREATE ON SCHEMA public", None, "permission denied for schema public"),
        ("REFERENCES (user_id) ON users", "host", "permission denied for table users"),
    ],
)
async def test_the_owner_needs_each_of_its_two_rights(
    site: Site, governed: str, missing: str, grantor: str | None, message: str
) -> None:
    """Without one of them apply fails and names what is missing."""
    url = site.url(governed, "owner")
    await migrate("rollback --all", url)
    await site.execute(governed, f"REVOKE {missing} FROM assessments_owner", grantor)

    done = await yoyo("apply", url)

    assert done.returncode != 0
    assert message in done.stderr


async def test_deleting_a_user_erases_the_user_s_rows(login: Login, conn: Connection) -> None:
    """The host's DELETE cascades to responses and scores without any right to them."""
    host = await login("host")

    assert await refused(host, executing("SELECT count(*) FROM assessment_responses"))
    await host.execute("DELETE FROM users WHERE user_id = $1", USER)

    left = "SELECT response_id FROM {} WHERE response_id = ANY ($1)"
    for table in ("assessment_responses", "assessment_scores"):
        rows = await conn.fetch(left.format(table), [roles.RESPONSE, roles.FOREIGN])
        assert [key for (key,) in rows] == [roles.FOREIGN]


async def test_a_user_that_policies_on_users_hide_is_unknown(login: Login) -> None:
    """Submissions and claims for that user raise UnknownUser, and the transaction goes on."""
    host, app = await login("host"), await login("app")
    await host.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")

    async with app.transaction():
        for name in ("submit_response", "claim_assessment_responses"):
            with pytest.raises(assessments.UnknownUser):
                await CALLS[name](app)
        await submit(app, anonymous_token=roles.TOKEN)


def test_every_file_that_the_page_names_exists() -> None:
    """The page links to files, and names tests as proofs, that are in the tree."""
    text = pages.read(roles.PAGE)
    links = re.findall(r"\]\(([^)#]+)", text)
    named = set(re.findall(r"`((?:tests|assessments|examples)/[\w./]+)`", text))

    assert links
    missing = [link for link in links if not (pages.ROOT / "docs" / link).exists()]
    assert missing + [path for path in sorted(named) if not (pages.ROOT / path).exists()] == []
