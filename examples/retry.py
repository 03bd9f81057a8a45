"""Retry an idempotent call until it succeeds or a deadline has passed.

    key = uuid4()  # once, before the first try; better still, in the browser
    stored = await retried(
        lambda: assessments.submit_response(pool, submission_key=key, **answer)
    )

Idempotent are reads, claims, the erasure, the purge, and a submission whose ``submission_key`` was
created before its first try. A retried submission without one may store a second row, and a
retried score a second score. Pass the pool, so that each try gets a working connection. Retry a
transaction as a whole: PostgreSQL has rolled all of it back.
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

# Nothing was stored: any call is safe to retry.
UNDONE = (
    asyncpg.SerializationError,  # 40001
    asyncpg.DeadlockDetectedError,  # 40P01
    asyncpg.InvalidCachedStatementError,  # 0A000: a migration ran during the transaction
    asyncpg.LockNotAvailableError,  # 55P03: lock_timeout
    asyncpg.TooManyConnectionsError,  # 53300
    asyncpg.CannotConnectNowError,  # 57P03: the server is starting, stopping or recovering
    asyncpg.ReadOnlySQLTransactionError,  # 25006: a standby, about to be promoted in a failover
)
# The outcome is unknown: asyncpg lost the connection before, while or after the statement was sent,
# and a pool does not distinguish the call from its own clean-up.
UNKNOWN = (
    asyncpg.StatementCompletionUnknownError,  # 40003
    asyncpg.PostgresConnectionError,  # 08: "connection was closed in the middle of operation"
    asyncpg.InterfaceError,  # "connection is closed"
    asyncpg.InternalClientError,  # "cannot switch to state …": neither of the above
    asyncpg.QueryCanceledError,  # 57014: statement_timeout, pg_cancel_backend
    asyncpg.AdminShutdownError,  # 57P01: pg_terminate_backend
    asyncpg.CrashShutdownError,  # 57P02: another server process crashed
    OSError,  # no server at the address
    asyncio.TimeoutError,  # command_timeout; TimeoutError itself from Python 3.11 on
)


async def retried(call: Callable[[], Awaitable[T]], *, seconds: float = 30) -> T:
    """Return the result of *call*, retried until *seconds* have passed.

    The pause between tries is random, up to 50 ms at first and doubled each time up to 2 s, so that
    many clients do not return to a server together.

    Raises:
        Exception: The last error of the call, or the first that a retry cannot help, such as
            `InvalidInput`.
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while True:
        try:
            return await call()
        except (*UNDONE, *UNKNOWN) as error:
            # Not for a wrong argument or DSN, nor for a closed pool.
            permanent = isinstance(error, ValueError) or "pool is clos" in str(error)
            if permanent or time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - spreads load
        pause = min(2 * pause, 2)
