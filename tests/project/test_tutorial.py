"""docs/tutorial.md: its program prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import assessments

if TYPE_CHECKING:
    import pytest

PAGE = Path(assessments.__file__).parent.parent / "docs" / "tutorial.md"


async def test_the_story_prints_what_the_page_shows(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program, on a migrated database, prints the lines at the end of the page."""
    page = PAGE.read_text(encoding="utf-8")
    *story, _server = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec("".join(story), names)  # noqa: S102 - our own page

    await names["story"](database)

    shown = page.partition("It prints\n\n")[2].partition("\n\n")[0]
    assert capsys.readouterr().out.split("\n")[:-1] == [line.strip() for line in shown.split("\n")]
