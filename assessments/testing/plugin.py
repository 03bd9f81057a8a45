"""The pytest plugin: one server a run, one migrated template, one database a test.

All fixtures but two are synchronous. The two run under pytest-asyncio, in either mode, or, where
that is not loaded, under anyio's plugin.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import assessments
from assessments.testing import databases, migrations, server

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:
    async_fixture = pytest.fixture  # type: ignore[assignment] # anyio's plugin takes it

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller choose the server."""
    parser.getgroup("assessments").addoption(
        "--assessments-server",
        metavar="SERVER",
        default=os.environ.get("ASSESSMENTS_TEST_SERVER"),
        help="embedded, installed, container or a postgresql:// URL of a role that may create "
        "databases; by default $ASSESSMENTS_TEST_SERVER, else the first there is",
    )


@pytest.fixture(scope="session")
def assessments_server_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """Return the URL of the server's maintenance database."""
    with server.chosen(pytestconfig.getoption("--assessments-server")) as url:
        yield url


@pytest.fixture(scope="session")
def assessments_template_url(assessments_server_url: str) -> Iterator[str]:
    """Return the URL of the database that each test's is a copy of; it begins empty."""
    with databases.temporary(assessments_server_url) as url:
        yield url


@pytest.fixture(scope="session")
def assessments_template_setup(assessments_template_url: str) -> None:
    """Create the tables in the template: a stand-in for ``users``, and the library's.

    Override it to create your own users table before the library's, and your other tables before
    or after. It may leave no connection to the template open.
    """
    migrations.apply(assessments_template_url)


@pytest.fixture
def assessments_database_url(
    assessments_server_url: str,
    assessments_template_url: str,
    assessments_template_setup: None,  # noqa: ARG001 - so that it has its tables
) -> Iterator[str]:
    """Return the URL of a migrated database of this test's own."""
    template = databases.database_name(assessments_template_url)
    with databases.temporary(assessments_server_url, template) as url:
        yield url


@pytest.fixture
def assessments_new_user(assessments_database_url: str) -> Callable[[], int]:
    """Return a function that adds a user and returns the new ``user_id``.

    Override it if a row of your own users table needs more than its defaults.
    """
    insert = "INSERT INTO users DEFAULT VALUES RETURNING user_id"
    return lambda: databases.execute(assessments_database_url, insert)


@async_fixture
async def assessments_conn(
    assessments_database_url: str,
) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection to this test's database."""
    connection = await asyncpg.connect(assessments_database_url)
    yield connection
    await connection.close()


@async_fixture
async def assessments_pool(assessments_database_url: str) -> AsyncIterator[asyncpg.Pool[Any]]:
    """Return a pool of up to four connections to this test's database."""
    async with assessments.create_pool(assessments_database_url, max_size=4) as pool:
        yield pool
