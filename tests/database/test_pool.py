"""A pool that works as created, on a direct connection and on a pooler's URL."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

import assessments
from assessments import create_pool, pool
from assessments.urls import check_url
from tests.helpers import pages
from tests.helpers.polling import until
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from uuid import UUID


def with_parameter(url: str, parameter: str) -> str:
    """Return *url* with one more query parameter."""
    return f"{url}{'&' if '?' in url else '?'}{parameter}"


async def prepared_statements(created: asyncpg.Pool[Any]) -> int:
    """Return how many statements a connection keeps prepared after two submissions."""
    async with created.acquire() as connection:
        for _ in range(2):
            await submit(connection, anonymous_token=uuid4())
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '/* assessments.%'"
        )
        return count


async def test_a_pool_opens_one_connection_and_caches_statements(database: str) -> None:
    """Without a pooler an awaited pool starts small and prepares each statement once."""
    pool = await create_pool(database)

    assert isinstance(pool, asyncpg.Pool)
    assert pool.get_size() == 1
    assert await prepared_statements(pool) == 1
    await pool.close()


async def test_the_caller_s_options_override_the_defaults(database: str) -> None:
    """Any option of asyncpg.create_pool is accepted and wins over a default of ours."""

    async def init(connection: asyncpg.Connection[Any]) -> None:
        await connection.execute("SET application_name TO 'hers'")

    async with create_pool(database, min_size=2, max_size=3, init=init) as pool:
        assert (pool.get_size(), pool.get_max_size()) == (2, 3)
        assert await pool.fetchval("SHOW application_name") == "hers"


@pytest.mark.parametrize("parameter", [None, "pgbouncer=true"])
async def test_behind_a_transaction_pooler_nothing_is_prepared_or_reset(
    database: str, parameter: str | None
) -> None:
    """No statement is cached by name, and releasing a connection sends nothing to the server."""
    pool = (
        create_pool(with_parameter(database, parameter))
        if parameter
        else create_pool(database, pooler="transaction")
    )
    async with pool:
        assert await prepared_statements(pool) == 0
        await pool.execute("SET work_mem TO '5MB'")  # which a reset would undo
        assert await pool.fetchval("SHOW work_mem") == "5MB"


@pytest.mark.parametrize(
    "parameter",
    [
        *("pgbouncer=true", "pgbouncer=true&connection_limit=1", "connect_timeout=5"),
        *("statement_cache_size=0", "schema=public", "pool_timeout=0"),
        *("prepared_statement_cache_size=0", "async_fallback=true"),
    ],
)
async def test_parameters_for_other_clients_are_removed(database: str, parameter: str) -> None:
    """A URL from a pooler's dashboard, which asyncpg rejects, connects with its own parameters."""
    url = with_parameter(database, f"application_name=a%20b&{parameter}")
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(url)

    async with create_pool(url) as pool:
        assert await pool.fetchval("SHOW application_name") == "a b"


@pytest.mark.parametrize(
    "scheme",
    [
        *("postgres", "PostgreSQL", "postgresql+asyncpg", "postgresql+psycopg"),
        *("postgresql+psycopg2", "postgres+asyncpg"),
    ],
)
async def test_a_url_of_sqlalchemy_s_or_libpq_s_connects(database: str, scheme: str) -> None:
    """The scheme may name another driver, and ``ssl=`` is what asyncpg calls ``sslmode=``."""
    url = with_parameter(scheme + database[database.index("://") :], "ssl=prefer")

    async with create_pool(url) as pool:
        assert await pool.fetchval("SELECT count(*) FROM assessment_responses") == 0


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        *((url, "must be postgresql://") for url in ("", "hunter2", "postgresql:/u:hunter2@h/d")),
        ("mysql://u:hunter2@h/d", "must be postgresql://user:password@host/database, not mysql://"),
        ("'postgresql://u:hunter2@h/d'", "must be postgresql://user:password@host/database"),
        *((f"postgresql://u:1{mark}hunter2@h/d", "cannot be taken apart") for mark in "/?#[@"),
        *((f"postgresql://u:hunter2{mark}@h/d", "cannot be taken apart") for mark in "/?#[@"),
        *((f"postgresql://u:hunter2@{host}/d", "has a port") for host in ("h:x", "h:0", "h:65536")),
        *((f"postgresql://u:hunter2@{host}/d", "has a port") for host in ("h,h:x", "[::1]:x")),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, problem: str) -> None:
    """The error says which part is wrong, before anything connects."""
    with pytest.raises(assessments.InvalidInput) as raised:
        create_pool(url)

    assert (raised.value.parameter, raised.value.problem[: len(problem)]) == ("dsn", problem)
    assert "hunter2" not in repr(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://", "postgresql:///d?host=/tmp", "postgresql://u:p%40%23@h/d"),
        *("postgresql://u@h1:1,h2:65535/d", "postgresql://[::1]:5432/d", "postgresql://%2Ftmp/d"),
    ],
)
def test_a_url_may_leave_out_what_the_environment_has(url: str) -> None:
    """Several hosts, an IPv6 address, a socket's folder or no host at all are accepted."""
    assert check_url("dsn", url) == url


async def test_the_page_s_refusal_is_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The block of docs/hosts.md prints what it says."""
    (block,) = pages.blocks("docs/hosts.md", "python", "URLs")
    await pages.run(block, {"assessments": assessments})

    (shown,) = re.findall(r"# (dsn: .*) …$", block, re.MULTILINE)
    assert capsys.readouterr().out.startswith(shown)


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql"])
async def test_the_page_s_line_for_yoyo_applies_the_migrations(
    empty_database: str, scheme: str
) -> None:
    """It makes of SQLAlchemy's URL what yoyo and libpq take, and leaves theirs as it is."""
    url = with_parameter(empty_database.replace("postgresql", scheme, 1), "ssl=prefer")
    environment = {"DATABASE_URL": url, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    connection = await asyncpg.connect(empty_database)
    await connection.execute("CREATE TABLE users (user_id bigint PRIMARY KEY)")

    (line,) = pages.blocks("docs/hosts.md", "sh", "URLs")
    shell = await asyncio.create_subprocess_exec(
        "/bin/sh", "-ec", line, env=os.environ | environment, stderr=PIPE
    )
    _, said = await shell.communicate()

    assert shell.returncode == 0, said
    assert await connection.fetchval("SELECT count(*) FROM assessment_responses") == 0
    await connection.close()


@pytest.mark.parametrize("name", pool._HOOKS)  # noqa: SLF001 - private on purpose
def test_asyncpg_has_the_private_methods_that_a_pooler_s_connection_overrides(name: str) -> None:
    """A version of asyncpg without one of them is to be known before the bound on it is raised."""
    assert hasattr(asyncpg.Connection, name), (
        f"asyncpg {asyncpg.__version__} has no Connection.{name}: adapt assessments/pool.py, which "
        "without it sends a statement at every release"
    )


@pytest.mark.parametrize(("can_hook", "last"), [(True, "SELECT 1"), (False, "SELECT")])
async def test_without_those_methods_every_release_ends_the_transaction(
    *,
    database: str,
    conn: asyncpg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    can_hook: bool,
    last: str,
) -> None:
    """Where the pool cannot tell whether a call was cut short, it sends the empty statement."""
    monkeypatch.setattr(pool, "_CAN_HOOK", can_hook)
    async with create_pool(database, pooler="transaction") as created:
        async with created.acquire() as connection:
            await connection.fetchval("SELECT 1")
            pid = connection.get_server_pid()

        query = "SELECT query FROM pg_stat_activity WHERE pid = $1"
        assert await conn.fetchval(query, pid) == last


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("dsn", value) for value in (None, 1, b"postgresql://", "postgresql://u:p[ass@h/db")),
        *(("pooler", value) for value in ("session", "", True, 1, "Transaction")),
    ],
)
def test_an_unknown_pooler_mode_or_invalid_url_is_rejected(parameter: str, value: Any) -> None:
    """An unknown mode is not the default; the error names the parameter and quotes no password."""
    arguments = {"dsn": "postgresql://u:hunter2@h/d?pgbouncer=true", parameter: value}

    with pytest.raises(assessments.InvalidInput) as raised:
        create_pool(**arguments)

    assert raised.value.parameter == parameter
    assert not {"hunter2", "p[ass"} & set(re.findall(r"[\w\[]+", repr(raised.value)))


async def test_a_call_cut_short_after_others_leaves_no_transaction_open(
    database: str, conn: asyncpg.Connection[Any]
) -> None:
    """A call that fails between its preparation and its run is ended at the release."""
    async with create_pool(database, pooler="transaction") as pool:
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
            assert await connection.fetchval("SELECT $1::bigint", 1) == 1
            with pytest.raises(asyncpg.DataError):
                await connection.fetchval("SELECT $1::bigint", "not a key")

        ended = "SELECT state = 'idle' AND query = 'SELECT' FROM pg_stat_activity WHERE pid = $1"
        await until(conn, ended, pid, seconds=10)


async def test_no_statement_stays_prepared(database: str, token: UUID) -> None:
    """Not even the last one: its name could be another statement's at the next server process."""
    async with create_pool(database, pooler="transaction") as pool, pool.acquire() as connection:
        await submit(connection, anonymous_token=token)

        assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
