"""What ``make reference`` writes and tests compare: ``docs/reference/`` and the queries' types.

A generator is a module with a coroutine function ``pages``: from a connection to an empty database
that has the migrations, it returns the texts of its files on that server, by their paths.
"""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).parents[2]


def assert_on_file(pages: dict[str, str]) -> None:
    """Fail where a file differs from what the generator returned."""
    for name, text in pages.items():
        path = ROOT / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        difference = unified_diff(
            old.splitlines(), text.splitlines(), f"{name} on file", f"{name} now", lineterm=""
        )
        assert old == text, (
            f"{name} is not what this tree gives: run `make reference`, read the "
            "difference, and commit it if it is what you meant.\n" + "\n".join(difference)
        )
