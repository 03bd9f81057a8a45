"""Whose a response becomes that is imported: ``user_id``s mean nothing in another database."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assessments.cli.errors import CommandError
from assessments.cli.options import parse_id
from assessments.errors import InvalidInput
from assessments.validation.scalars import check_bigint

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Users:
    """The users of a database, for lines that come from *this* or another one.

    With a *mapping*, it says who each user is here, whatever database the line comes from. Without
    one, users have the same ids only in the same database, or where *same* says so.
    """

    this: str
    mapping: dict[int, int] | None = None
    same: bool = False

    def resolve(self, user_id: int, database: str | None) -> int:
        """Return the id here of the user who has *user_id* in *database*.

        Raises:
            InvalidInput: That is not known.
        """
        if self.mapping is not None:
            if user_id not in self.mapping:
                raise InvalidInput("user_id", "is not in the file of --map-users")
            return self.mapping[user_id]
        if not self.same and database != self.this:
            raise InvalidInput(
                "user_id",
                "is of another database or an unknown one: say who is who with --map-users FILE, "
                "or --same-users where all users have the same ids in both",
            )
        return user_id


def read_mapping(name: str) -> dict[int, int]:
    """Return who is who from the CSV file *name*: two ids a line, there and here, no header."""
    mapping: dict[int, int] = {}
    for number, row in _read_rows(name):
        try:
            there, here = (check_bigint("", parse_id(field.strip())) for field in row)
        except ValueError:
            raise _error(number, "must be two user ids, FROM,TO") from None
        if there in mapping:
            raise _error(number, "the first id is on an earlier line too")
        mapping[there] = here
    return mapping


def _read_rows(name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, with the numbers of their lines."""
    try:
        with Path(name).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            yield from ((reader.line_num, row) for row in reader if row)
    except OSError as error:
        raise CommandError(f"--map-users: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise CommandError("--map-users: is not a CSV file in UTF-8") from None


def _error(line: int, problem: str) -> CommandError:
    return CommandError(f"--map-users: line {line}: {problem}")
