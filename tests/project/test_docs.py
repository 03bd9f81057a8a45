"""docs/using.md and docs/deploying.md: what they show runs, what they name exists."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

import assessments
from assessments import backoffice, validation
from examples.retry import UNDONE, UNKNOWN

if TYPE_CHECKING:
    from uuid import UUID

PAGE = Path(assessments.__file__).parent.parent / "docs" / "using.md"
TEXT = PAGE.read_text(encoding="utf-8")


async def run(names: dict[str, Any]) -> None:
    """Run every Python block of the page in order, in one namespace, with top-level await."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for block in re.finditer(r"```python\n(.*?)```", TEXT, re.DOTALL):
        above = "\n" * TEXT.count("\n", 0, block.start(1))  # a traceback then shows the page's line
        code = compile(above + block[1], str(PAGE), "exec", flags=flags, dont_inherit=True)
        result = eval(code, names)  # noqa: S307 - our own page
        if inspect.isawaitable(result):
            await result


async def test_every_block_runs(pool: asyncpg.Pool[Any], user_id: int, token: UUID) -> None:
    """Each block of docs/using.md does what the page says, one after the other."""
    names: dict[str, Any] = {"pool": pool, "user_id": user_id, "token": token}
    await run(names)

    assert names["stored"]["anonymous_token"] == token
    assert "anonymous_token" not in names["shown"]
    assert [row["answer_metadata"]["seconds"] for row in names["attempts"]] == [48]
    assert names["first_sent"] == names["again"] == names["found"]
    assert names["saved"] == 1
    assert names["done"]["answer_text"] == "A wall and a nucleus."
    assert names["moved"] == names["gone"] == 1
    assert names["claimed"] == 2
    assert [row["user_id"] for row in names["mine"]] == [user_id] * 2
    assert names["answers"] == {
        "photosynthesis-1": "Because leaves are green.",
        "photosynthesis-2": "Because of chlorophyll.",
    }
    assert [row["latest_score"] for row in names["page"] + names["last_page"]] == [None] * 2
    assert len(names["page"]) == 1
    assert names["no_cursor"] is None
    assert names["scores"] == []
    assert [row["question_id"] for row in names["sheet"]] == ["cells-1", "cells-2"]
    assert names["scored"] == 4
    assert sum(names["twice"]) == 4
    assert len(names["left"]) == 4
    assert names["words"] == {"biology": 9}
    assert names["erased"] == 4
    assert names["refusal"]["parameter"] == "question_id"
    response_id, by = names["first"]["response_id"], {"model_id": "m", "prompt_version": "p"}
    score: Any = {"response_id": response_id, "score_data": {"points": 5}, **by}
    stores = [backoffice.record_score_once(pool, **score) for _ in range(4)]
    assert sum(stored is not None for stored in await asyncio.gather(*stores)) == 1
    (row,) = await assessments.get_responses_with_latest_score(pool, user_id=user_id)
    assert row["latest_score"]
    assert row["latest_score"]["score_data"]["points"] == 5


def test_the_guide_names_every_function_and_error() -> None:
    """It names what is exported, and nothing that is not."""
    named = set(re.findall(r"\w+", TEXT))

    assert set(backoffice.__all__) <= named
    assert [
        name
        for name in assessments.__all__
        if name not in {*named, "Finding"}
        and not hasattr(getattr(assessments, name), "__required_keys__")
    ] == []
    for module in (assessments, asyncpg, backoffice):
        for name in re.findall(rf"\b{module.__name__.rpartition('.')[2]}\.(\w+)", TEXT):
            assert hasattr(module, name), name


def test_every_error_that_is_retried_is_in_the_table() -> None:
    """The page and examples/retry.py agree on which errors are safe to retry."""
    errors = TEXT.partition("## Errors, and what to retry")[2].partition("\n\n```python\nfrom")[0]

    for error in (*UNDONE, *UNKNOWN):
        assert f"{error.__name__}`" in errors


def test_the_limits_are_the_library_s() -> None:
    """The numbers in the table of limits are those that arguments are checked against."""
    table = TEXT.partition("## Limits\n\n")[2].partition("\n\n")[0]
    numbers = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", table)}

    assert numbers - {0, 1, 8} == {
        value for name, value in vars(validation).items() if name.startswith("MAX_")
    }


def test_every_link_has_a_target() -> None:
    """Every file that the page links to exists."""
    links = re.findall(r"\]\(([^)#]+)", TEXT)

    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


async def test_the_deploy_loop_fails_when_every_try_does(empty_database: str) -> None:
    """The block for plain yoyo ends with 1 where apply cannot succeed, and with 0 once it has."""
    page = PAGE.with_name("deploying.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"## Plain yoyo\n\n```sh\n(.*?)```", page, re.DOTALL)
    environment = os.environ | {
        "DATABASE_URL": empty_database,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PAUSE": "0",
    }

    async def status() -> int:
        shell = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", block, env=environment, stdout=PIPE, stderr=PIPE
        )
        await shell.communicate()
        assert shell.returncode is not None
        return shell.returncode

    assert await status() == 1
    connection = await asyncpg.connect(empty_database)
    await connection.execute("CREATE TABLE users (user_id bigint PRIMARY KEY)")
    assert await status() == 0
    assert await connection.fetchval("SELECT count(*) FROM assessment_responses") == 0
    await connection.close()
