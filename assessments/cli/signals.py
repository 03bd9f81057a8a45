"""The signals that end a process: each cancels what a command does, so that it cleans up first."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

T = TypeVar("T")

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # not every system has all
_blocks = ContextVar("_blocks", default=False)
_received: ContextVar[Sequence[int]] = ContextVar("_received", default=())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what *work* returns; a signal that ends a process cancels it, and then is raised.

    Raised in the midst of the event loop, it would lose what a connection has just received, and
    the clean-up would wait for that without end. A second signal does not wait.
    """
    received: list[int] = []
    task: asyncio.Task[T] | None = None

    async def run_as_task() -> T:
        nonlocal task
        task = asyncio.current_task()
        _received.set(received)
        return await work

    def cancel(number: int, _frame: object) -> None:
        received.append(number)
        if task is None or task.done() or len(received) > 1:
            raise _exception(number)
        if _blocks.get():
            raise asyncio.CancelledError
        task.cancel()
        task.get_loop().call_soon_threadsafe(lambda: None)  # so that it wakes

    with _handled_by(cancel):
        try:
            return asyncio.run(run_as_task())
        except asyncio.CancelledError:
            raise _exception(received[0]) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """Have a signal end the block at once: it may keep the event loop waiting without end."""
    token = _blocks.set(True)
    try:
        if _received.get():  # before the block, and no await has told the task since
            raise asyncio.CancelledError
        yield
    finally:
        _blocks.reset(token)


@contextmanager
def _handled_by(handler: Callable[[int, object], None]) -> Iterator[None]:
    before: dict[int, Any] = {}
    for name in _ENDING:
        number = getattr(signal, name, None)
        # None is a handler that the host has installed in C, and that Python could not restore.
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _exception(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
