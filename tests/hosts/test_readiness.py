"""docs/hosts.md, Readiness: a service checks its database when it starts, and answers a probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.helpers import pages

if TYPE_CHECKING:
    import asyncpg
    from fastapi import FastAPI


@pytest.fixture
def app(database: str, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """Return the page's service, on this test's database."""
    monkeypatch.setenv("DATABASE_URL", database)
    (block,) = pages.blocks("docs/hosts.md", "python", "Readiness")
    pasted: dict[str, Any] = {}
    exec(block, pasted)  # noqa: S102 - our own page
    app: FastAPI = pasted["app"]
    return app


async def test_a_service_starts_on_a_database_that_fits(app: FastAPI) -> None:
    """Warnings do not keep it from starting, and its probe is answered."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://service") as client,
    ):
        assert (await client.get("/ready")).status_code == 204


async def test_a_service_does_not_start_on_a_database_that_does_not_fit(
    app: FastAPI, conn: asyncpg.Connection[Any]
) -> None:
    """The error says what is missing."""
    await conn.execute("ALTER TABLE assessment_responses DROP COLUMN submission_key")

    with pytest.raises(RuntimeError, match=r'column "submission_key" .*does not exist'):
        async with app.router.lifespan_context(app):
            pass
