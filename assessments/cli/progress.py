"""The number of responses done so far, on a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def counting(done: str) -> Iterator[Callable[[int], None]]:
    """Yield what to call with the number of responses *done* so far.

    It shows on standard error if that is a terminal, and is cleared after the block. Where standard
    error is a file or a pipe, nothing is written and rich is not needed.
    """
    if not sys.stderr.isatty():
        yield lambda _count: None
        return

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.completed:,} responses {task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=True,
    ) as progress:
        task = progress.add_task(done, total=None)
        yield lambda count: progress.update(task, completed=count)
