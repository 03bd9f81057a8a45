"""What the commands that work on a live database share: its URL, a pool, errors in one line."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments.pool import create_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import FrameType
    from typing import BinaryIO, NoReturn

_READER_GONE = 141  # as a shell reports a process that SIGPIPE ended
_ENDINGS = ("SIGTERM", "SIGHUP")  # not every system has both
# What these classes of SQLSTATE say holds no value of a row. Others quote what they refuse.
_CLASSES_TO_QUOTE = ("28", "3D", "53", "55", "57", "58")
_NO_RIGHTS = "42501"
# Table, column or unique index that a migration brings.
_NOT_MIGRATED = ("42P01", "42703", "42P10")
_NO_SERVER = "no connection to the server"
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError)


class CommandError(Exception):
    """Ends a command with status 1; the message is what its user is told, in one line."""


class _ReaderGoneError(Exception):
    """Whoever read standard output has closed it."""


def add_database(parser: argparse.ArgumentParser) -> None:
    """Give *parser* the option ``--database``."""
    url = os.environ.get("DATABASE_URL") or None
    parser.add_argument(
        "--database",
        metavar="URL",
        type=_given,
        default=url,
        required=not url,
        help="postgresql://… of the database; by default, $DATABASE_URL",
    )


def _given(url: str) -> str:
    if not url:  # for which asyncpg would look elsewhere
        raise argparse.ArgumentTypeError("must not be empty")
    return url


def run(url: str, work: Callable[[asyncpg.Pool[Any]], Awaitable[None]]) -> int:
    """Run *work* on a pool of one connection; return the exit status, having said what failed."""
    interrupted = signal.getsignal(signal.SIGINT)
    for name in _ENDINGS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        asyncio.run(_connected(url, work, interrupted))
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1
    except _ReaderGoneError:
        _let_go_of_standard_output()
        return _READER_GONE
    return 0


def write(stream: BinaryIO, lines: Iterable[bytes]) -> None:
    """Write *lines* to standard output or a file, and let them go."""
    try:
        stream.writelines(lines)
        stream.flush()
    except BrokenPipeError:
        raise _ReaderGoneError from None
    except OSError as error:
        if stream is sys.stdout.buffer:
            _let_go_of_standard_output()
        raise CommandError(f"cannot write: {error.strerror}") from None


def _let_go_of_standard_output() -> None:
    """Give the interpreter, which flushes at its end, somewhere to flush to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    """End in order, so that nothing half-written is left behind."""
    sys.exit(128 + number)


async def _connected(
    url: str, work: Callable[[asyncpg.Pool[Any]], Awaitable[None]], interrupted: Any
) -> None:
    # asyncio.run, since Python 3.11, lets a Ctrl-C wait for an await: not while we wait for input.
    signal.signal(signal.SIGINT, interrupted)
    try:
        # Safe behind any pooler; an import's statement takes as long as it takes.
        pool = create_pool(url, pooler="transaction", min_size=1, max_size=1, command_timeout=None)
        await pool
    except ValueError:
        raise CommandError(
            "--database: not a postgresql:// URL (in a password, write other characters than "
            "letters and digits as %XX)"
        ) from None
    except _FAILURES as error:
        raise CommandError(_said(error)) from None
    async with pool:
        try:
            await work(pool)
        except _FAILURES as error:
            raise CommandError(_said(error)) from None


def _said(error: BaseException) -> str:
    """Return what *error* says, as far as it can hold neither a password nor anybody's data."""
    if isinstance(error, asyncpg.PostgresError):
        message = str(error.args[0]).partition("\n")[0]
        if isinstance(error, asyncpg.PostgresConnectionError):
            return f"{_NO_SERVER}: {message}"
        if error.sqlstate in _NOT_MIGRATED:
            return (
                f"{message}: apply the migrations; `assessments migrations` prints where they are"
            )
        if error.sqlstate == _NO_RIGHTS or error.sqlstate[:2] in _CLASSES_TO_QUOTE:
            return f"PostgreSQL says: {message}"
        return f"PostgreSQL refused with SQLSTATE {error.sqlstate} ({type(error).__name__})"
    if isinstance(error, OSError) and error.strerror:
        # The system's own words for its own numbers: asyncio puts addresses into them.
        known = error.errno if error.errno in errno.errorcode else None
        return f"{_NO_SERVER}: {os.strerror(known) if known else error.strerror}"
    return f"{_NO_SERVER}: {type(error).__name__}"
