"""``assessments import``: stores what ``export`` wrote, each response once."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import stat
import sys
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import asyncpg

from assessments.cli import jsonl, options, progress, runner, signals
from assessments.cli.errors import CommandError
from assessments.cli.output import say
from assessments.cli.users import Users, read_mapping
from assessments.errors import InvalidInput, UnknownUser
from assessments.event_loop import read_ahead
from assessments.queries import queries, text_arrays
from assessments.transactions import atomic

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncGenerator, Iterator
    from uuid import UUID

_BATCH = 500
_BATCH_BYTES = 8 * 1024 * 1024
_SLICE = 5  # lines between two looks at the connection, whose socket holds a part of a batch
_LONGEST_LINE = 64 * 1024 * 1024
_ATTEMPTS = 5
_EXPECTED = "; import reads JSON Lines as export writes them, not the CSV of export --csv"
FORMAT = {"format": "assessments import", "format_version": 1}
_SCORE_COLUMNS = ("number", "data", "model_id", "prompt_version", "created_at", "occurrence")


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "import",
        help="store what export has written; what is stored already is left alone",
        description="Store exported responses and scores that are not stored yet. Run it again "
        "after a failure, or with a newer export: nothing is stored twice. Responses of users from "
        "another database are refused unless an option says who they are here; responses of "
        "anonymous owners need none.",
        epilog=options.STATUSES,
    )
    options.add_database(command)
    command.add_argument(
        "file",
        metavar="FILE",
        type=options.input_file,
        nargs="?",
        default="-",
        help="JSON Lines as export writes them without --csv; by default, standard input",
    )
    users = command.add_mutually_exclusive_group()
    users.add_argument(
        "--map-users",
        metavar="CSV",
        type=options.input_file,
        help="each user's id in the file and in this database: FROM,TO lines without a header; "
        "used for every line with a user_id, whatever database it is from; a user not in it is "
        "refused",
    )
    users.add_argument(
        "--same-users",
        action="store_true",
        help="the users of this database have the same ids as in the one that the file comes "
        "from, as after a restore from a dump",
    )
    command.add_argument(
        "--skip-conflicts",
        action="store_true",
        help="skip and report a line whose submission key is used by a different response here, "
        "instead of stopping there",
    )
    options.add_json(command)
    command.set_defaults(run=run)


@dataclass
class _Tally:
    """What an import has done so far."""

    responses: int = 0
    scores: int = 0
    existing: int = 0
    skipped: int = 0
    begun: bool = False
    complete: bool = False

    def document(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            **FORMAT,
            "is_complete": self.complete,
            "imported": self.responses,
            "imported_scores": self.scores,
            "already_stored": self.existing,
            "skipped": self.skipped,
        }


def run(arguments: argparse.Namespace) -> int:
    """Store the responses; return the exit status."""
    tally = _Tally()

    async def work(pool: asyncpg.Pool[Any]) -> None:
        with signals.interruptible():  # the mapping may come from a pipe too
            mapping = None if arguments.map_users is None else read_mapping(arguments.map_users)
        with _open_input(arguments.file) as stream:
            tally.begun = True
            this = await queries.cli.get_database_identity(pool)
            users = Users(this, mapping, arguments.same_users)
            await _import(
                *(pool, _read_batches(stream, users), tally),
                total=_size(stream),
                skip_conflicts=arguments.skip_conflicts,
            )
        tally.complete = True

    try:
        return runner.run(arguments.database, work)
    finally:
        if tally.begun and arguments.as_json:
            say(json.dumps(tally.document()))
        elif tally.complete:
            skipped = f"; {tally.skipped:,} were skipped" if tally.skipped else ""
            print(
                f"imported {tally.responses:,} responses with {tally.scores:,} scores; "
                f"{tally.existing:,} were already there{skipped}",
                file=sys.stderr,
            )
        elif tally.begun:
            print(
                f"{tally.responses:,} responses were stored before; run it again, "
                "what is there is not stored twice",
                file=sys.stderr,
            )


@contextmanager
def _open_input(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        if sys.stdin is None:  # as after <&-
            raise CommandError("standard input is closed")
        yield sys.stdin.buffer
        return
    try:
        stream = Path(name).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}") from None
    with stream:
        yield stream


def _size(stream: BinaryIO) -> int | None:
    """Return the bytes of a file, or ``None`` for what has no size, such as a pipe."""
    status = os.fstat(stream.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


async def _import(
    pool: asyncpg.Pool[Any],
    read: AsyncGenerator[_Batch, None],
    tally: _Tally,
    *,
    total: int | None,
    skip_conflicts: bool,
) -> None:
    size = 0
    # Lines of a file are read while PostgreSQL stores those before. A pipe may be silent for long,
    # and the transaction open as long.
    batches = read if total is None else read_ahead(read)
    with progress.counting("imported", total) as show:
        async with aclosing(batches):
            async for batch in batches:
                done = await batch.store(pool, skip_conflicts=skip_conflicts)
                conflicts = done["conflict_numbers"] or []
                tally.responses += done["responses"]
                tally.scores += done["scores"]
                tally.existing += done["already_stored"]
                tally.skipped += len(conflicts)
                for number in conflicts:
                    print(f"{batch.key_conflict(int(number))}: skipped", file=sys.stderr)
                size += batch.size
                show(tally.responses + tally.existing, size)


async def _read_batches(stream: BinaryIO, users: Users) -> AsyncGenerator[_Batch, None]:
    """Yield the lines in batches, none with the same submission key twice."""
    batch = _Batch()
    for number, line in _read_lines(stream):
        response, scores = _parse_line(number, line, users)
        if response["submission_key"] in batch.keys:
            yield batch
            batch = _Batch()
        batch.add(number, len(line), response, scores)
        if batch.is_full:
            yield batch
            batch = _Batch()
        if number % _SLICE == 0:
            await asyncio.sleep(0)  # meanwhile the batch before is stored
    if batch.numbers:
        yield batch


def _parse_line(
    number: int, line: bytes, users: Users
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        response, scores, database = jsonl.parse_line(line)
        if response["user_id"] is not None:
            response["user_id"] = users.resolve(response["user_id"], database)
    except InvalidInput as error:
        path = f"{error.parameter}: " if error.parameter else ""
        hint = _EXPECTED if number == 1 and not path else ""
        raise CommandError(f"line {number}: {path}{error.problem}{hint}") from None
    return response, scores


def _read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers."""
    for number in itertools.count(1):
        try:
            with signals.interruptible():  # a pipe may be silent
                line = stream.readline(_LONGEST_LINE + 1)
        except OSError as error:
            raise CommandError(f"cannot read: {error.strerror}") from None
        if not line:
            return
        if len(line) > _LONGEST_LINE:
            raise CommandError(f"line {number}: must not exceed {_LONGEST_LINE} bytes")
        if line.strip():
            yield number, line


class _IncompleteError(Exception):
    """PostgreSQL stored less than it was to store."""


class _Batch:
    """The lines of one statement, as the columns that it takes."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.keys: set[UUID] = set()
        self.size = 0
        self._responses: list[dict[str, Any]] = []
        self._scores: list[dict[str, Any]] = []

    @property
    def is_full(self) -> bool:
        """Whether it has enough lines for a statement."""
        return len(self.numbers) == _BATCH or self.size >= _BATCH_BYTES

    def add(
        self, number: int, size: int, response: dict[str, Any], scores: list[dict[str, Any]]
    ) -> None:
        """Add line *number*, of *size* bytes."""
        self.numbers.append(number)
        self.keys.add(response["submission_key"])
        self.size += size
        self._responses.append(response)
        self._scores += [{**score, "number": len(self.numbers)} for score in scores]

    async def store(self, pool: asyncpg.Pool[Any], *, skip_conflicts: bool) -> Any:
        """Store what the database does not have yet, all or nothing; return what was done."""
        responses, scores = self._responses, self._scores
        columns = {name: [each[name] for each in responses] for name in responses[0]}
        columns |= {f"score_{name}": [each[name] for each in scores] for name in _SCORE_COLUMNS}
        arrays = text_arrays(columns)
        for _ in range(_ATTEMPTS):
            # A concurrent transaction that has stored one of these: see which, with what content.
            with suppress(_IncompleteError):
                return await self._send(pool, {**arrays, "skip_conflicts": skip_conflicts})
        raise CommandError(f"{self._range()}: something keeps PostgreSQL from storing all")

    async def _send(self, pool: asyncpg.Pool[Any], arguments: dict[str, Any]) -> Any:
        try:
            async with atomic(pool) as conn:
                await queries.cli.lock_import(conn)
                done = await queries.cli.import_responses(conn, **arguments)
                self._check(done)
        except UnknownUser:
            raise CommandError(f"{self._range()}: a user has just been deleted") from None
        except asyncpg.ForeignKeyViolationError:
            raise CommandError(f"{self._range()}: a response has just been erased") from None
        return done

    def _check(self, done: Any) -> None:
        """Refuse what was not to be stored, or was not stored."""
        if number := done["conflict_number"]:
            raise self.key_conflict(number)
        if number := done["unknown_user_number"]:
            raise CommandError(f"line {self.numbers[number - 1]}: {UnknownUser.message}")
        seen = done["responses"] + done["already_stored"] + len(done["conflict_numbers"] or [])
        if (seen, done["scores"]) != (len(self.numbers), done["new_scores"]):
            raise _IncompleteError

    def key_conflict(self, number: int) -> CommandError:
        """Return the error of response *number* of this batch, counted from 1."""
        line = self.numbers[number - 1]
        return CommandError(f"line {line}: submission_key: is already used by a different response")

    def _range(self) -> str:
        return f"lines {self.numbers[0]} to {self.numbers[-1]}"
