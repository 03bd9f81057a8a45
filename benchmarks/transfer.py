"""Many rows at once: `submit_responses`, an export and an import, over what PostgreSQL has for it.

Half of the responses have a score. The commands are processes of their own; their time is that
beyond the same command's on an empty database, so that it is not the interpreter's. COPY reads and
writes the same columns of both tables, through asyncpg and a file. Linux counts the memory of a
child before it became the command, so no peak is below this process's own.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg

import assessments
from assessments.testing import migrations
from benchmarks import data, measure

if TYPE_CHECKING:
    from benchmarks.measure import Figure, Scale

TITLE = "Many at once"
ABOUT = "`submit_responses`, `export` and `import` over an INSERT from arrays and over COPY."

_TURNS = {"smallest": (2, 2, 1), "usual": (40, 8, 3), "full": (200, 20, 3)}
"""Of 1,000 responses, of 10,000, and of the commands."""
_RESPONSES = {"smallest": 400, "usual": 50_000, "full": 1_000_000}
_USERS = 1000
_COPIED = (
    ("assessment_responses", f"{data.COLUMNS}, submission_key".replace(" ", "").split(",")),
    (
        "assessment_scores",
        ["score_id", "response_id", "score_data", "model_id", "prompt_version", "created_at"],
    ),
)
_SENT = ("user_id", "question_id", "module_slug", "answer_text", "answer_metadata")
_UNNEST = f"""
INSERT INTO assessment_responses ({", ".join(_SENT)})
SELECT user_id, question_id, module_slug, answer_text, answer_metadata::jsonb
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) AS g ({", ".join(_SENT)})
RETURNING {data.COLUMNS}
"""
_FILL = """
INSERT INTO assessment_responses
    (user_id, anonymous_token, question_id, module_slug, answer_text, answer_metadata, created_at)
SELECT
    CASE WHEN n % 3 > 0 THEN 1 + n % $2::bigint END,
    CASE WHEN n % 3 = 0 THEN md5(n::text)::uuid END,
    'question-' || n % 500, 'module-' || n % 50,
    n || repeat(' Leaves look green because chlorophyll absorbs red and blue.', 5),
    '{"locale": "en", "seconds": 184}', now() - n * interval '1 second'
FROM generate_series(1, $1::bigint) AS n
"""
_SCORE = """
INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version)
SELECT response_id, '{"points": 4, "of": 5, "feedback": "Say why."}', 'model', 'p7'
FROM assessment_responses
WHERE response_id % 2 = 0
"""
_EMPTY = "TRUNCATE assessment_responses, assessment_scores"
_IMPORT = ("import", "--same-users", "--database")


class Run(NamedTuple):
    """The time and the peak memory of a command."""

    seconds: float
    peak_mib: float


async def run(scale: Scale) -> list[Figure]:
    """Return the ratios, and the memory of the commands."""
    few, many, transfers = _TURNS[scale]
    async with measure.database(data.LOAD) as (url, conn):
        figures = [await _over_unnest(conn, few), await _over_copy(conn, many)]
        with tempfile.TemporaryDirectory() as folder:
            figures += await _transfer(url, Path(folder), _RESPONSES[scale], transfers)
    return figures


def _responses(count: int) -> list[dict[str, Any]]:
    return [
        data.RESPONSE
        | {"user_id": 1 + number % data.USERS, "question_id": f"question-{number % 40}"}
        | {"answer_metadata": {"locale": "en", "seconds": number}}
        for number in range(count)
    ]


async def _over_unnest(conn: Any, turns: int) -> Figure:
    items: list[Any] = _responses(1000)

    async def bare(_: object) -> list[dict[str, Any]]:
        columns = [[item[name] for item in items] for name in _SENT[:-1]]
        rows = await conn.fetch(
            _UNNEST, *columns, [json.dumps(item["answer_metadata"]) for item in items]
        )
        return [{**row, "answer_metadata": json.loads(row["answer_metadata"])} for row in rows]

    ways = [
        measure.Way("ours", lambda _: assessments.submit_responses(conn, items)),
        measure.Way("bare", bare),
    ]
    ours, theirs = await measure.interleave(ways, turns)
    return measure.ratio(
        "submit_responses of 1,000 over bare unnest", ours, theirs, note=measure.milliseconds(ours)
    )


async def _over_copy(conn: Any, turns: int) -> Figure:
    items: list[Any] = _responses(10_000)

    async def copy(_: object) -> None:
        records = [
            (*(item[name] for name in _SENT[:-1]), json.dumps(item["answer_metadata"]))
            for item in items
        ]
        await conn.copy_records_to_table("assessment_responses", records=records, columns=_SENT)

    ways = [
        measure.Way("ours", lambda _: assessments.submit_responses(conn, items)),
        measure.Way("copy", copy),
    ]
    ours, theirs = await measure.interleave(ways, turns, warm_up=1)
    return measure.ratio(
        "submit_responses of 10,000, rate over binary COPY",
        theirs,
        ours,
        note=measure.milliseconds(ours),
    )


async def _transfer(url: str, folder: Path, count: int, turns: int) -> list[Figure]:
    """Export and import, interleaved with COPY to and from files."""
    empty, part, whole, target = [
        await database(url, name) for name in ("empty", "part", "whole", "target")
    ]
    for source, rows in ((part, count // 10), (whole, count)):
        conn = await asyncpg.connect(source)
        await fill(conn, rows)
        await conn.close()
    small, large = folder / "part.jsonl", folder / "whole.jsonl"
    nothing = folder / "empty.jsonl"
    exports, imports, repeated = [], [], []
    copies_to, copies_from = [], []
    for _ in range(turns):
        start = command("export", "--database", empty, "--output", nothing)
        exports.append(command("export", "--database", whole, "--output", large))
        exports[-1] = exports[-1]._replace(seconds=exports[-1].seconds - start.seconds)
        copies_to.append(await _copy(whole, folder, write=True))
        await _execute(target, _EMPTY)
        imports.append(command(*_IMPORT, target, large))
        imports[-1] = imports[-1]._replace(seconds=imports[-1].seconds - start.seconds)
        repeated.append(command(*_IMPORT, target, large).seconds - start.seconds)
        await _execute(target, _EMPTY)
        copies_from.append(await _copy(target, folder, write=False))
    tenth = command("export", "--database", part, "--output", small)
    await _execute(target, _EMPTY)
    tenth_in = command(*_IMPORT, target, small)

    def rate(name: str, done: list[Run], copied: list[float]) -> Figure:
        seconds = [each.seconds for each in done]
        note = f"{count / min(seconds):,.0f} responses/s"
        return measure.ratio(name, copied, seconds, note=note)

    def memory(name: str, done: list[Run], before: Run) -> Figure:
        note = f"{before.peak_mib:.0f} MiB with a tenth of the rows"
        return measure.spread(name, [each.peak_mib for each in done], unit="MiB", note=note)

    return [
        rate("export, rate over COPY TO", exports, copies_to),
        rate("import, rate over COPY FROM", imports, copies_from),
        measure.ratio("a repeated import over the first", repeated, [i.seconds for i in imports]),
        memory("peak memory of an export", exports, tenth),
        memory("peak memory of an import", imports, tenth_in),
    ]


async def _copy(url: str, folder: Path, *, write: bool) -> float:
    """Copy both tables to files, or from them; return the seconds."""
    conn = await asyncpg.connect(url)
    begun = time.perf_counter()
    for table, columns in _COPIED:
        file = folder / f"{table}.copy"
        if write:
            await conn.copy_from_table(table, columns=columns, output=file)
        else:
            await conn.copy_to_table(table, columns=columns, source=file)
    seconds = time.perf_counter() - begun
    await conn.close()
    return seconds


async def _execute(url: str, statement: str) -> None:
    conn = await asyncpg.connect(url)
    await conn.execute(statement)
    await conn.close()


async def database(url: str, name: str) -> str:
    """Return the URL of a new, migrated database with users."""
    await _execute(url, f"CREATE DATABASE {name}")
    created = urlsplit(url)._replace(path=f"/{name}").geturl()
    await asyncio.to_thread(migrations.apply, created)
    await _execute(created, f"INSERT INTO users SELECT FROM generate_series(1, {_USERS})")
    return created


async def fill(conn: asyncpg.Connection[Any], count: int) -> None:
    """Store *count* responses, two thirds of them users', and score every other one."""
    await conn.execute(_FILL, count, _USERS)
    await conn.execute(_SCORE)
    await conn.execute("VACUUM ANALYZE")


_COMMAND = """
import sys
from assessments.cli import main
status = main()
with open("/proc/self/status") as file:
    print(next(line for line in file if line.startswith("VmHWM:")).split()[1], file=sys.stderr)
sys.exit(status)
"""
"""Reports its peak memory in KiB. That of wait4 is at least the memory of the parent process."""


def command(*arguments: object) -> Run:
    """Run ``assessments`` with *arguments*, which must succeed."""
    line = [sys.executable, "-c", _COMMAND, *map(str, arguments)]
    begun = time.perf_counter()
    process = subprocess.Popen(line, stderr=subprocess.PIPE)  # noqa: S603
    assert process.stderr  # noqa: S101 - it is a pipe
    *errors, peak = process.stderr.read().decode().splitlines() or [""]
    process.stderr.close()
    if process.wait():
        sys.exit("\n".join([*errors, peak]))
    return Run(time.perf_counter() - begun, int(peak) / 2**10)
