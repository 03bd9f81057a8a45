"""The roles of docs/reviewing.md, and what each of them is for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg

from assessments import backoffice
from assessments.queries import queries, text_arrays
from tests.helpers import pages
from tests.helpers.calls import ERASURES, SUBMITS, Call, Subject, catalogue
from tests.helpers.rows import SECRET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Connection: TypeAlias = asyncpg.Connection[Any]
    Act: TypeAlias = Callable[[Connection], Awaitable[Any]]
    Login: TypeAlias = Callable[[str], Awaitable[Connection]]

PAGE = "docs/reviewing.md"
CREATE_ROLES, ON_SCHEMA, ON_USERS, ON_TABLES = pages.blocks(PAGE, "sql", "Rights")
CREATE_WORKER, POLICIES, IDENTIFY = pages.blocks(PAGE, "sql", "Row-level security")

USER, STRANGER = 1, 2  # of the host's
TOKEN, OTHER_TOKEN = UUID(int=1), UUID(int=2)
RESPONSE, FOREIGN, ANONYMOUS = 1, 2, 3  # USER's, STRANGER's and TOKEN's, each with a score
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

CALLS = catalogue(Subject(USER, TOKEN, RESPONSE, {"user_id": USER}))
ANONYMOUS_CALLS = catalogue(Subject(USER, TOKEN, RESPONSE, {"anonymous_token": TOKEN}))
READS = {name for name in CALLS if name.startswith(("get", "iter", "backoffice.get"))}
RUNS = {
    "app": set(CALLS) - ERASURES,
    "eraser": ERASURES,
    "analyst": set(),
    "transfer": READS | SUBMITS,
    "host": set(),
}
"""The calls that each role runs."""


class Site:
    """The page's roles on a server, under names of this run's own."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.suffix = uuid4().hex[:12]
        self.roles = [*re.findall(r"CREATE ROLE assessments_(\w+)", pages.read(PAGE)), "host"]

    def named(self, sql: str) -> str:
        """Return the page's *sql* with the names of this run's roles."""
        return re.sub(rf"\bassessments_({'|'.join(self.roles)})\b", rf"\g<0>_{self.suffix}", sql)

    def url(self, database: str, role: str) -> str:
        """Return the URL by which *role* logs in to *database*, a superuser's URL."""
        parts = urlsplit(database)
        login = f"{self.named(f'assessments_{role}')}:{self.suffix}"
        return parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}").geturl()

    async def execute(self, database: str, sql: str, role: str | None = None) -> None:
        """Run the page's *sql* on *database*, as *role* or as the superuser."""
        conn = await asyncpg.connect(self.url(database, role) if role else database)
        try:
            await conn.execute(self.named(sql))
        finally:
            await conn.close()

    async def create_roles(self) -> None:
        """Create the page's roles, and one that owns the host's ``users``."""
        await self.execute(self.server, f"{CREATE_ROLES}{CREATE_WORKER}")
        await self.execute(self.server, "CREATE ROLE assessments_host LOGIN")
        for role in self.roles:
            alter = f"ALTER ROLE assessments_{role} PASSWORD '{self.suffix}'"
            await self.execute(self.server, alter)

    async def drop_roles(self) -> None:
        """Drop them."""
        roles = ", ".join(f"assessments_{role}" for role in self.roles)
        await self.execute(self.server, f"DROP ROLE IF EXISTS {roles}")


async def refused(conn: Connection, act: Act) -> bool:
    """Say whether PostgreSQL refuses *act* with a 42501, and roll it back."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        await act(conn)
    except asyncpg.InsufficientPrivilegeError:
        return True
    finally:
        await transaction.rollback()
    return False


async def allowed(conn: Connection, calls: dict[str, Call] = CALLS) -> set[str]:
    """Return the names of the *calls* that PostgreSQL does not refuse on *conn*."""
    return {name for name, call in calls.items() if not await refused(conn, call)}


def executing(sql: str, *arguments: Any) -> Act:
    """Return the act of running *sql*."""
    return lambda conn: conn.execute(sql, *arguments)


async def transfer(conn: Connection) -> None:
    """Run the statements of export and import: read every row, and store one under a new key."""
    assert "/" in await queries.cli.get_database_identity(conn)
    exported: list[Any] = [row async for row in backoffice.iter_responses_with_scores(conn)]
    row = {**exported[0]}
    scored_at = row.pop("scores")[0]["created_at"]
    new = {**row, "submission_key": uuid4(), "answer_text": "New.", "answer_metadata": "{}"}
    score = {"number": 1, "score_data": "{}", "created_at": scored_at}
    score |= {"model_id": "m", "prompt_version": "p", "occurrence": 1}
    columns = new | {f"score_{name.removeprefix('score_')}": n for name, n in score.items()}
    arrays = text_arrays({name: [value] for name, value in columns.items()})
    await queries.cli.lock_import(conn)
    done = await queries.cli.import_responses(conn, **arrays, skip_conflicts=False)
    assert done["responses"] == done["scores"] == 1
