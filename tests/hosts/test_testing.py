"""assessments.testing: the plugin that hosts load, in pytest processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest

from assessments.testing import databases, migrations
from assessments.testing.server import NoServerError, chosen
from tests.helpers import hosts

ALONE = """
import pytest

@pytest.mark.parametrize("turn", range(2))
async def test_alone(assessments_conn, assessments_new_user, turn):
    assessments_new_user()
    assert await assessments_conn.fetchval("SELECT count(*) FROM users") == 1
"""
MARKED = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.{}
async def test_marked(assessments_pool, assessments_conn):
    for each in (assessments_pool, assessments_conn):
        assert await each.fetchval("SELECT count(*) FROM users") == 0
"""
ENDLESS = """
import time

def test_failing(assessments_pool):
    raise AssertionError("fails")

def test_endless(assessments_database_url, assessments_conn, capfd):
    with capfd.disabled():
        print(f"\\n{assessments_database_url}", flush=True)
    while True:
        time.sleep(1)
"""


def database_names(server: str) -> str:
    """Return the names of the databases on *server*."""
    names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"
    found: str = databases.execute(server, names)
    return found


def test_the_page_s_tests_pass_and_leave_nothing(server: str, tmp_path: Path) -> None:
    """The tests of docs/hosts.md pass beside its host's own tables, and no database stays.

    The URL of their server may be SQLAlchemy's.
    """
    before = database_names(server)
    hosts.write(
        tmp_path, hosts.OWN_TABLES, asynchronous=hosts.ASYNCHRONOUS, synchronous=hosts.SYNCHRONOUS
    )

    url = server.replace("postgresql://", "postgresql+asyncpg://", 1)
    printed = hosts.run(tmp_path, f"--assessments-server={url}")
    assert "2 passed" in printed, printed
    assert database_names(server) == before


def test_a_test_sees_the_template_and_no_other_test(server: str, tmp_path: Path) -> None:
    """Loaded by one line, the plugin gives each test a database with no row in it.

    The option goes before the environment variable.
    """
    hosts.write(tmp_path, alone=ALONE, asynchronous=hosts.ASYNCHRONOUS)

    option = f"--assessments-server={server}"
    printed = hosts.run(tmp_path, option, ASSESSMENTS_TEST_SERVER="nowhere")
    assert "3 passed" in printed, printed


STRICT = ("-o", "asyncio_mode=strict", "-o", "asyncio_default_fixture_loop_scope=function")
NO_ASYNCIO = ("-p", "no:asyncio")
NOT_INSTALLED = "import sys\nsys.modules['pytest_asyncio'] = None\n"


@pytest.mark.parametrize(
    ("mark", "options", "before"),
    [
        pytest.param("asyncio", STRICT, "", id="pytest-asyncio, strict"),
        pytest.param("anyio", NO_ASYNCIO, "", id="anyio, pytest-asyncio not loaded"),
        pytest.param("anyio", NO_ASYNCIO, NOT_INSTALLED, id="anyio, pytest-asyncio not installed"),
    ],
)
def test_the_pool_and_the_connection_are_in_the_test_s_own_loop(
    server: str, tmp_path: Path, mark: str, options: tuple[str, ...], before: str
) -> None:
    """Whichever plugin runs the asynchronous test runs its fixtures too."""
    ini = "[pytest]\nfilterwarnings = error\n"
    hosts.write(tmp_path, before + hosts.LOADED, ini, marked=MARKED.format(mark))

    printed = hosts.run(tmp_path, *options, ASSESSMENTS_TEST_SERVER=server)
    assert "1 passed" in printed, printed


@pytest.mark.parametrize("choice", ["embedded", "a URL"])
def test_a_failure_and_a_ctrl_c_leave_nothing_behind(
    server: str, tmp_path: Path, choice: str
) -> None:
    """After a failed test and a Ctrl-C no database is left, and no server that the run started."""
    before = database_names(server)
    hosts.write(tmp_path, endless=ENDLESS)

    where = server if choice == "a URL" else choice
    with hosts.start(tmp_path, f"--assessments-server={where}") as process:
        assert process.stdout
        url = next(line for line in process.stdout if line.startswith("postgresql://")).strip()
        process.send_signal(signal.SIGINT)
        printed = process.stdout.read()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, printed
    assert "1 failed" in printed, printed
    with pytest.raises(psycopg2.OperationalError):
        databases.execute(url, "SELECT")
    if choice == "embedded":
        (home,) = parse_qs(urlsplit(url).query)["host"]
        assert not Path(home).exists()
    assert database_names(server) == before


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A misspelled choice is an error that quotes it, and never another server."""
    hosts.write(tmp_path, alone=ALONE)

    printed = hosts.run(tmp_path, ASSESSMENTS_TEST_SERVER="embeded")
    assert "NoServerError: there is no such server: embeded" in printed, printed


def test_a_container_without_testcontainers_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the package is missing, the error names it, and no import fails."""
    monkeypatch.setitem(sys.modules, "testcontainers.community.postgres", None)

    with pytest.raises(NoServerError, match=r"pip install .* testcontainers"), chosen("container"):
        pass


def test_a_database_is_dropped_whoever_is_connected(server: str) -> None:
    """A connection that a test leaves open does not keep its database."""
    with databases.temporary(server) as url:
        left = psycopg2.connect(url)
    left.close()
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        databases.execute(url, "SELECT")


def test_what_is_no_test_loads_no_pytest() -> None:
    """The demo and the benchmarks import servers and migrations without pytest."""
    code = "import sys, assessments.cli.demo, assessments.testing.databases; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "assessments.testing.server" in done.stdout.split()
    assert "pytest" not in done.stdout.split()


def test_a_server_s_url_may_be_sqlalchemy_s(server: str) -> None:
    """The server is found, a database on it made and migrated, whatever driver a URL names."""
    scheme, _, rest = server.partition("://")
    with chosen(f"{scheme}+asyncpg://{rest}") as url, databases.temporary(url) as database:
        migrations.apply(database.replace(scheme, f"{scheme}+asyncpg", 1))

        assert databases.execute(database, "SELECT count(*) FROM assessment_responses") == 0


def test_a_server_s_url_may_name_no_host() -> None:
    """Another database on it is reached in the same way."""
    url = databases.database_url("postgresql:///postgres?host=/tmp", "other")

    assert url == "postgresql:///other?host=/tmp"
