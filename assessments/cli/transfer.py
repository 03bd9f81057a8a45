"""``assessments export`` and ``import``: responses with their scores, from database to database."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from assessments.backoffice import iter_batches
from assessments.cli import connection, lines, progress
from assessments.cli.connection import CommandError
from assessments.errors import InvalidInput, UnknownUser
from assessments.queries import queries, text_arrays
from assessments.validation.scalars import check_bigint, check_identifier, check_random_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    import asyncpg


_EXPORT_BATCH = 200  # responses, each of up to a mebibyte and its scores
_BATCH = 500
_BATCH_BYTES = 8 * 1024 * 1024
_LONGEST_LINE = 64 * 1024 * 1024
_FILTERS = ("user_id", "anonymous_token", "module_slug", "question_id", "since", "until")
_TRIES = 5
_SCORE_COLUMNS = ("number", "data", "model_id", "prompt_version", "created_at")


def add_commands(commands: Any) -> None:
    """Add the two commands to the parser's."""
    export = commands.add_parser(
        "export",
        help="write responses with their scores as JSON Lines",
        description="Write responses with their scores, oldest first, one JSON object a line. "
        "It holds personal data, and the visitors' tokens are credentials.",
    )
    connection.add_database(export)
    identifier, moment = partial(check_identifier, ""), partial(lines.moment, "")
    for flag, name, check, which in (
        ("--user-id", "user_id", _user, "of this user"),
        ("--anonymous-token", "anonymous_token", partial(check_random_uuid, ""), "of this visitor"),
        ("--module", "module_slug", identifier, "of this module"),
        ("--question", "question_id", identifier, "to this question"),
        ("--since", "since", moment, "from this moment on, as 2026-11-01T00:00:00+00:00"),
        ("--until", "until", moment, "from before this moment"),
    ):
        export.add_argument(flag, dest=name, type=_argument(check), help=f"only responses {which}")
    export.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="write this file, which appears when it is complete, for its owner only",
    )
    export.set_defaults(run=run_export)

    importing = commands.add_parser(
        "import",
        help="store what export has written; what is there already is left alone",
        description="Store exported responses with their scores. After a failure, run it again: "
        "no response is stored twice.",
    )
    connection.add_database(importing)
    importing.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: stdin")
    importing.set_defaults(run=run_import)


def _argument(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return *check* as argparse wants it: what it refuses is not quoted."""

    def convert(text: str) -> Any:
        try:
            return check(text)
        except InvalidInput as error:
            raise argparse.ArgumentTypeError(error.problem) from None

    return convert


def _user(text: str) -> int:
    return check_bigint("user_id", int(text) if text.isascii() and text.isdecimal() else text)


def run_export(options: argparse.Namespace) -> int:
    """Write the responses; return the exit status."""
    filters = {name: getattr(options, name) for name in _FILTERS}

    async def work(pool: asyncpg.Pool[Any]) -> None:
        with _destination(options.output) as stream:
            count = await _export(pool, filters, stream)
        if sys.stderr.isatty():
            print(f"exported {count:,} responses", file=sys.stderr)

    return connection.run(options.database, work)


@contextmanager
def _destination(output: Path | None) -> Iterator[BinaryIO]:
    """Yield standard output, or a file that takes the place of *output* when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        return
    file = output.resolve()
    part = file.with_name(f"{file.name}.part")
    if file.exists() and not file.is_file():
        raise CommandError("--output: is there already and not a file")
    try:
        part.unlink(missing_ok=True)
        stream = os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise CommandError(f"--output: {error.strerror}") from None
    try:
        with stream:
            yield stream
            _keep(stream)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _keep(stream: BinaryIO) -> None:
    try:
        os.fsync(stream.fileno())
    except OSError as error:
        raise CommandError(f"cannot write: {error.strerror}") from None


async def _export(pool: asyncpg.Pool[Any], filters: dict[str, Any], stream: BinaryIO) -> int:
    count = 0
    with progress.counting("exported") as show:
        async for batch in iter_batches(pool, filters, _EXPORT_BATCH):
            rows = await queries.cli.export_details(
                pool,
                **text_arrays({"response_id": [response["response_id"] for response in batch]}),
            )
            details: dict[int, tuple[UUID | None, list[Any]]] = {}
            for row in rows:
                _, scores = details.setdefault(row["response_id"], (row["submission_key"], []))
                if row["score_data"] is not None:
                    scores.append(lines.score(row))
            # What is missing was erased a moment ago.
            left = [response for response in batch if response["response_id"] in details]
            connection.write(
                stream,
                (lines.written(each, *details[each["response_id"]]) for each in left),
            )
            count += len(left)
            show(count)
    return count


@dataclass
class _Tally:
    """What an import has done so far."""

    responses: int = 0
    scores: int = 0
    there: int = 0
    begun: bool = False
    complete: bool = False


def run_import(options: argparse.Namespace) -> int:
    """Store the responses; return the exit status."""
    tally = _Tally()

    async def work(pool: asyncpg.Pool[Any]) -> None:
        tally.begun = True
        with _source(options.file) as stream:
            await _import(pool, stream, tally)
        tally.complete = True

    try:
        return connection.run(options.database, work)
    finally:
        if tally.complete:
            print(
                f"imported {tally.responses:,} responses with {tally.scores:,} scores; "
                f"{tally.there:,} were already there",
                file=sys.stderr,
            )
        elif tally.begun:
            print(
                f"{tally.responses:,} responses were stored before; run it again, "
                "what is there is not stored twice",
                file=sys.stderr,
            )


@contextmanager
def _source(name: str) -> Iterator[BinaryIO]:
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
        batch = _Batch()
        for number, line in _lines(stream):
            batch.add(number, line)
            if len(batch.numbers) == _BATCH or batch.size >= _BATCH_BYTES:
                await batch.store(pool, tally)
                show(tally.responses + tally.there)
                batch = _Batch()
        await batch.store(pool, tally)
        show(tally.responses + tally.there)


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
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
        self.again = 0
        self._columns: dict[str, list[Any]] = {}
        self._scores: dict[str, list[Any]] = {f"score_{name}": [] for name in _SCORE_COLUMNS}
        self._answers: dict[UUID, tuple[str, str, str]] = {}

    def add(self, number: int, line: bytes) -> None:
        """Add a line; of two with the same key, the first."""
        try:
            response, scores = lines.read(line)
        except InvalidInput as error:
            at = f"{error.parameter}: " if error.parameter else ""
            raise CommandError(f"line {number}: {at}{error.problem}") from None
        answer = (response["question_id"], response["module_slug"], response["answer_text"])
        if (before := self._answers.setdefault(response["submission_key"], answer)) is not answer:
            if before != answer:
                raise CommandError(_conflict(number))
            self.again += 1
            return
        self.numbers.append(number)
        self.size += len(line)
        for name, value in response.items():
            self._columns.setdefault(name, []).append(value)
        for score in scores:
            score["number"] = len(self.numbers)
            for name, value in score.items():
                self._scores[f"score_{name}"].append(value)

    async def store(self, pool: asyncpg.Pool[Any], tally: _Tally) -> None:
        """Store what is not there yet, in one statement."""
        stored = 0
        for _ in range(_TRIES if self.numbers else 0):
            done = await self._send(pool)
            tally.responses += done["responses"]
            tally.scores += done["scores"]
            stored += done["responses"]
            if done["responses"] + done["already_stored"] == len(self.numbers):
                break
            # Somebody else has just stored a response of these: see which, and whether it is ours.
        else:
            if self.numbers:
                raise CommandError(f"{self._place()}: something keeps PostgreSQL from storing all")
        tally.there += len(self.numbers) - stored + self.again

    async def _send(self, pool: asyncpg.Pool[Any]) -> Any:
        try:
            done = await queries.cli.import_responses(
                pool, **text_arrays(self._columns | self._scores)
            )
        except UnknownUser:
            raise CommandError(f"{self._place()}: a user has just been deleted") from None
        if number := done["conflict_number"]:
            raise CommandError(_conflict(self.numbers[number - 1]))
        if number := done["unknown_user_number"]:
            raise CommandError(f"line {self.numbers[number - 1]}: {UnknownUser.message}")
        return done

    def _place(self) -> str:
        return f"lines {self.numbers[0]} to {self.numbers[-1]}"


def _conflict(line: int) -> str:
    return f"line {line}: submission_key: is taken by another answer"
