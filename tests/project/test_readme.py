"""README.md: its example runs as pasted; docs/reference/api.md names every function."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import assessments

if TYPE_CHECKING:
    import asyncpg

ROOT = Path(assessments.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FUNCTIONS = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")


async def test_the_example_works_as_pasted(conn: asyncpg.Connection[Any], user_id: int) -> None:
    """A visitor's response is stored, scored and claimed, and the user reads it with its score."""
    pasted: dict[str, Any] = {}
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(block, pasted)  # noqa: S102 - our own README

    (row,) = await pasted["story"](conn, uuid4(), user_id)

    assert row["user_id"] == user_id
    assert row["latest_score"]["score_data"]["points"] == 4


def test_the_table_names_every_function() -> None:
    """Its functions are those that are exported."""
    named = set(re.findall(r"^\| `(?:backoffice\.)?(\w+)` \|", FUNCTIONS, re.MULTILINE))
    functions = {
        name
        for name in (*assessments.__all__, *assessments.backoffice.__all__)
        if name.islower() and name != "backoffice"
    }

    assert named == functions
