"""The fixtures of `assessments.testing` under shorter names, and this suite's own."""

from __future__ import annotations

from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from assessments.testing import databases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytest_plugins = ["assessments.testing"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller choose the server."""
    parser.addoption(
        "--server",
        help="embedded, installed, container or a postgresql:// URL; else the first there is",
    )
    parser.addoption(
        "--scale",
        type=int,
        default=1,
        help="how many times as long or as often as in CI the tests of faults and soaks run",
    )
    parser.addoption(
        "--seed",
        type=int,
        default=SystemRandom().randrange(10**6),
        help="what every random choice derives from; random by default, printed in the header",
    )


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads its own option
def pytest_configure(config: pytest.Config) -> None:
    """Seed Hypothesis too, and pass the server on."""
    if server := config.getoption("--server"):
        config.option.assessments_server = server
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(config.getoption("--seed"))


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what no server takes part in: it is the same on each."""
    for item in items:
        if "assessments_server_url" not in getattr(item, "fixturenames", ()):
            item.add_marker("own_server")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say on which server the suite runs, and how to draw the same random choices again."""
    server = config.getoption("--assessments-server") or "the first there is"
    return [
        f"server: {server.rpartition('@')[2]}",
        f"seed: {config.getoption('--seed')}",
    ]


_FIGURES = pytest.StashKey[list[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what the tests of a worker of pytest-xdist's counted."""
    counted = getattr(node, "workeroutput", {}).get("figures", [])  # none if it crashed
    node.config.stash.setdefault(_FIGURES, []).extend(counted)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what this worker's tests counted, if this is a worker of pytest-xdist's."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = session.config.stash.get(_FIGURES, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what the tests counted, and after a failure how to repeat their random choices."""
    if {"failed", "error"} & terminalreporter.stats.keys():
        terminalreporter.section("seed")
        terminalreporter.write_line(
            f"--seed={config.getoption('--seed')} draws the same random choices again. It repeats "
            "calls made one after the other, and not how concurrent ones interleave."
        )
    if lines := config.stash.get(_FIGURES, []):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Return what puts ``title: 12,000 acked, 0 lost`` into the report's section of figures."""
    lines = pytestconfig.stash.setdefault(_FIGURES, [])

    def add(title: str, **counts: int | str) -> None:
        shown = (
            f"{count:,} {name}" if isinstance(count, int) else f"{name} {count}"
            for name, count in ((name.replace("_", " "), n) for name, n in counts.items())
        )
        lines.append(f"{title}: {', '.join(shown)}")

    return add


@pytest.fixture
def scale(pytestconfig: pytest.Config) -> int:
    """Return how many times CI's size the test is to run."""
    size: int = pytestconfig.getoption("--scale")
    return size


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> Random:
    """Return what this test draws its random choices from: by the run's seed and the test's id."""
    return Random(f"{request.config.getoption('--seed')} {request.node.nodeid}")


@pytest.fixture(scope="session")
def server(assessments_server_url: str) -> str:
    """Return the URL of the server's maintenance database."""
    return assessments_server_url


@pytest.fixture(scope="session")
def template(
    assessments_template_url: str,
    assessments_template_setup: None,  # noqa: ARG001 - so that it has its tables
) -> str:
    """Return the name of a migrated database that nobody is connected to."""
    return databases.database_name(assessments_template_url)


@pytest.fixture
def empty_database(server: str) -> Iterator[str]:
    """Return the URL of a database with nothing in it."""
    with databases.temporary(server) as url:
        yield url


@pytest.fixture
def database(assessments_database_url: str) -> str:
    """Return the URL of a migrated database of this test's own."""
    return assessments_database_url


@pytest.fixture
def conn(assessments_conn: asyncpg.Connection[Any]) -> asyncpg.Connection[Any]:
    """Return a connection to this test's database."""
    return assessments_conn


@pytest.fixture
async def other(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return another connection to this test's database."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
def pool(assessments_pool: asyncpg.Pool[Any]) -> asyncpg.Pool[Any]:
    """Return a pool of up to four connections to this test's database."""
    return assessments_pool


@pytest.fixture
def user_id(assessments_new_user: Callable[[], int]) -> int:
    """Return a user's id."""
    return assessments_new_user()


@pytest.fixture
def token() -> UUID:
    """Return an anonymous token."""
    return uuid4()
