"""Options of the commands, checked by the library's own rules.

What they refuse is not quoted: an option can hold a token or a password.
"""

from __future__ import annotations

import argparse
import os
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from assessments.cli import jsonl
from assessments.errors import InvalidInput
from assessments.urls import check_url
from assessments.validation.scalars import (
    check_bigint,
    check_identifier,
    check_random_uuid,
    check_retention,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn
    from uuid import UUID

_T = TypeVar("_T")
# argparse quotes a value after these words; the choices that may follow hold none.
_QUOTING = re.compile(
    r"((?:argument [^:]+: )?(?:ambiguous option|ignored explicit argument|invalid choice"
    r"|invalid \S+ value|unrecognized arguments)).*?( \(choose from [^()]*\))?",
    re.DOTALL,
)
STATUSES = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 no connection to the server."
_URL_GOES = "the URL of a database goes to --database"
_ID = re.compile(r"[0-9]{1,19}")  # not more: int() refuses very long text, and argparse quotes it
_OPTION, _VARIABLE = "argument --database: ", "DATABASE_URL"
_MISSING = "the following arguments are required: --database"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AGE = re.compile(r"([0-9]{1,9})([dwh])")
_UNITS = {"d": "days", "w": "weeks", "h": "hours"}


class Parser(argparse.ArgumentParser):
    """A parser, and one of its commands, whose errors quote no value."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit with status 2."""
        if quoting := _QUOTING.fullmatch(message):
            hint = f"; {_URL_GOES}" if "://" in message else ""
            message = f"{quoting[1]}{quoting[2] or ''}{hint}"
        elif message.startswith(_MISSING):
            message += "; give --database URL, or set DATABASE_URL"
        elif message.startswith(f"{_OPTION}{_VARIABLE} "):
            message = message.removeprefix(_OPTION)
        super().error(message)


class Age(NamedTuple):
    """An age, and the words for it."""

    span: timedelta
    words: str


def add_database(parser: argparse.ArgumentParser) -> None:
    """Give *parser* the option ``--database``."""
    url = os.environ.get(_VARIABLE)
    parser.add_argument(
        "--database",
        metavar="URL",
        type=_database,
        default=_FromEnvironment(url) if url else None,
        required=not url,
        help="postgresql://… of the database; by default, the environment's DATABASE_URL, which "
        "keeps the password out of the list of processes",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give *parser* the option ``--json``."""
    parser.add_argument(
        "--json", action="store_true", dest="as_json", help="print the result as one JSON object"
    )


def add_times(parser: argparse.ArgumentParser) -> None:
    """Give *parser* the options ``--since`` and ``--until``."""
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=time,
        help="only responses created at TIME or later; TIME is a date (2026-11-24: its midnight in "
        "UTC), a timestamp with its offset (2026-11-24T09:00:00+01:00) or an age (7d, 12w, 36h: "
        "so long ago)",
    )
    parser.add_argument(
        "--until", metavar="TIME", type=time, help="only responses created before TIME"
    )


class _FromEnvironment(str):
    """The value of ``DATABASE_URL``, which an error is to name."""

    __slots__ = ()


def _database(text: str) -> str:
    if not text:  # asyncpg would take the environment's
        raise argparse.ArgumentTypeError("must not be empty")
    try:
        return _checked(check_url, text)
    except argparse.ArgumentTypeError as error:
        if isinstance(text, _FromEnvironment):
            raise argparse.ArgumentTypeError(f"{_VARIABLE} {error}") from None
        raise


def user_id(text: str) -> int:
    """Return the user's id that *text* is."""
    return _checked(check_bigint, parse_id(text))


def parse_id(text: str) -> int | str:
    """Return the number that *text* is, or *text* itself, which no check takes for an id."""
    return int(text) if _ID.fullmatch(text) else text


def input_file(text: str) -> str:
    """Return *text*, the name of a file; a URL is in the wrong place."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"is a URL; {_URL_GOES}")
    return text


def anonymous_token(text: str) -> UUID:
    """Return the anonymous owner's token that *text* is."""
    return _checked(check_random_uuid, text)


def identifier(text: str) -> str:
    """Return *text*, a slug or the id of a question."""
    return _checked(check_identifier, text)


def time(text: str) -> datetime:
    """Return the aware datetime that *text* is: a date, a timestamp in ISO 8601, or an age."""
    if _AGE.fullmatch(text):
        return datetime.now(timezone.utc) - age(text).span
    if _DATE.fullmatch(text):
        text += "T00:00:00Z"
    try:
        return jsonl.parse_timestamp("", text)
    except InvalidInput:
        raise argparse.ArgumentTypeError(
            "must be a date, 2026-11-24; a timestamp with its offset, 2026-11-24T09:00:00+01:00; "
            "or an age, 7d"
        ) from None


def age(text: str) -> Age:
    """Return the age that *text* is: ``90d``, ``12w`` or ``36h``."""
    found = _AGE.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError("must be a number of days, weeks or hours: 90d, 12w, 36h")
    number, unit = int(found[1]), _UNITS[found[2]]
    try:
        span = timedelta(**{unit: number})
    except OverflowError:
        raise argparse.ArgumentTypeError("is too long") from None
    return Age(_checked(check_retention, span), f"{number:,} {unit if number != 1 else unit[:-1]}")


def row_count(text: str) -> int:
    """Return the number of rows that *text* is."""
    try:
        return check_bigint("", int(text))
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number from 1 on") from None


def _checked(check: Callable[[str, Any], _T], value: object) -> _T:
    """Return what *check* makes of *value*; argparse names the option and must not quote it."""
    try:
        return check("", value)
    except InvalidInput as error:
        raise argparse.ArgumentTypeError(error.problem) from None
