"""The example service on SQLAlchemy, behind real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from examples.sqlalchemy_service import Base
from tests.helpers.browsers import TOKEN, Browser, read, serving, two_browsers
from tests.helpers.rows import SECRET, counts
from tests.helpers.yoyo import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    Connection = asyncpg.Connection[Any]


@pytest.fixture
async def service_url(empty_database: str) -> str:
    """Return the URL of a database with the host's tables, and then the library's."""
    engine = create_async_engine(empty_database.replace("postgresql", "postgresql+asyncpg", 1))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()
    await migrate("apply", empty_database)
    return empty_database


@pytest.fixture
async def service_conn(service_url: str) -> AsyncIterator[Connection]:
    """Return a connection to the service's database."""
    connection = await asyncpg.connect(service_url)
    yield connection
    await connection.close()


@pytest.fixture
async def browsers(service_url: str, tmp_path: Path) -> AsyncIterator[list[Browser]]:
    """Return two browsers, of two people, each with a token."""
    async with (
        serving(tmp_path / "log", "on_sqlalchemy", DATABASE_URL=service_url) as url,
        two_browsers(url) as opened,
    ):
        for browser in opened:
            await browser.show_answer_box()
        yield opened


async def sign_in(browser: Browser) -> Any:
    """Sign in as the one user of these tests; return the response."""
    # After a 500 uvicorn closes the connection: the next request must not be sent on it.
    headers = {"connection": "close"}
    return await browser.post("/session", json={"email": "ada@example.org"}, headers=headers)


async def listed(browser: Browser) -> list[str]:
    """Return the answers that the service lists."""
    return [row["answer_text"] for row in (await browser.get("/responses")).json()]


async def test_an_anonymous_owner_becomes_a_user(
    browsers: list[Browser], service_conn: Connection, tmp_path: Path
) -> None:
    """Answers, both sign-ins and the list work together, and no secret is logged."""
    for number, browser in enumerate(browsers):
        assert (await browser.submit(f"q{number}", SECRET)).status_code == 201
        assert await listed(browser) == [SECRET]
        assert (await sign_in(browser)).json() == {"claimed": 1}
        key = str(uuid4())
        sent = [await browser.submit("q2", f"as a user, {number}", key) for _ in range(2)]
        assert sent[0].json() == sent[1].json()

    expected = ["as a user, 1", SECRET, "as a user, 0", SECRET]
    assert [await listed(browser) for browser in browsers] == [expected] * 2
    users = await service_conn.fetch("SELECT email, claimed FROM users")
    assert list(map(tuple, users)) == [("ada@example.org", 2)]
    written = read(tmp_path / "log")
    assert SECRET not in written
    assert browsers[0].cookies[TOKEN] not in written


async def test_a_sign_in_that_fails_after_its_claim_claims_nothing(
    browsers: list[Browser], service_conn: Connection
) -> None:
    """Neither the claim nor the new user stays, the answer is still the browser's, and it can."""
    browser, _ = browsers
    await browser.submit("q1", "mine")
    await service_conn.execute("ALTER TABLE users ADD CONSTRAINT refuses CHECK (claimed = 0)")

    assert (await sign_in(browser)).status_code == 500
    assert await service_conn.fetchval("SELECT count(*) FROM users") == 0
    held = "SELECT anonymous_token::text FROM assessment_responses"
    assert await service_conn.fetchval(held) == browser.cookies[TOKEN]

    await service_conn.execute("ALTER TABLE users DROP CONSTRAINT refuses")
    assert (await sign_in(browser)).json() == {"claimed": 1}


async def test_bad_input_is_refused_and_nothing_is_stored(
    browsers: list[Browser], service_conn: Connection
) -> None:
    """It is a 422 that names the parameter, and the session's connection goes on."""
    browser, _ = browsers
    for _ in range(12):  # more than the engine has connections
        refused = await browser.submit("q1", "\0")
        assert (refused.status_code, refused.json()["parameter"]) == (422, "answer_text")
    browser.cookies.clear()

    assert (await browser.submit("q1", "nobody's")).status_code == 401
    assert await counts(service_conn) == (0, 0)
