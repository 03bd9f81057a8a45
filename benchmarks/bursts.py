"""What a `BatchingWriter` stores in a burst, over the same calls on a pool of 16 connections.

In each round the ways run in turn, on one embedded server with durable commits. Workers call again
when their call has returned; "at once" means that all calls are made at one moment. pgbench stores
the same row from 64 connections with prepared statements; it comes with an installed PostgreSQL.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import assessments
from assessments import backoffice
from assessments.queries import named, queries
from assessments.testing import server
from benchmarks import measure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from benchmarks.measure import Figure, Scale

    Act = Callable[[], Awaitable[Any]]

TITLE = "Bursts"
ABOUT = (
    "Rows a second by a `BatchingWriter` over those by the library's calls on a pool of 16, fsync "
    "on; p50 and the lone call compare times."
)

_ROUNDS = {"smallest": 1, "usual": 9, "full": 31}
_CALLS = {"smallest": 64, "usual": 2000, "full": 4000}
_LONE_TURNS = {"smallest": 4, "usual": 300, "full": 2000}
_POOL, _PGBENCH_CLIENTS = 16, 64
_ANSWER: dict[str, Any] = {
    "question_id": "photosynthesis-why-green",
    "module_slug": "plant-biology",
    "answer_text": "Leaves look green because chlorophyll absorbs mostly red and blue. " * 5,
}
_SCRIPT = """
INSERT INTO assessment_responses (anonymous_token, question_id, module_slug, answer_text)
VALUES (gen_random_uuid(), '{question_id}', '{module_slug}', '{answer_text}')
RETURNING response_id, created_at;
"""


class Burst(NamedTuple):
    """What one burst achieved."""

    rate: float  # rows a second
    p50: float  # seconds


async def burst(act: Act, workers: int, calls: int) -> Burst:
    """Have *workers* make *calls* between them, each the next one when its last has returned."""
    taken: list[float] = []
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            begun = perf_counter()
            await act()
            taken.append(perf_counter() - begun)

    begun = perf_counter()
    await asyncio.gather(*(work() for _ in range(workers)))
    return Burst(calls / (perf_counter() - begun), statistics.median(taken))


async def run(scale: Scale) -> list[Figure]:
    """Return the ratios of each kind of burst."""
    async with (
        measure.database() as (url, conn),
        assessments.create_pool(url, min_size=_POOL, max_size=_POOL) as pool,
        assessments.BatchingWriter(pool) as writer,
        assessments.BatchingWriter(pool, connections=1) as single,
    ):
        await make_durable(conn)
        stored = await assessments.submit_response(pool, anonymous_token=uuid4(), **_ANSWER)
        score: Any = {"response_id": stored["response_id"], "score_data": {"points": 4, "of": 5}}
        sql = named("submit_response").sql
        names = queries.driver_adapter.var_sorted["submit_response"]

        def owned() -> dict[str, Any]:
            return {"anonymous_token": uuid4(), **_ANSWER}

        def bare() -> Awaitable[Any]:
            columns = {**owned(), "answer_metadata": "{}"}
            return pool.fetchrow(sql, *(columns.get(name) for name in names))

        ways: dict[str, Act] = {
            "pool": lambda: assessments.submit_response(pool, **owned()),
            "bare": bare,
            "writer": lambda: writer.submit_response(**owned()),
            "single": lambda: single.submit_response(**owned()),
            "pool's scores": lambda: backoffice.record_score(pool, **score),
            "scores": lambda: writer.record_score(**score),
        }
        calls = _CALLS[scale]
        rounds = [await one_round(ways, url, calls) for _ in range(_ROUNDS[scale] + 1)][1:]
        figures = [
            compare("64 workers", rounds, ("writer", 64), ("pool", 64)),
            compare("64 workers over bare asyncpg", rounds, ("writer", 64), ("bare", 64)),
            compare("64 workers, one connection", rounds, ("single", 64), ("pool", 64)),
            *(
                [compare("64 workers over pgbench", rounds, ("writer", 64), ("pgbench", 64))]
                if ("pgbench", 64) in rounds[0]
                else []
            ),
            measure.spread(
                "64 workers, p50",
                [each["writer", 64].p50 / each["pool", 64].p50 for each in rounds],
                note=f"{statistics.median(r['writer', 64].p50 for r in rounds) * 1000:.3g} ms",
            ),
            compare("64 at once", rounds, ("writer", 0), ("pool", 0)),
            compare("1,000 at once", rounds, ("writer", 1000), ("pool", 1000)),
            compare("one worker", rounds, ("writer", 1), ("pool", 1)),
            compare("scores, 64 workers", rounds, ("scores", 64), ("pool's scores", 64)),
            compare("scores, 1,000 at once", rounds, ("scores", 1000), ("pool's scores", 1000)),
        ]
        plain, lone = await measure.interleave(
            [
                measure.Way("pool", lambda _: ways["pool"]()),
                measure.Way("writer", lambda _: ways["writer"]()),
            ],
            _LONE_TURNS[scale],
        )
        note = measure.milliseconds(lone)
        return [*figures, measure.ratio("lone call, time", lone, plain, note=note)]


async def one_round(ways: dict[str, Act], url: str, calls: int) -> dict[tuple[str, int], Burst]:
    """Return the bursts of every way, by their number of workers; 0 stands for 64 at once."""
    done = {}
    for name, act in ways.items():
        done[name, 64] = await burst(act, 64, calls)
        done[name, 1000] = await burst(act, 1000, 1000)
        if name in ("pool", "writer"):
            done[name, 0] = await burst(act, 64, 64)
            done[name, 1] = await burst(act, 1, max(64, calls // 20))
    if rate := await pgbench(url, calls):
        done["pgbench", 64] = Burst(rate, 0)
    return done


def compare(
    name: str,
    rounds: list[dict[tuple[str, int], Burst]],
    ours: tuple[str, int],
    theirs: tuple[str, int],
) -> Figure:
    """Return the rate of *ours* over that of *theirs*, round by round."""
    ratios = [each[ours].rate / each[theirs].rate for each in rounds]
    note = f"{statistics.median(each[ours].rate for each in rounds):,.0f} rows/s"
    return measure.spread(name, ratios, note=note)


async def make_durable(conn: asyncpg.Connection[Any]) -> None:
    """Turn on what the embedded server turns off, and wait until it is on."""
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        await conn.execute(f"ALTER SYSTEM SET {setting} = on")
    await conn.execute("SELECT pg_reload_conf()")
    for _ in range(1000):
        if await conn.fetchval("SELECT current_setting('fsync')") == "on":
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def pgbench(url: str, calls: int) -> float | None:
    """Return the rows a second by pgbench, or ``None`` where there is none."""
    binaries = server.installed_binaries()
    if binaries is None or not (binaries / "pgbench").exists():
        return None
    parts = urlsplit(url)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "submit.sql"
        script.write_text(_SCRIPT.format(**_ANSWER), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(binaries / "pgbench", "-n", "-M", "prepared", "-c", str(_PGBENCH_CLIENTS), "-j", "2"),
            *("-t", str(max(1, calls // _PGBENCH_CLIENTS)), "-f", script),
            *("-h", parse_qs(parts.query)["host"][0], "-U", parts.username or "postgres"),
            parts.path.removeprefix("/"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(errors.decode())
    found = re.search(r"tps = ([\d.]+) \(without", output.decode())
    return float(found[1]) if found else None
