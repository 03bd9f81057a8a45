"""``assessments import``: stores what ``export`` wrote, each response once."""

from __future__ import annotations

import itertools
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from assessments.cli import jsonl, options, progress, runner
from assessments.cli.errors import CommandError
from assessments.errors import InvalidInput, UnknownUser
from assessments.queries import queries, text_arrays

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from uuid import UUID

    import asyncpg

_BATCH = 500
_BATCH_BYTES = 8 * 1024 * 1024
_LONGEST_LINE = 64 * 1024 * 1024
_ATTEMPTS = 5
_SCORE_COLUMNS = ("number", "data", "model_id", "prompt_version", "created_at")


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "import",
        help="store what export has written; responses that are stored already are left alone",
        description="Store exported responses with their scores. After a failure, run it again: "
        "no response is stored twice.",
    )
    options.add_database(command)
    command.add_argument(
        "file",
        metavar="FILE",
        type=options.input_file,
        nargs="?",
        default="-",
        help="default: stdin",
    )
    command.set_defaults(run=run)


@dataclass
class _Tally:
    """What an import has done so far."""

    responses: int = 0
    scores: int = 0
    existing: int = 0
    begun: bool = False
    complete: bool = False


def run(arguments: argparse.Namespace) -> int:
    """Store the responses; return the exit status."""
    tally = _Tally()

    async def work(pool: asyncpg.Pool[Any]) -> None:
        tally.begun = True
        with _open_input(arguments.file) as stream:
            await _import(pool, stream, tally)
        tally.complete = True

    try:
        return runner.run(arguments.database, work)
    finally:
        if tally.complete:
            print(
                f"imported {tally.responses:,} responses with {tally.scores:,} scores; "
                f"{tally.existing:,} were already there",
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
        yield sys.stdin.buffer
        return
    try:
        stream = Path(name).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}") from None
    with stream:
        yield stream


async def _import(pool: asyncpg.Pool[Any], stream: BinaryIO, tally: _Tally) -> None:
    with progress.counting("imported") as show:
        for batch in _read_batches(stream):
            await batch.store(pool, tally)
            show(tally.responses + tally.existing)


def _read_batches(stream: BinaryIO) -> Iterator[_Batch]:
    batch = _Batch()
    for number, line in _read_lines(stream):
        batch.add(number, line)
        if len(batch.numbers) == _BATCH or batch.size >= _BATCH_BYTES:
            yield batch
            batch = _Batch()
    yield batch


def _read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers."""
    for number in itertools.count(1):
        try:
            line = stream.readline(_LONGEST_LINE + 1)
        except OSError as error:
            raise CommandError(f"cannot read: {error.strerror}") from None
        if not line:
            return
        if len(line) > _LONGEST_LINE:
            raise CommandError(f"line {number}: must not exceed {_LONGEST_LINE} bytes")
        if line.strip():
            yield number, line


class _Batch:
    """The lines of one statement, checked, as the columns that it takes."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.size = 0
        self._repeated = 0
        self._columns: dict[str, list[Any]] = {}
        self._scores: dict[str, list[Any]] = {f"score_{name}": [] for name in _SCORE_COLUMNS}
        self._contents: dict[UUID, tuple[str, str, str]] = {}

    def add(self, number: int, line: bytes) -> None:
        """Add a line; of two with the same submission key, only the first."""
        try:
            response, scores = jsonl.parse_line(line)
        except InvalidInput as error:
            path = f"{error.parameter}: " if error.parameter else ""
            raise CommandError(f"line {number}: {path}{error.problem}") from None
        if self._is_repeated(number, response):
            self._repeated += 1
            return
        self.numbers.append(number)
        self.size += len(line)
        for name, value in response.items():
            self._columns.setdefault(name, []).append(value)
        for score in scores:
            for name, value in {**score, "number": len(self.numbers)}.items():
                self._scores[f"score_{name}"].append(value)

    def _is_repeated(self, number: int, response: dict[str, Any]) -> bool:
        content = (response["question_id"], response["module_slug"], response["answer_text"])
        first = self._contents.setdefault(response["submission_key"], content)
        if first != content:
            raise _key_conflict(number)
        return first is not content

    async def store(self, pool: asyncpg.Pool[Any], tally: _Tally) -> None:
        """Store what the database does not have yet, in one statement."""
        stored = 0
        for _ in range(_ATTEMPTS if self.numbers else 0):
            done = await self._send(pool)
            tally.responses += done["responses"]
            tally.scores += done["scores"]
            stored += done["responses"]
            if done["responses"] + done["already_stored"] == len(self.numbers):
                break
            # A concurrent transaction stored one of these: see which, and with what content.
        else:
            if self.numbers:
                raise CommandError(f"{self._range()}: something keeps PostgreSQL from storing all")
        tally.existing += len(self.numbers) - stored + self._repeated

    async def _send(self, pool: asyncpg.Pool[Any]) -> Any:
        try:
            arrays = text_arrays(self._columns | self._scores)
            done = await queries.cli.import_responses(pool, **arrays)
        except UnknownUser:
            raise CommandError(f"{self._range()}: a user has just been deleted") from None
        if number := done["conflict_number"]:
            raise _key_conflict(self.numbers[number - 1])
        if number := done["unknown_user_number"]:
            raise CommandError(f"line {self.numbers[number - 1]}: {UnknownUser.message}")
        return done

    def _range(self) -> str:
        return f"lines {self.numbers[0]} to {self.numbers[-1]}"


def _key_conflict(line: int) -> CommandError:
    return CommandError(f"line {line}: submission_key: is already used by a different response")
