"""``assessments purge``: erases old responses, after saying how many."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from assessments import backoffice
from assessments.cli import options, progress, runner
from assessments.cli.output import say
from assessments.validation import MAX_BIGINT

if TYPE_CHECKING:
    import argparse
    from datetime import timedelta

    import asyncpg

FORMAT = {"format": "assessments purge", "format_version": 1}
_BATCH = 10_000


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    purge = commands.add_parser(
        "purge",
        help="erase old responses; without --yes, say how many",
        description="Erase responses older than a given age, with their scores: those that nobody "
        "has claimed or, with --all-owners, everybody's. Without --yes nothing is erased.",
        epilog=options.STATUSES,
    )
    options.add_database(purge)
    purge.add_argument(
        "--older-than",
        metavar="AGE",
        type=options.age,
        required=True,
        help="the age from which a response is erased: 90d, 12w or 36h",
    )
    purge.add_argument(
        "--all-owners", action="store_true", help="also the responses of signed-in users"
    )
    purge.add_argument(
        "--batch",
        metavar="N",
        type=options.row_count,
        default=_BATCH,
        help=f"how many to erase in one transaction; by default, {_BATCH:,}",
    )
    purge.add_argument("--yes", action="store_true", help="erase; without it, only say how many")
    options.add_json(purge)
    purge.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Count or erase; return the exit status."""
    return runner.run(arguments.database, lambda pool: _purge(pool, arguments))


async def _purge(pool: asyncpg.Pool[Any], arguments: argparse.Namespace) -> None:
    age, words = arguments.older_than
    before = datetime.now(timezone.utc) - age
    which = f"older than {words} (from before {before:%Y-%m-%d %H:%M} UTC)"
    purge, noun = backoffice.purge_anonymous_responses, "anonymous response"
    if arguments.all_owners:
        purge, noun = backoffice.purge_responses, "response"
    if arguments.yes:
        count = await _erase(pool, purge, age, arguments.batch)
    else:
        count = await _count(pool, purge, age)
    if arguments.as_json:
        cutoff = before.isoformat(timespec="seconds")
        found = {"is_erased": arguments.yes, "responses": count, "before": cutoff}
        say(json.dumps(FORMAT | found))
    elif arguments.yes:
        say(f"Erased {_quantify(count, noun)} {which}, with their scores.")
    else:
        say(f"{_quantify(count, noun)} {'is' if count == 1 else 'are'} {which}.")
        say("Nothing has been erased. Run again with --yes to erase them.")


async def _count(pool: asyncpg.Pool[Any], purge: Any, age: timedelta) -> int:
    count: int = await purge(pool, older_than=age, limit=MAX_BIGINT, dry_run=True)
    return count


async def _erase(pool: asyncpg.Pool[Any], purge: Any, age: timedelta, batch: int) -> int:
    erased = 0
    total = await _count(pool, purge, age) if sys.stderr.isatty() else None
    with progress.counting("erased", total) as show:
        # A claim can take rows out of a batch, so that only an empty one is the end.
        while count := await purge(pool, older_than=age, limit=batch):
            erased += count
            show(erased, erased)
    return erased


def _quantify(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
