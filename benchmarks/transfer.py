"""Time and peak memory of an export and an import; memory must not grow with the responses.

On an embedded PostgreSQL one database is filled with responses of about 300 characters, half of
them with a score, exported to a file, and imported into another, which holds only the users. In a
third the import is killed half-way and run again. Each command is a process of its own; its wall
time and its peak resident memory are printed, for a tenth of the responses first. Linux counts the
memory of a child before it became the command, so no peak is below this process's own: the figures
are upper bounds.

    python benchmarks/transfer.py [RESPONSES]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg

from assessments.testing import migrations, server

RESPONSES = 100_000
USERS = 1000
IMPORT = ("import", "--same-users", "--database")


class Run(NamedTuple):
    """The exit status of a command, its time and memory, and its standard error."""

    status: int
    seconds: float
    peak_mib: float
    stderr: str


async def main(responses: int) -> None:
    """Measure a tenth and all of *responses*, and print a row for each command."""
    with server.running() as url, tempfile.TemporaryDirectory() as folder:
        print(f"{'':32}{'seconds':>9}{'peak MiB':>10}")
        for count in (responses // 10, responses):
            file = Path(folder) / f"{count}.jsonl"
            await measure(url, count, file)


async def measure(url: str, count: int, file: Path) -> None:
    """Export and import *count* responses by way of *file*."""
    source, target, resumed = [
        await database(url, f"{name}_{count}") for name in ("source", "target", "resumed")
    ]
    conn = await asyncpg.connect(source)
    await fill(conn, count)
    await conn.close()

    show(f"export {count:,}", run("export", "--database", source, "--output", file))
    show(f"import {count:,}", run(*IMPORT, target, file))
    show(f"import {count:,} again", run(*IMPORT, target, file))

    conn = await asyncpg.connect(resumed)
    process = start(*IMPORT, resumed, file)
    while (await stored(conn))[0] < count // 2:
        pass
    process.kill()
    finish(process, time.perf_counter())
    half = await stored(conn)
    show(f"  rest, killed at {half[0]:,}", run(*IMPORT, resumed, file))
    if await stored(conn) != (count, count // 2):
        raise AssertionError("the import that was run again is not whole")
    await conn.close()


async def database(url: str, name: str) -> str:
    """Return the URL of a new, migrated database with users."""
    conn = await asyncpg.connect(url)
    await conn.execute(f"CREATE DATABASE {name}")
    await conn.close()
    created = urlsplit(url)._replace(path=f"/{name}").geturl()
    migrations.apply(created)
    conn = await asyncpg.connect(created)
    await conn.execute("INSERT INTO users SELECT FROM generate_series(1, $1::bigint)", USERS)
    await conn.close()
    return created


async def fill(conn: asyncpg.Connection[Any], count: int) -> None:
    """Store *count* responses, two thirds of them users', and score every other one."""
    await conn.execute(
        """
        INSERT INTO assessment_responses
            (user_id, anonymous_token, question_id, module_slug, answer_text, answer_metadata,
             created_at)
        SELECT
            CASE WHEN n % 3 > 0 THEN 1 + n % $2::bigint END,
            CASE WHEN n % 3 = 0 THEN md5(n::text)::uuid END,
            'question-' || n % 500, 'module-' || n % 50,
            n || repeat(' Leaves look green because chlorophyll absorbs red and blue.', 5),
            '{"locale": "en", "seconds": 184}', now() - n * interval '1 second'
        FROM generate_series(1, $1::bigint) AS n
        """,
        count,
        USERS,
    )
    await conn.execute(
        """
        INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version)
        SELECT response_id, '{"points": 4, "of": 5, "feedback": "Say why."}', 'model', 'p7'
        FROM assessment_responses
        WHERE response_id % 2 = 0
        """
    )
    await conn.execute("ANALYZE")


async def stored(conn: asyncpg.Connection[Any]) -> tuple[int, int]:
    """Return how many responses and scores there are."""
    row = await conn.fetchrow(
        "SELECT (SELECT count(*) FROM assessment_responses) AS responses, "
        "(SELECT count(*) FROM assessment_scores) AS scores"
    )
    assert row  # noqa: S101 - it always has one
    return row["responses"], row["scores"]


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Start ``assessments`` with *arguments*."""
    command = [sys.executable, "-m", "assessments", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)  # noqa: S603


def finish(process: subprocess.Popen[bytes], begun: float) -> Run:
    """Wait for *process*, and return its figures since *begun*."""
    assert process.stderr  # noqa: S101 - it is a pipe
    stderr = process.stderr.read().decode()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss, in a MiB
    return Run(process.returncode, time.perf_counter() - begun, usage.ru_maxrss / unit, stderr)


def run(*arguments: object) -> Run:
    """Run ``assessments`` with *arguments*, which must succeed."""
    begun = time.perf_counter()
    done = finish(start(*arguments), begun)
    if done.status:
        sys.exit(done.stderr)
    return done


def show(title: str, done: Run) -> None:
    """Print a row."""
    print(f"{title:32}{done.seconds:9.1f}{done.peak_mib:10.1f}   {done.stderr.strip()}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else RESPONSES))
