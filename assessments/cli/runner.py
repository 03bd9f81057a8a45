"""Runs a command on a database: its pool, its signals, its exit status."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.cli import errors, output
from assessments.cli.errors import CommandError, describe
from assessments.pool import create_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType
    from typing import NoReturn

_SIGPIPE_STATUS = 141  # as a shell reports a process that SIGPIPE ended
_TERMINATIONS = ("SIGTERM", "SIGHUP")  # not every system has both
# The driver's own, and the server's: asyncpg sends it every parameter that it does not know.
_BAD_PARAMETERS = (ValueError, asyncpg.UndefinedObjectError, asyncpg.InvalidParameterValueError)
_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError)


def run(url: str, work: Callable[[asyncpg.Pool[Any]], Awaitable[None]]) -> int:
    """Run *work* on a pool of one connection; report what failed and return the exit status."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    for name in _TERMINATIONS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)

    def run_on_pool() -> int:
        asyncio.run(_run_on_pool(url, work, on_interrupt))
        return 0

    return report_failure(run_on_pool)


def report_failure(act: Callable[[], int]) -> int:
    """Return the exit status of *act*; report what failed."""
    try:
        return act()
    except CommandError as error:
        print(error, file=sys.stderr)
        return error.status
    except output.ReaderClosedError:
        output.detach_stdout()
        return _SIGPIPE_STATUS


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    """Exit by an exception, so that files half-written are removed."""
    sys.exit(128 + number)


async def _run_on_pool(
    url: str, work: Callable[[asyncpg.Pool[Any]], Awaitable[None]], on_interrupt: Any
) -> None:
    # Since Python 3.11 asyncio.run has Ctrl-C wait for an await: not while we wait for input.
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        # Safe behind any pooler; an import's statement takes as long as it takes.
        pool = create_pool(url, pooler="transaction", min_size=1, max_size=1, command_timeout=None)
        await pool
    except _BAD_PARAMETERS:
        raise CommandError(errors.BAD_PARAMETER, errors.WRONG_USAGE) from None
    except _DRIVER_ERRORS as error:
        raise CommandError(describe(error), errors.OUT_OF_REACH) from None
    async with pool:
        try:
            await work(pool)
        except _DRIVER_ERRORS as error:
            raise CommandError(describe(error)) from None
