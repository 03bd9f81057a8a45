"""Python programs of this repository, each run as a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import assessments

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ROOT = Path(assessments.__file__).parent.parent


@contextmanager
def program(log: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program that writes to *log*; kill it at the end if it still runs."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Return once *condition* comes true; fail after a minute."""

    async def poll() -> None:
        while not await condition():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(poll(), 60)
