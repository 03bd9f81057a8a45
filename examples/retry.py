"""Calls that may be repeated, made again until they are through or a deadline has passed.

    key = uuid4()  # once, before the first attempt; better still in the browser, with the answer
    stored = await retried(
        lambda: assessments.submit_response(pool, submission_key=key, **answer)
    )

*May be repeated* are reads, claims, the erasure, the purge, and a submit whose ``submission_key``
was made before its first attempt. A submit without one may become a second row, and a score a
second score. Hand in the pool, so that each attempt gets a connection that works. Where several
statements stand in a transaction, make the whole transaction the call: it is gone as a whole.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, TypeVar

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

# Nothing was stored: whatever the call was, it may be made again.
UNDONE = (
    asyncpg.SerializationError,  # 40001
    asyncpg.DeadlockDetectedError,  # 40P01
    asyncpg.InvalidCachedStatementError,  # 0A000: a migration came in mid-transaction
    asyncpg.LockNotAvailableError,  # 55P03: lock_timeout
    asyncpg.TooManyConnectionsError,  # 53300
    asyncpg.CannotConnectNowError,  # 57P03: the server starts, stops or recovers
)
# The statement may have been committed: asyncpg lost the connection before, while or after it was
# sent, and a pool does not tell the call from its own clean-up after it.
UNKNOWN = (
    asyncpg.StatementCompletionUnknownError,  # 40003
    asyncpg.PostgresConnectionError,  # 08: "connection was closed in the middle of operation"
    asyncpg.InterfaceError,  # "connection is closed"
    asyncpg.InternalClientError,  # "cannot switch to state …": a class apart
    asyncpg.QueryCanceledError,  # 57014: statement_timeout, pg_cancel_backend
    asyncpg.AdminShutdownError,  # 57P01: pg_terminate_backend
    asyncpg.CrashShutdownError,  # 57P02: another server process crashed
    OSError,  # no server at the address
    asyncio.TimeoutError,  # command_timeout; TimeoutError itself from Python 3.11 on
)


async def retried(call: Callable[[], Awaitable[T]], *, seconds: float = 30) -> T:
    """Return what *call* returns, at an attempt that begins before *seconds* have passed.

    Between attempts it waits at random up to 50 ms, then up to twice as long each time, at most
    2 s, so that many clients do not come back to a server at the same moment.

    Raises:
        Exception: The call's last, or its first that no repetition helps, such as `InvalidInput`.
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while True:
        try:
            return await call()
        except (*UNDONE, *UNKNOWN) as error:
            # asyncpg's word for a wrong argument or DSN, and for a pool that was closed.
            final = isinstance(error, ValueError) or "pool is clos" in str(error)
            if final or time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - spreads load
        pause = min(2 * pause, 2)
