"""A file that an export has written survives a crash of the machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.commands import Database

# The command line, with what is synced printed: a file's size, and whether FILE is there yet.
TOLD = """
import os, sys
from assessments.cli import main

sync, path = os.fsync, sys.argv[-1]

def told(file):
    sync(file)
    print(os.fstat(file).st_size, os.path.exists(path))

os.fsync = told
sys.exit(main())
"""


async def test_a_file_is_on_disk_before_it_appears(source: Database, tmp_path: Path) -> None:
    """All of it is synced before it takes the place of FILE."""
    await source.fill(300)
    path = tmp_path / "out.jsonl"
    options = ["export", "--database", source.url, "--output", str(path)]

    command = [sys.executable, "-c", TOLD, *options]
    output = await asyncio.to_thread(subprocess.check_output, command, text=True)

    assert f"{path.stat().st_size} False" in output.splitlines()
