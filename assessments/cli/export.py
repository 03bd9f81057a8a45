"""``assessments export``: responses with their scores, as JSON Lines or CSV."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, BinaryIO

from assessments.cli import csv_table, jsonl, options, output, progress, runner
from assessments.event_loop import read_ahead
from assessments.queries import queries
from assessments.walks import iter_batches_with_scores

if TYPE_CHECKING:
    import argparse

    import asyncpg

_BATCH = 500  # rows, each a response of up to a mebibyte and a score of up to 256 KiB
_SLICE = 50
_FILTERS = ("user_id", "anonymous_token", "module_slug", "question_id", "since", "until")


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    export = commands.add_parser(
        "export",
        help="write responses with their scores as JSON Lines or CSV",
        description="Write responses with their scores, oldest first, one JSON object a line. "
        "It holds personal data, and anonymous tokens are credentials.",
        epilog=options.STATUSES,
    )
    options.add_database(export)
    for flag, name, metavar, kind, which in (
        ("--user-id", "user_id", "ID", options.user_id, "of this user"),
        ("--anonymous-token", "anonymous_token", "UUID", options.anonymous_token, "of this owner"),
        ("--module", "module_slug", "SLUG", options.identifier, "of this module"),
        ("--question", "question_id", "ID", options.identifier, "to this question"),
    ):
        export.add_argument(
            flag, dest=name, metavar=metavar, type=kind, help=f"only responses {which}"
        )
    options.add_times(export)
    export.add_argument(
        "--limit", metavar="N", type=options.row_count, help="no more than the first N responses"
    )
    export.add_argument(
        "--csv",
        action="store_true",
        dest="as_csv",
        help="write CSV for analysis: a row a response, with its latest score; import does not "
        "take it",
    )
    export.add_argument(
        "--output",
        metavar="FILE",
        default="-",
        help="write this file once all is exported, readable by its owner only; a dash, the "
        "default, is standard output",
    )
    export.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the responses; return the exit status."""
    filters = {name: getattr(arguments, name) for name in _FILTERS}

    async def work(pool: asyncpg.Pool[Any]) -> None:
        with output.opened(arguments.output) as stream:
            lines = (
                csv_table.RowFormatter()
                if arguments.as_csv
                else jsonl.LineFormatter(await queries.cli.get_database_identity(pool))
            )
            await _export(pool, filters, _Limit(arguments.limit), lines, stream)
        if sys.stderr.isatty():
            print(f"exported {lines.count:,} responses", file=sys.stderr)

    return runner.run(arguments.database, work)


class _Limit:
    """The first responses, as many as there may be."""

    def __init__(self, responses: int | None) -> None:
        self.is_reached = False
        self._left = responses
        self._last: int | None = None

    def take(self, rows: list[asyncpg.Record]) -> list[asyncpg.Record]:
        """Return those of *rows*, the next ones, that are of the first responses."""
        if self._left is None:
            return rows
        for index, row in enumerate(rows):
            if row["response_id"] != self._last:
                if not self._left:
                    self.is_reached = True
                    return rows[:index]
                self._left -= 1
                self._last = row["response_id"]
        return rows


async def _export(
    pool: asyncpg.Pool[Any],
    filters: dict[str, Any],
    limit: _Limit,
    lines: csv_table.RowFormatter | jsonl.LineFormatter,
    stream: BinaryIO,
) -> None:
    with progress.counting("exported") as show:
        # The server works on the next batch while one is written.
        walk = iter_batches_with_scores(pool, filters, _BATCH)
        async with aclosing(read_ahead(walk)) as batches:
            async for batch in batches:
                rows = limit.take(batch)
                for start in range(0, len(rows), _SLICE):
                    output.write(stream, lines.add(rows[start : start + _SLICE]))
                    await asyncio.sleep(0)  # the next batch is requested and received meanwhile
                show(lines.count, lines.count)
                if limit.is_reached:
                    break
        output.write(stream, lines.end())
