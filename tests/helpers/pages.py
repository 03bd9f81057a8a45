"""The code blocks of this project's pages, which tests run as they stand."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import assessments

ROOT = Path(assessments.__file__).parent.parent


def read(page: str) -> str:
    """Return the text of *page*, a path from the project's root."""
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """Return what stands under a heading of level 2 on *page*."""
    return read(page).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def blocks(page: str, language: str, heading: str | None = None) -> list[str]:
    """Return the blocks of *language* on *page*, or under one of its headings of level 2."""
    text = read(page) if heading is None else section(page, heading)
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found, f"{page} has no block of {language} under {heading}"
    return found


async def run(block: str, names: dict[str, Any]) -> None:
    """Run a block of Python, which may await, in the namespace *names*."""
    code = compile(block, "a page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, names)  # noqa: S307 - our own page
    if inspect.isawaitable(result):
        await result
