"""How far a command is, on a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def counting(done: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """Yield what to call with the number of responses *done* so far, and how much of *total* it is.

    With a total, in whatever unit, there is a bar with the share and the time that remains.
    It shows on standard error if that is a terminal, and is cleared after the block. Where standard
    error is a file or a pipe, nothing is written and rich is not needed.
    """
    if not sys.stderr.isatty():
        yield lambda _count, _part: None
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = (BarColumn(20), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[count]:,} responses {task.description}"),
        *([TimeElapsedColumn()] if total is None else bar),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=True,
    ) as progress:
        task = progress.add_task(done, total=total, count=0)
        yield lambda count, part: progress.update(task, count=count, completed=part)
