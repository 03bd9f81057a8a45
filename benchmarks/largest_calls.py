"""What the largest legal calls take: time, memory, and the longest time without an await.

Each case runs in a process of its own, on an embedded PostgreSQL, twice: by the library, and by
bare asyncpg with the same SQL and the arguments encoded beforehand, whose rows stay records. The
longest stall is the longest time in which another task of the event loop does not run, memory what
the call adds to the process's peak. The medians of three runs.

    python benchmarks/largest_calls.py
"""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import subprocess
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

import assessments
from assessments import backoffice
from assessments.queries import named, queries, text_arrays
from assessments.testing import migrations, server
from assessments.validation import MAX_ANSWER_BYTES, MAX_METADATA_BYTES, MAX_SCORE_BYTES, arguments

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RUNS = 3
TOKEN = UUID(int=1)
RESPONSE: dict[str, Any] = {"anonymous_token": TOKEN, "question_id": "q1", "module_slug": "m1"}
ORDINARY = {**RESPONSE, "answer_text": "Because. " * 40, "answer_metadata": {"locale": "en"}}
LONG = {**RESPONSE, "answer_text": "a" * (MAX_ANSWER_BYTES - 1024)}


def json_of(size: int) -> dict[str, Any]:
    """Return an object of many small members, as large as it may be."""
    member = {"at": 0.125, "key": "k1", "of": None}
    return {"steps": [member] * (size // len('{"at":0.125,"key":"k1","of":null},') - 1)}


WITH_JSON = {**RESPONSE, "answer_text": "", "answer_metadata": json_of(MAX_METADATA_BYTES)}
LARGEST = {**LONG, "answer_metadata": WITH_JSON["answer_metadata"]}
SCORE = {"response_id": 1, "score_data": json_of(MAX_SCORE_BYTES)}

SUBMITS: dict[str, list[Any]] = {
    "submit_responses, 10,000 ordinary": [ORDINARY] * 10_000,
    "submit_responses, 64 of 1 MiB": [LONG] * 64,
    "submit_responses, 1,000 with 64 KiB of metadata": [WITH_JSON] * 1_000,
}
PAGES = {"get_responses, 10,000 ordinary": ORDINARY, "get_responses, 100 of the largest": LARGEST}
SCORES = {"record_scores, 250 of 256 KiB": [SCORE] * 250}


class Stall:
    """The longest time in which this task did not run."""

    longest = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        last = perf_counter()
        while True:
            await asyncio.sleep(0)
            now = perf_counter()
            self.longest, last = max(self.longest, now - last), now


async def measure(call: Callable[[], Awaitable[Any]]) -> tuple[float, float, float]:
    """Return the milliseconds of *call*, of its longest stall, and the MiB that it adds."""
    gc.collect()
    stall, before = Stall(), peak()
    watching = asyncio.create_task(stall.watch())
    await asyncio.sleep(0)
    start = perf_counter()
    await call()
    taken = perf_counter() - start
    watching.cancel()
    return taken * 1000, stall.longest * 1000, peak() - before


def peak() -> float:
    """Return the largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def bare(conn: Any, name: str, values: dict[str, Any]) -> Any:
    """Run a query by asyncpg alone."""
    order = queries.driver_adapter.var_sorted[name]
    return await conn.fetch(named(name).sql, *[values[parameter] for parameter in order])


async def run_case(url: str, title: str, way: str) -> None:
    """Print the figures of one case."""
    conn = await asyncpg.connect(url)
    await conn.execute("TRUNCATE assessment_responses, assessment_scores")
    call: Callable[[], Awaitable[Any]]
    if title in SUBMITS:
        given = SUBMITS[title]
        arrays = text_arrays(await arguments.check_new_responses(given))
        facade = lambda: assessments.submit_responses(conn, given)  # noqa: E731
        call = facade if way == "library" else lambda: bare(conn, "submit_responses", arrays)
    elif title in SCORES:
        (stored,) = await assessments.submit_responses(conn, [ORDINARY])  # type: ignore[list-item]
        scores: Any = [{**SCORE, "response_id": stored["response_id"]}] * 250
        arrays = text_arrays(await arguments.check_new_scores(scores))
        recorded = lambda: backoffice.record_scores(conn, scores)  # noqa: E731
        call = recorded if way == "library" else lambda: bare(conn, "record_scores", arrays)
    else:
        size = 100 if "100 of" in title else 10_000
        for _ in range(size // 50):
            await assessments.submit_responses(conn, [PAGES[title]] * 50)  # type: ignore[list-item]
        page = arguments.check_page(arguments.check_owner(None, TOKEN), None, None, size, None)
        read = lambda: assessments.get_responses(conn, anonymous_token=TOKEN, limit=size)  # noqa: E731
        call = read if way == "library" else lambda: bare(conn, "get_responses", page)
    print(*await measure(call))
    await conn.close()


def main() -> None:
    """Measure each case and print a row for it."""
    print(f"{'':50}{'library':>27}{'bare asyncpg':>28}")
    print(f"{'':50}" + f"{'ms':>9}{'stall':>8}{'MiB':>10}" * 2)
    with server.running() as url:
        migrations.apply(url)
        for title in (*SUBMITS, *SCORES, *PAGES):
            row = f"{title:50}"
            for way in ("library", "bare"):
                runs = [measured(url, title, way) for _ in range(RUNS)]
                taken, stall, memory = map(statistics.median, zip(*runs, strict=True))
                row += f"{taken:9,.0f}{stall:8,.0f}{memory:10,.0f}"
            print(row)


def measured(url: str, title: str, way: str) -> list[float]:
    """Return the figures of one case, from a process of its own."""
    command = [sys.executable, __file__, url, title, way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return [float(figure) for figure in done.stdout.split()]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(run_case(*sys.argv[1:]))
    else:
        main()
