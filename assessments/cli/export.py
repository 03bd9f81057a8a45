"""``assessments export``: responses with their scores, as JSON Lines."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, BinaryIO

from assessments.cli import jsonl, options, output, progress, runner
from assessments.queries import queries
from assessments.walks import iter_batches_with_scores

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncGenerator

    import asyncpg

_BATCH = 500  # rows, each a response of up to a mebibyte and a score of up to 256 KiB
_SLICE = 50
_FILTERS = ("user_id", "anonymous_token", "module_slug", "question_id", "since", "until")


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    export = commands.add_parser(
        "export",
        help="write responses with their scores as JSON Lines",
        description="Write responses with their scores, oldest first, one JSON object a line. "
        "It holds personal data, and anonymous tokens are credentials.",
    )
    options.add_database(export)
    for flag, name, kind, which in (
        ("--user-id", "user_id", options.user_id, "of this user"),
        ("--anonymous-token", "anonymous_token", options.anonymous_token, "of this token"),
        ("--module", "module_slug", options.identifier, "of this module"),
        ("--question", "question_id", options.identifier, "to this question"),
        ("--since", "since", options.timestamp, "created at 2026-11-01T00:00:00+00:00 or later"),
        ("--until", "until", options.timestamp, "created before this time"),
    ):
        export.add_argument(flag, dest=name, type=kind, help=f"only responses {which}")
    export.add_argument(
        "--output",
        metavar="FILE",
        default="-",
        help="write this file, which appears when it is complete, for its owner only; a dash, the "
        "default, is standard output",
    )
    export.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the responses; return the exit status."""
    filters = {name: getattr(arguments, name) for name in _FILTERS}

    async def work(pool: asyncpg.Pool[Any]) -> None:
        with output.opened(arguments.output) as stream:
            count = await _export(pool, filters, stream)
        if sys.stderr.isatty():
            print(f"exported {count:,} responses", file=sys.stderr)

    return runner.run(arguments.database, work)


async def _export(pool: asyncpg.Pool[Any], filters: dict[str, Any], stream: BinaryIO) -> int:
    lines = jsonl.LineFormatter(await queries.cli.get_database_identity(pool))
    with progress.counting("exported") as show:
        async with aclosing(_read_ahead(pool, filters)) as batches:
            async for rows in batches:
                for start in range(0, len(rows), _SLICE):
                    output.write(stream, lines.add(rows[start : start + _SLICE]))
                    await asyncio.sleep(0)  # the next batch is requested and received meanwhile
                show(lines.count)
        output.write(stream, lines.end())
    return lines.count


async def _read_ahead(
    pool: asyncpg.Pool[Any], filters: dict[str, Any]
) -> AsyncGenerator[list[asyncpg.Record], None]:
    """Yield the batches; the server works on the next one while one is written."""
    batches = iter_batches_with_scores(pool, filters, _BATCH)
    coming = asyncio.ensure_future(anext(batches, None))
    try:
        while rows := await coming:
            coming = asyncio.ensure_future(anext(batches, None))
            yield rows
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
