"""Runs a command on a database: its pool, its errors, its exit status."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.cli import errors, output, signals
from assessments.cli.errors import CommandError, describe
from assessments.pool import create_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_SIGPIPE_STATUS = 141  # as a shell reports a process that SIGPIPE ended
# The driver's own, and the server's: asyncpg sends it every parameter that it does not know.
_BAD_PARAMETERS = (ValueError, asyncpg.UndefinedObjectError, asyncpg.InvalidParameterValueError)
_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError)


def run(url: str, work: Callable[[asyncpg.Pool[Any]], Awaitable[None]]) -> int:
    """Run *work* on a pool of one connection; report what failed and return the exit status."""

    def run_on_pool() -> int:
        signals.run(_run_on_pool(url, work))
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


async def _run_on_pool(url: str, work: Callable[[asyncpg.Pool[Any]], Awaitable[None]]) -> None:
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
