"""README.md: its examples run as pasted; docs/reference/api.md names every function."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

import assessments

if TYPE_CHECKING:
    import asyncpg
    import pytest

ROOT = Path(assessments.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FUNCTIONS = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")


async def test_the_examples_work_as_pasted(
    database: str, conn: asyncpg.Connection[Any], user_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application stores a response, the sign-in claims it, and it is scored."""
    monkeypatch.setenv("DATABASE_URL", database)
    pasted: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, pasted)  # noqa: S102 - our own README
    app = pasted["app"]

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://service") as client,
    ):
        await client.put("/anonymous-token")
        token = UUID(client.cookies["anonymous_token"])
        await client.put("/anonymous-token")  # keeps it
        answered = await client.post("/questions/q1/responses", json="Because.")

    assert answered.status_code == 200, answered.text
    stored = answered.json()
    assert str(token) not in answered.text
    async with conn.transaction():
        assert await pasted["signed_in"](conn, user_id, token) == 1
    await pasted["scored"](conn, stored["response_id"])
    scores = await assessments.get_scores(conn, response_id=stored["response_id"], user_id=user_id)
    assert scores[0]["score_data"]["points"] == 4


def test_the_table_names_every_function() -> None:
    """Its functions are those that are exported."""
    named = set(re.findall(r"^\| `(?:backoffice\.)?(\w+)` \|", FUNCTIONS, re.MULTILINE))
    functions = {
        name
        for name in (*assessments.__all__, *assessments.backoffice.__all__)
        if name.islower() and name != "backoffice"
    }

    assert named == functions
