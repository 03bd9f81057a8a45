"""``assessments purge``: erases old responses, after saying how many."""

from __future__ import annotations

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

_BATCH = 10_000


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    purge = commands.add_parser(
        "purge",
        help="erase old responses; without --yes, say how many",
        description="Erase responses older than a given age, with their scores: those that nobody "
        "has claimed or, with --all-owners, everybody's. Without --yes nothing is erased.",
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
        type=options.batch_size,
        default=_BATCH,
        help=f"how many to erase in one transaction; by default, {_BATCH}",
    )
    purge.add_argument("--yes", action="store_true", help="erase them")
    purge.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Count or erase; return the exit status."""
    return runner.run(arguments.database, lambda pool: _purge(pool, arguments))


async def _purge(pool: asyncpg.Pool[Any], arguments: argparse.Namespace) -> None:
    age, words = arguments.older_than
    before = (datetime.now(timezone.utc) - age).strftime("%Y-%m-%d %H:%M UTC")
    which = f"older than {words} (from before {before})"
    purge, noun = backoffice.purge_anonymous_responses, "anonymous response"
    if arguments.all_owners:
        purge, noun = backoffice.purge_responses, "response"
    if arguments.yes:
        erased = await _erase(pool, purge, age, arguments.batch)
        say(f"Erased {_quantify(erased, noun)} {which}, with their scores.")
        return
    count = await purge(pool, older_than=age, limit=MAX_BIGINT, dry_run=True)
    say(f"{_quantify(count, noun)} {'is' if count == 1 else 'are'} {which}.")
    say("Nothing has been erased. Run again with --yes to erase them.")


async def _erase(pool: asyncpg.Pool[Any], purge: Any, age: timedelta, batch: int) -> int:
    erased = 0
    with progress.counting("erased") as show:
        # A claim can take rows out of a batch, so that only an empty one is the end.
        while count := await purge(pool, older_than=age, limit=batch):
            erased += count
            show(erased)
    return erased


def _quantify(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
