"""What each index costs: bytes a row, and time a submission. Writes ``indexes.json`` beside it.

    python -m benchmarks.indexes [ROWS]     then: make reference ONLY=indexes

On the rows of benchmarks/storage.py. A round submits in a transaction that is rolled back: with all
indexes, and without each of them in turn. So the commit, which costs the same with any index, is in
neither. The figure is the median of the rounds' ratios, with over without.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import date
from pathlib import Path
from random import Random
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg

import assessments
from assessments.testing import migrations, server
from benchmarks.storage import load, set_on_server

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]

RESULTS = Path(__file__).with_name("indexes.json")
ROWS = 200_000
ROUNDS = 15
CALLS = 400

INDEXES = """
SELECT
    i.indrelid::regclass::text AS table_name, c.relname::text AS index_name,
    pg_relation_size(c.oid)::float8 / t.reltuples AS bytes_a_row,
    i.indisprimary OR i.indisunique AS is_unique
FROM pg_index AS i
INNER JOIN pg_class AS c ON i.indexrelid = c.oid
INNER JOIN pg_class AS t ON i.indrelid = t.oid
WHERE i.indrelid::regclass::text IN ('assessment_responses', 'assessment_scores')
ORDER BY 1, 2
"""


async def main(rows: int) -> None:
    """Measure on *rows* responses; print and write the results."""
    with server.running() as url:
        migrations.apply(url)
        conn = await asyncpg.connect(url)
        await set_on_server(conn, autovacuum="off")
        await load(conn, rows)
        indexes = await conn.fetch(INDEXES)
        # Without a unique index ON CONFLICT fails, so its cost is not to be had this way.
        dropped = [
            row["index_name"]
            for row in indexes
            if row["table_name"] == "assessment_responses" and not row["is_unique"]
        ]
        ratios: dict[str, list[float]] = {name: [] for name in dropped}
        chance = Random(rows)  # noqa: S311 - picks owners
        for _ in range(ROUNDS):
            for name in dropped:
                with_all = await time_submissions(conn, chance, rows)
                without = await time_submissions(conn, chance, rows, f"DROP INDEX {name}")
                ratios[name].append(with_all / without)
            await conn.execute("VACUUM assessment_responses")
        results: dict[str, Any] = {
            "measured_on": date.today().isoformat(),  # noqa: DTZ011 - a day
            "postgresql": str(conn.get_server_version().major),
            "rows": rows,
            "indexes": {
                row["index_name"]: {
                    "bytes_a_row": round(row["bytes_a_row"]),
                    "submit": summary(ratios.get(row["index_name"])),
                }
                for row in indexes
            },
        }
        await conn.close()
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for name, figures in results["indexes"].items():
        print(f"{name:45} {figures['bytes_a_row']:>4} bytes a row  {figures['submit'] or ''}")


def summary(ratios: list[float] | None) -> list[float] | None:
    """Return the median and the quartiles of *ratios*."""
    if not ratios:
        return None
    low, _, high = quantiles(ratios, n=4)
    return [round(figure, 3) for figure in (median(ratios), low, high)]


async def time_submissions(
    conn: Connection, chance: Random, rows: int, first: str = "SELECT"
) -> float:
    """Return the seconds that submissions take after the statement *first*, rolled back."""
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute(first)
    for number in range(-20, CALLS):  # the first ones plan
        if number == 0:
            begun = perf_counter()
        owner: dict[str, Any] = (
            {"user_id": chance.randint(1, rows // 20)}
            if chance.random() < 2 / 3
            else {"anonymous_token": UUID(int=chance.getrandbits(128), version=4)}
        )
        await assessments.submit_response(
            conn,
            **owner,
            question_id=f"question-{chance.randint(0, 500)}",
            module_slug=f"module-{chance.randint(0, 50)}",
            answer_text="Because leaves are green. " * 20,
            submission_key=uuid4(),
        )
    seconds = perf_counter() - begun
    await transaction.rollback()
    return seconds


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
