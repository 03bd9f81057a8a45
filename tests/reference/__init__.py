"""The pages under ``docs/reference/``, which ``make reference`` writes and tests compare.

A generator is a module with a coroutine function ``pages``: from a connection to an empty database
that has the migrations, it returns the texts of its pages on that server, by file name.
"""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def assert_on_file(pages: dict[str, str]) -> None:
    """Fail where a page on file differs from what the generator returned."""
    for name, text in pages.items():
        path = FOLDER / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        difference = unified_diff(
            old.splitlines(), text.splitlines(), f"{name} on file", f"{name} now", lineterm=""
        )
        assert old == text, (
            f"docs/reference/{name} is not what this tree gives: run `make reference`, read the "
            "difference, and commit it if it is what you meant.\n" + "\n".join(difference)
        )
