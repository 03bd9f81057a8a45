"""What many calls at once take: the library's over bare asyncpg's, on pools of 16 connections.

A round is so many tasks that share the calls of the round; the ways' rounds run in turn. pgbench
runs the library's SQL as prepared statements on as many connections as there are tasks. The server
has fsync off, so that the clients' work counts and not the disk's: bursts with fsync on are
`benchmarks.bursts`.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg

import assessments
from assessments.queries import named, queries
from benchmarks import data, measure
from benchmarks.calls import response
from tests.helpers import pgbouncer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.measure import Figure, Scale

TITLE = "Many calls at once"
ABOUT = "Time of a round of submits: the library over bare asyncpg; pgbench over the library."

_CALLS = {1: 100, 16: 480, 64: 640, 1000: 1000}
"""How many calls a round has, for each number of tasks."""
_SMALLEST = {1: 2, 16: 16, 64: 64}
_ROUNDS = {"smallest": 1, "usual": 9, "full": 30}
_POOL = 16
_MOST_CLIENTS = 64


async def shared(call: Callable[[], Awaitable[Any]], tasks: int, calls: int, _: Any = None) -> None:
    """Make *calls* calls from *tasks* tasks."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(work() for _ in range(tasks)))


def library(pool: Any) -> Callable[[], Awaitable[Any]]:
    """Return the library's submit on *pool*."""
    token = uuid4()
    return lambda: assessments.submit_response(pool, anonymous_token=token, **data.RESPONSE)


def bare(pool: Any) -> Callable[[], Awaitable[Any]]:
    """Return the same submit by bare asyncpg."""
    text, arguments = submit()

    async def call() -> Any:
        return response(await pool.fetchrow(text, *arguments))

    return call


def submit() -> tuple[str, list[Any]]:
    """Return the SQL of a submit, and its arguments in order."""
    columns = {"anonymous_token": uuid4(), "answer_metadata": "{}", **data.RESPONSE}
    names = queries.driver_adapter.var_sorted["submit_response"]
    return named("submit_response").sql, [columns.get(name) for name in names]


def pgbench_script() -> str:
    """Return the same submit with its arguments in place, as pgbench sends it."""
    text, arguments = submit()
    literals = ["NULL" if value is None else f"'{value}'" for value in arguments]
    return re.sub(r"\$(\d+)", lambda match: literals[int(match[1]) - 1], text) + ";\n"


def seconds_of_pgbench(binary: str, url: str, script: Path, clients: int, calls: int) -> float:
    """Return what pgbench takes for a round, without the time in which it connects."""
    options = ["-n", "-M", "prepared", "-c", clients, "-t", max(1, calls // clients), "-f", script]
    command = [binary, *map(str, options), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    found = re.search(r"tps = ([\d.]+) \(without", done.stdout)
    if found is None:
        raise RuntimeError(done.stdout)
    return calls / float(found[1])


async def measure_pools(
    ours: Any, theirs: Any, levels: dict[int, int], rounds: int, suffix: str = ""
) -> list[Figure]:
    """Return the library's rounds over bare asyncpg's, for each number of tasks."""
    found = []
    for tasks, calls in levels.items():
        if suffix and tasks == 1:
            continue  # `benchmarks.peers` has it
        ways = [
            measure.Way("library", partial(shared, library(ours), tasks, calls)),
            measure.Way("bare", partial(shared, bare(theirs), tasks, calls)),
        ]
        taken = await measure.interleave(ways, rounds, 2)
        rate = f"{calls / sorted(taken[0])[len(taken[0]) // 2]:,.0f} calls/s"
        found.append(measure.ratio(f"library, {tasks:,} at once{suffix}", *taken, note=rate))
    return found


async def measure_pgbench(
    binary: str, url: str, ours: Any, levels: dict[int, int], rounds: int
) -> list[Figure]:
    """Return pgbench's rounds over the library's, for each number of clients that it can have."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "submit.sql"
        script.write_text(pgbench_script(), encoding="utf-8")
        for clients, calls in levels.items():
            if clients > _MOST_CLIENTS:
                continue
            theirs, own = [], []
            for _ in range(rounds):
                run = partial(seconds_of_pgbench, binary, url, script, clients, calls)
                theirs.append(await asyncio.to_thread(run))
                way = measure.Way("library", partial(shared, library(ours), clients, calls))
                own += (await measure.interleave([way], 1, 0))[0]
            found.append(measure.ratio(f"pgbench, {clients} clients", theirs, own))
    return found


async def run(scale: Scale) -> list[Figure]:
    """Measure directly, beside pgbench and through PgBouncer, where these are installed."""
    rounds, levels = _ROUNDS[scale], _SMALLEST if scale == "smallest" else _CALLS
    size: dict[str, Any] = {"min_size": _POOL, "max_size": _POOL}
    async with measure.database(data.LOAD) as (url, _), AsyncExitStack() as stack:
        ours = await stack.enter_async_context(assessments.create_pool(url, **size))
        theirs = await stack.enter_async_context(asyncpg.create_pool(url, **size))
        found = await measure_pools(ours, theirs, levels, rounds)
        if binary := shutil.which("pgbench"):
            found += await measure_pgbench(binary, url, ours, levels, rounds)
        if pgbouncer.binary():
            options = {"default_pool_size": _POOL, "max_client_conn": 200}
            pooled = stack.enter_context(pgbouncer.running(url, **options))
            ours = await stack.enter_async_context(
                assessments.create_pool(pooled, pooler="transaction", **size)
            )
            theirs = await stack.enter_async_context(
                asyncpg.create_pool(pooled, statement_cache_size=0, **size)
            )
            found += await measure_pools(ours, theirs, levels, rounds, ", through PgBouncer")
    return found
