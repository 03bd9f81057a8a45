"""A host's own tests, run by pytest in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.helpers.commands import INTERRUPTIBLE
from tests.helpers.pages import ROOT, blocks

if TYPE_CHECKING:
    from pathlib import Path

LOADED, ASYNCHRONOUS, OWN_TABLES, SYNCHRONOUS = blocks("docs/hosts.md", "python", "Your tests")
INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
USERS = """
CREATE TABLE users (
    user_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL
)
"""
CLASSES = """
CREATE TABLE classes (
    teacher_id integer REFERENCES users (user_id),
    example_id bigint REFERENCES assessment_responses (response_id),
    pupils bigint NOT NULL DEFAULT 0
)
"""


def write(folder: Path, conftest: str = LOADED, ini: str = INI, **tests: str) -> None:
    """Write a host with *tests*, by the names of their modules."""
    files = {"pytest.ini": ini, "conftest.py": conftest, "users.sql": USERS, "classes.sql": CLASSES}
    for name, text in (files | {f"test_{name}.py": text for name, text in tests.items()}).items():
        (folder / name).write_text(text, encoding="utf-8")


def start(
    folder: Path, *options: str, python: str | Path = sys.executable, **environment: str
) -> subprocess.Popen[str]:
    """Start the tests in *folder*, with this checkout's package."""
    return subprocess.Popen(
        [python, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **INTERRUPTIBLE,
    )


def run(folder: Path, *options: str, **how: Any) -> str:
    """Run the tests in *folder* as `start` does; return what pytest prints."""
    printed, _ = start(folder, *options, **how).communicate(timeout=300)
    return printed
