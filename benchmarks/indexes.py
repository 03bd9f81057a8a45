"""What each index costs: bytes a row, and time a submission. Writes ``indexes.json`` beside it.

    python -m benchmarks.indexes [ROWS]     then: make reference ONLY=indexes

As the section ``indexes`` of ``python -m benchmarks``: a submission with all indexes, over one with
those alone that the first four migrations build.

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
from benchmarks import measure
from benchmarks.storage import load, set_on_server

if TYPE_CHECKING:
    from benchmarks.measure import Figure, Scale

    Connection = asyncpg.Connection[Any]

TITLE = "The price of the indexes"
ABOUT = (
    "Time of a submission, without its commit, with all indexes over one with those alone that the"
    " first four migrations name."
)

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


_BEFORE = {
    "assessment_responses_pkey",
    "idx_assessment_responses_anon",
    "idx_assessment_responses_module",
    "idx_assessment_responses_question",
    "idx_assessment_responses_submission_key",
    "idx_assessment_responses_user_id",
}
_SIZES = {"smallest": (2_000, 1), "usual": (100_000, 15), "full": (1_000_000, 45)}


async def run(scale: Scale) -> list[Figure]:
    """Return the time with all indexes over that with the older ones."""
    rows, rounds = _SIZES[scale]
    async with measure.database() as (_, conn):
        await set_on_server(conn, autovacuum="off")
        await load(conn, rows)
        newer = [
            row["index_name"]
            for row in await conn.fetch(INDEXES)
            if row["table_name"] == "assessment_responses" and row["index_name"] not in _BEFORE
        ]
        drop = f"DROP INDEX {', '.join(newer)}" if newer else "SELECT"
        chance = Random(rows)  # noqa: S311 - picks owners
        taken: list[list[float]] = [[], []]
        for turn in range(rounds):
            for index in (0, 1) if turn % 2 else (1, 0):
                first = drop if index else "SELECT"
                taken[index].append(await time_submissions(conn, chance, rows, first))
            await conn.execute("VACUUM assessment_responses")
    note = f"{len(newer)} more indexes, {rows:,} rows"
    return [measure.ratio("submit, all indexes", *taken, note=note)]


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
