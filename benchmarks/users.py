"""What the recipes of docs/users.md cost: a sign-in, a user's bytes, the lock of a new column.

On an embedded PostgreSQL, by the page's own SQL: the median milliseconds of a sign-in through the
mapping table, beside ``SELECT 1``; the bytes of a user there, indexes included; and the seconds for
which adding a column to ``users`` blocks everybody who reads it. Last the median milliseconds of
`assessments.check`, on a pool.

    python -m benchmarks.users [USERS]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg

import assessments
from assessments.testing import migrations, server
from tests.helpers import pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

USERS = 1_000_000
SIGN_INS = 2_000
CHECKS = 50
PAGE = "docs/users.md"
INTEGER, UUID = pages.blocks(PAGE, "sql", "A column in your table")[:2]
TABLE, *_ = pages.blocks(PAGE, "sql", "A mapping table")
SIGN_IN = next(block for block in pages.blocks(PAGE, "sql") if block.startswith("WITH known"))
HOST = """
CREATE TABLE users (
    id {key} PRIMARY KEY, email text NOT NULL UNIQUE, hashed_password text NOT NULL,
    is_active boolean NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO users
SELECT {value}, n || '@example.com', repeat('x', 88), TRUE FROM generate_series(1, {users}) AS n;
CHECKPOINT;
"""


async def seconds(work: Callable[[], Awaitable[Any]]) -> float:
    """Return how long *work* takes."""
    start = perf_counter()
    await work()
    return perf_counter() - start


async def time_columns(conn: Any, users: int) -> None:
    """Add the column to a table of integer keys, and to one of UUIDs."""
    cases = (("integer", "n", INTEGER), ("uuid", "gen_random_uuid()", UUID))
    for key, value, alter in cases:
        await conn.execute(HOST.format(key=key, value=value, users=users))
        taken = await seconds(lambda alter=alter: conn.execute(alter))  # type: ignore[misc]
        print(f"a column in users, {key} keys, {users:,} users: {taken:.1f} s")
        await conn.execute("DROP TABLE users")


async def time_sign_ins(conn: Any) -> None:
    """Sign users in for the first time and again; count their bytes."""
    await conn.execute("CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid PRIMARY KEY)")
    await conn.execute("CREATE ROLE assessments_app")
    await conn.execute(TABLE)
    ids = [uuid4() for _ in range(SIGN_INS)]
    await conn.executemany("INSERT INTO auth.users VALUES ($1)", [(key,) for key in ids])

    async def median(statement: str, arguments: list[tuple[Any, ...]]) -> float:
        taken = [await seconds(lambda a=a: conn.fetchval(statement, *a)) for a in arguments]  # type: ignore[misc]
        return statistics.median(taken) * 1000

    keys = [(key,) for key in ids]
    for title, statement, arguments in (
        ("a first sign-in", SIGN_IN, keys),
        ("a sign-in of a known user", SIGN_IN, keys),
        ("SELECT 1", "SELECT 1", [()] * SIGN_INS),
    ):
        print(f"{title}: {await median(statement, arguments):.2f} ms")
    size = await conn.fetchval("SELECT pg_total_relation_size('assessments.users')")
    print(f"a user in the mapping table: {size / SIGN_INS:.0f} bytes")


async def time_checks(url: str) -> None:
    """Check a migrated database again and again."""
    await asyncio.to_thread(migrations.apply, url)
    async with assessments.create_pool(url) as pool:
        for title, work in (
            ("assessments.check", lambda: assessments.check(pool)),
            ("SELECT 1", lambda: pool.fetchval("SELECT 1")),
        ):
            taken = [await seconds(work) for _ in range(CHECKS)]
            print(f"{title}, on a pool: {statistics.median(taken) * 1000:.1f} ms")


async def main(users: int) -> None:
    """Measure all and print the figures."""
    with server.running() as url:
        conn = await asyncpg.connect(url)
        print((await conn.fetchval("SELECT version()")).partition(" on ")[0])
        await time_sign_ins(conn)
        await time_columns(conn, users)
        await conn.close()
        await time_checks(url)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else USERS))
