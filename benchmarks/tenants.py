"""What one schema a tenant costs: its migrations, the catalogue, and a call.

On an embedded PostgreSQL one database gets SCHEMAS schemas, each by a ``yoyo apply`` of its own, as
the loop of docs/scaling.md does, and another database gets one. Every schema holds the same rows. A
submission and a page of 20 then run in turn on one connection each: in the schema that is alone, in
the first and in the last of the many, and in transactions that begin with SET LOCAL search_path,
for one school and for each in turn. The figures are first deciles, because what else runs on the
machine only adds; also as a multiple of the schema that is alone; and the memory that the
connection's backend holds at the end.

    python -m benchmarks.tenants [SCHEMAS]
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
from itertools import cycle
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg

import assessments
from assessments.queries import folder
from assessments.testing import server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Connection = asyncpg.Connection[Any]

SCHEMAS = 100
TURNS = 1000
WARM_UP = 2 * SCHEMAS
OWNER = UUID(int=7, version=4)
"""An anonymous owner of 40 responses in each schema."""

# New statistics for the school with the most calls would give it other plans.
FILL = f"""
ALTER TABLE assessment_responses SET (autovacuum_enabled = FALSE);
INSERT INTO users SELECT FROM generate_series(1, 200);
INSERT INTO assessment_responses (user_id, anonymous_token, question_id, module_slug, answer_text)
SELECT
    CASE WHEN n > 40 THEN 1 + n % 200 END, CASE WHEN n <= 40 THEN '{OWNER}'::uuid END,
    'question-' || n % 500, 'module-' || n % 50, repeat('Because leaves are green. ', 8)
FROM generate_series(1, 2000) AS n;
ANALYZE users, assessment_responses, assessment_scores;
"""
CATALOGUE = """
SELECT
    (SELECT count(*) FROM pg_class) AS relations,
    (SELECT count(*) FROM pg_attribute) AS columns,
    (
        SELECT round(sum(pg_total_relation_size(oid)) / 1e6, 1) FROM pg_class
        WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'
    ) AS megabytes
"""


def school(number: int) -> str:
    """Return the name of a tenant's schema."""
    return f"school_{number}"


async def database(url: str, name: str, schemas: int) -> str:
    """Create a database with empty *schemas*, and return its URL."""
    conn = await asyncpg.connect(url)
    await conn.execute(f"CREATE DATABASE {name}")
    await conn.close()
    created = urlsplit(url)._replace(path=f"/{name}").geturl()
    conn = await asyncpg.connect(created)
    for number in range(1, schemas + 1):
        await conn.execute(f"CREATE SCHEMA {school(number)}")
    await conn.close()
    return created


def apply(url: str, schemas: int) -> list[float]:
    """Apply the migrations to each schema, and return the seconds of each."""
    migrations = folder("migrations")
    options = ["--no-config-file", "--batch", "--database", url]
    sources = [str(migrations / "standalone"), str(migrations)]
    command = [sys.executable, "-m", "yoyo", "apply", *options, *sources]
    taken = []
    for number in range(1, schemas + 1):
        path = {"PGOPTIONS": f"-c search_path={school(number)}"}
        begun = perf_counter()
        subprocess.run(command, env=os.environ | path, check=True)  # noqa: S603
        taken.append(perf_counter() - begun)
    return taken


async def connect(url: str, number: int) -> Connection:
    """Connect to a tenant's schema."""
    path = {"search_path": f"{school(number)}, pg_temp"}
    return await asyncpg.connect(url, server_settings=path)


async def fill(url: str, schemas: int) -> None:
    """Store the same rows in each schema."""
    for number in range(1, schemas + 1):
        conn = await connect(url, number)
        await conn.execute(FILL)
        await conn.close()


async def show_migrations(url: str, schemas: int) -> None:
    """Apply the migrations to each schema, twice, and print what that took."""
    conn = await asyncpg.connect(url)
    before = await conn.fetchrow(CATALOGUE)
    first, again = apply(url, schemas), apply(url, schemas)
    after = await conn.fetchrow(CATALOGUE)
    await conn.close()
    assert before and after  # noqa: PT018, S101 - an aggregate returns a row
    tenth = max(1, schemas // 10)
    print(f"yoyo apply of {schemas} schemas: {sum(first):.0f} s")
    print(
        f"  a schema: {statistics.median(first[:tenth]):.2f} s at first,"
        f" {statistics.median(first[-tenth:]):.2f} s at last,"
        f" {statistics.median(again):.2f} s with nothing to apply"
    )
    shown = (f"{before[name]:,} -> {after[name]:,} {name}" for name in dict(before))
    print(f"catalogue: {', '.join(shown)}\n")


def calls(conn: Connection) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return the calls to measure."""

    async def submit() -> Any:
        return await assessments.submit_response(
            conn,
            anonymous_token=uuid4(),
            question_id="question-1",
            module_slug="module-1",
            answer_text="Because leaves are green. " * 8,
        )

    async def page() -> Any:
        return await assessments.get_responses(conn, anonymous_token=OWNER, limit=20)

    return {"submission": submit, "page of 20": page}


def in_schema(
    conn: Connection, call: Callable[[], Awaitable[Any]], numbers: Iterator[int]
) -> Callable[[], Awaitable[Any]]:
    """Return *call* in a transaction that first finds the next schema."""

    async def run() -> None:
        async with conn.transaction():
            await conn.execute(f"SET LOCAL search_path = {school(next(numbers))}, pg_temp")
            await call()

    return run


async def measure(ways: list[Callable[[], Awaitable[Any]]]) -> list[float]:
    """Run *ways* in an order that changes each turn; return the microseconds of each."""
    chance = Random(7)  # noqa: S311 - what runs before a way has an effect on it
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(WARM_UP + TURNS):
        for index in chance.sample(range(len(ways)), len(ways)):
            begun = perf_counter()
            await ways[index]()
            taken[index].append(perf_counter() - begun)
    return [statistics.quantiles(each[WARM_UP:], n=10)[0] * 1e6 for each in taken]


async def show_calls(alone: str, many: str, schemas: int) -> None:
    """Print what the calls take, and the memory of the backends."""
    connections = {
        "one schema, alone in its database": await connect(alone, 1),
        f"the first of {schemas}": await connect(many, 1),
        f"the last of {schemas}": await connect(many, schemas),
        "SET LOCAL, one schema": await asyncpg.connect(many),
        f"SET LOCAL, each of {schemas} in turn": await asyncpg.connect(many),
    }
    taken: dict[str, list[float]] = {}
    for title in calls(connections[f"the first of {schemas}"]):
        ways = []
        for name, conn in connections.items():
            numbers = cycle(range(1, schemas + 1) if "each" in name else [1])
            call = calls(conn)[title]
            ways.append(in_schema(conn, call, numbers) if "SET" in name else call)
        taken[title] = await measure(ways)
    print(f"{'':38}{''.join(f'{title:>20}' for title in taken)}{'backend':>12}")
    for index, (name, conn) in enumerate(connections.items()):
        figures = (
            f"{each[index]:9.0f} µs {each[index] / each[0]:5.2f}x" for each in taken.values()
        )
        megabytes = await conn.fetchval(
            "SELECT sum(total_bytes) / 1e6 FROM pg_backend_memory_contexts"
        )
        print(f"{name:38}{''.join(f'{figure:>20}' for figure in figures)}{megabytes:9.1f} MB")
        await conn.close()


async def main(schemas: int) -> None:
    """Measure *schemas* schemas, and print the figures."""
    with server.running() as url:
        alone, many = await database(url, "alone", 1), await database(url, "many", schemas)
        conn = await asyncpg.connect(url)
        print(f"PostgreSQL {conn.get_server_version().major}\n")
        await conn.close()
        await show_migrations(many, schemas)
        apply(alone, 1)
        for created, number in ((alone, 1), (many, schemas)):
            await fill(created, number)
        await show_calls(alone, many, schemas)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else SCHEMAS))
