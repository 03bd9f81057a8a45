"""Time of each query of ``assessments report``, and of the command, on a million responses.

Loads the tables of benchmarks/plans.py, one response in ten scored by a second prompt version too
and one in ten by a person, with some hundred bytes of feedback in each score, and prints a line for
each query. The command is a process of its own: its time and its peak memory are printed last.

    python -m benchmarks.report [ROWS]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from assessments.cli import report_data
from assessments.queries import queries
from assessments.testing import migrations, server
from benchmarks.plans import LOAD, ROWS
from benchmarks.transfer import command

SCORES = """
DELETE FROM assessment_scores;
INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version, created_at)
SELECT
    r.response_id,
    jsonb_build_object(
        'points', hashint8(r.response_id + n) & 3, 'of', 5, 'feedback', repeat('Say why. ', 20)
    ),
    CASE WHEN n < 3 THEN 'model-1' END, CASE n WHEN 1 THEN 'p1' WHEN 2 THEN 'p2' END,
    r.created_at + n * interval '40 seconds'
FROM assessment_responses AS r
CROSS JOIN generate_series(1, 3) AS n
WHERE r.response_id <= $1 - 100 AND (n = 1 OR r.response_id % 10 = n)
ORDER BY r.response_id, n;
"""


async def main(rows: int) -> None:
    """Load *rows* responses and print a line for each query."""
    with server.running() as url, tempfile.TemporaryDirectory() as folder:
        migrations.apply(url)
        conn = await asyncpg.connect(url)
        for statement in (LOAD + SCORES.strip() + "\n").split(";\n")[:-1]:
            await conn.execute(statement.replace("$1", str(rows)))
        await conn.execute("VACUUM ANALYZE")
        scores = await conn.fetchval("SELECT count(*) FROM assessment_scores")
        print(f"{rows:,} responses, {scores:,} scores")
        await conn.close()
        await measure(url)
        file = Path(folder) / "report.html"
        options = ("--points", "points", "--of", "of", "--output", file)
        done = command("report", "--database", url, *options)
        print(f"the command: {done.seconds:.1f} s, {done.peak_mib:.0f} MiB")
        print(f"the page: {file.stat().st_size / 1024:.0f} KiB")


async def measure(url: str) -> None:
    """Read a report, and print how long each of its queries took."""
    cli = queries.cli
    for name in (name for name in vars(cli) if name.startswith("report_")):
        setattr(cli, name, timed(name, getattr(cli, name)))
    question = report_data.Question(points_path=["points"], of_path=["of"])
    async with asyncpg.create_pool(url, statement_cache_size=0, max_size=1, min_size=1) as pool:
        await report_data.read(pool, question)


def timed(name: str, query: Any) -> Any:
    """Return *query*, which prints its time under *name*."""

    async def run(*arguments: Any, **parameters: Any) -> Any:
        begun = time.perf_counter()
        rows = await query(*arguments, **parameters)
        print(f"{name:20}{(time.perf_counter() - begun) * 1000:8.0f} ms", flush=True)
        return rows

    return run


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
