"""``assessments purge``: erases old responses that nobody has claimed, after saying how many."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from assessments import backoffice
from assessments.cli import connection, progress
from assessments.errors import InvalidInput
from assessments.validation import MAX_BIGINT
from assessments.validation.scalars import check_bigint, check_retention

if TYPE_CHECKING:
    import asyncpg

_UNITS = {"d": "days", "w": "weeks", "h": "hours"}
_BATCH = 10_000


class _Age(NamedTuple):
    """An age, and how it is said."""

    span: timedelta
    words: str


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    purge = commands.add_parser(
        "purge",
        help="erase old responses that nobody has claimed; without --yes, say how many",
        description="Erase anonymous responses from a certain age on, with their scores. "
        "Without --yes nothing is erased.",
    )
    connection.add_database(purge)
    purge.add_argument(
        "--older-than",
        metavar="AGE",
        type=_age,
        required=True,
        help="the age from which an anonymous response goes: 90d, 12w or 36h",
    )
    purge.add_argument(
        "--batch",
        metavar="N",
        type=_batch,
        default=_BATCH,
        help=f"how many to erase in one transaction; by default, {_BATCH}",
    )
    purge.add_argument("--yes", action="store_true", help="erase them")
    purge.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Count or erase; return the exit status."""
    return connection.run(options.database, lambda pool: _purge(pool, options))


async def _purge(pool: asyncpg.Pool[Any], options: argparse.Namespace) -> None:
    span, words = options.older_than
    before = (datetime.now(timezone.utc) - span).strftime("%Y-%m-%d %H:%M UTC")
    which = f"older than {words} (from before {before})"
    if options.yes:
        erased = await _erase(pool, span, options.batch)
        _say(f"Erased {_counted(erased)} {which}, with their scores.")
        return
    count = await backoffice.purge_anonymous_responses(
        pool, older_than=span, limit=MAX_BIGINT, dry_run=True
    )
    _say(f"{_counted(count)} {'is' if count == 1 else 'are'} {which}.")
    _say("Nothing has been erased. Run again with --yes to erase them.")


async def _erase(pool: asyncpg.Pool[Any], span: timedelta, batch: int) -> int:
    erased = 0
    with progress.counting("erased") as show:
        # A claim can take rows out of a batch, so that only an empty one is the end.
        while count := await backoffice.purge_anonymous_responses(
            pool, older_than=span, limit=batch
        ):
            erased += count
            show(erased)
    return erased


def _counted(count: int) -> str:
    return f"{count:,} anonymous response{'' if count == 1 else 's'}"


def _say(line: str) -> None:
    connection.write(sys.stdout.buffer, [f"{line}\n".encode()])


def _age(text: str) -> _Age:
    found = re.fullmatch(r"(\d{1,9})([dwh])", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError("must be a number of days, weeks or hours: 90d, 12w, 36h")
    number, unit = int(found[1]), _UNITS[found[2]]
    try:
        span = check_retention("--older-than", timedelta(**{unit: number}))
    except InvalidInput as error:
        raise argparse.ArgumentTypeError(error.problem) from None
    except OverflowError:
        raise argparse.ArgumentTypeError("is too long") from None
    return _Age(span, f"{number:,} {unit if number != 1 else unit[:-1]}")


def _batch(text: str) -> int:
    try:
        return check_bigint("--batch", int(text))
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number from 1 on") from None
