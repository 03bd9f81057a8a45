"""Responses with their scores as lines of JSON: what ``export`` writes and ``import`` reads.

A line holds the columns of `assessments.AssessmentResponse` and

- *database*: which database it comes from, so that a ``user_id`` is not taken for another person's;
- *submission_key*: which identifies the response in every database, so that an export and an
  import can both be repeated;
- *scores*, oldest first. One that equals earlier scores of the response in time, model, prompt
  version and data has an *occurrence*, counted from 1 and left out at 1, so that none is stored
  twice and none is lost.

UUIDs and timestamps are strings, and numbers have all the digits that are stored. Where the scores
of a response are too long for a line, further lines continue it: they repeat all of the first but
the scores.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timezone
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid5

from assessments import AssessmentResponse
from assessments.errors import InvalidInput
from assessments.validation import MAX_JSON_DIGITS
from assessments.validation.arguments import check_keys, check_new_response, check_new_score
from assessments.validation.scalars import (
    check_aware_datetime,
    check_bigint,
    check_identifier,
    check_optional,
    check_random_uuid,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

# The namespace of the keys of responses stored without one. Another would derive other keys.
_KEYS = UUID("0e6cdd5c-20a7-4cc7-a7bd-a6a05ea3cbc1")
_COLUMNS = tuple(AssessmentResponse.__annotations__)
_REQUIRED = ("submission_key", "question_id", "module_slug", "answer_text", "created_at", "scores")
_KNOWN = (*_COLUMNS, "database", "submission_key", "scores")
_REQUIRED_OF_SCORE = ("score_data", "created_at")
_COLUMNS_OF_SCORE = ("score_data", "model_id", "prompt_version", "created_at")
_KNOWN_OF_SCORE = (*_COLUMNS_OF_SCORE, "occurrence")
_LINE_BYTES = 8 * 1024 * 1024  # of scores; the score that exceeds it ends a line
_JSON_COLUMNS = ("answer_metadata", "score_data")


class LineFormatter:
    """The lines of an export, from rows of ``iter_responses_with_scores``.

    JSON columns are in the rows as text and go on unchanged, so that no number is rounded.
    """

    def __init__(self, database: str) -> None:
        self.count = 0
        self._database = _encode(database)
        self._response_id: int | None = None
        self._members = ""
        self._scores: list[str] = []
        self._size = 0
        self._times: Counter[bytes] = Counter()
        self._timed_at: datetime | None = None

    def add(self, rows: Iterable[Any]) -> Iterator[bytes]:
        """Yield the lines that *rows*, the next ones, complete."""
        for row in rows:
            if row["response_id"] != self._response_id:
                yield from self.end()
                self._begin(row)
            if row["score_data"] is not None:
                if self._size > _LINE_BYTES:
                    yield self._take_line()
                self._add_score({**row, "created_at": row["scored_at"]})

    def end(self) -> Iterator[bytes]:
        """Yield the last line, if there is one."""
        if self._response_id is not None:
            yield self._take_line()
            self._response_id = None

    def _begin(self, row: Mapping[str, Any]) -> None:
        self.count += 1
        self._response_id = row["response_id"]
        key = row["submission_key"] or _derive_key(row)
        self._members = (
            f'{_members(row, _COLUMNS)}, "database": {self._database}, "submission_key": "{key}"'
        )
        self._timed_at = None

    def _add_score(self, score: Mapping[str, Any]) -> None:
        members = _members(score, _COLUMNS_OF_SCORE)
        if score["created_at"] != self._timed_at:  # equal scores have equal times
            self._timed_at = score["created_at"]
            self._times.clear()
        encoded = members.encode()
        digest = sha256(encoded).digest()
        self._times[digest] += 1
        if self._times[digest] > 1:
            members += f', "occurrence": {self._times[digest]}'
        self._scores.append(members)
        self._size += len(encoded)

    def _take_line(self) -> bytes:
        scores = ", ".join(f"{{{members}}}" for members in self._scores)
        self._scores, self._size = [], 0
        return f'{{{self._members}, "scores": [{scores}]}}\n'.encode()


def _members(row: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(
        f'"{name}": {row[name] if name in _JSON_COLUMNS else _encode(row[name])}' for name in names
    )


def _derive_key(row: Mapping[str, Any]) -> UUID:
    """Return the key of a response that has none: always the same, whoever owns it by now."""
    parts = [
        row["response_id"],
        _format(row["created_at"]),
        row["question_id"],
        row["module_slug"],
        row["answer_text"],
    ]
    return uuid5(_KEYS, json.dumps(parts))


def _format(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat(timespec="microseconds")
    return str(value)


_encode = json.JSONEncoder(ensure_ascii=False, default=_format).encode


class Line(NamedTuple):
    """What is on a line: columns of a response and of its scores, and their database, if known."""

    response: dict[str, Any]
    scores: list[dict[str, Any]]
    database: str | None


def parse_line(line: bytes) -> Line:
    """Return what is on *line*, checked by the library's own rules.

    Raises:
        InvalidInput: The line breaks a rule. *parameter* is empty where it is no response at all.
    """
    given = _parse_object(line)
    database = check_optional(check_identifier, "database", given.pop("database", None))
    columns = {
        "submission_key": check_random_uuid("submission_key", given.pop("submission_key")),
        "response_id": check_optional(check_bigint, "response_id", given.pop("response_id", None)),
        "created_at": parse_timestamp("created_at", given.pop("created_at")),
    }
    scores = given.pop("scores")
    if not isinstance(scores, list):
        raise InvalidInput("scores", "must be a list")
    response = {**check_new_response(given), **columns}
    checked = [_check_score(f"scores[{index}]", score) for index, score in enumerate(scores)]
    if _has_decimals([given, scores]):
        if given.get("answer_metadata") is not None:
            response["answer_metadata"] = _encode_exactly(given["answer_metadata"])
        for score, columns_of_score in zip(scores, checked, strict=True):
            columns_of_score["data"] = _encode_exactly(score["score_data"])
    return Line(response, checked, database)


def parse_timestamp(parameter: str, text: object) -> datetime:
    """Return the aware datetime that *text* is in ISO 8601."""
    try:
        # Python 3.10 does not know Z.
        value = datetime.fromisoformat(text.replace("Z", "+00:00"))  # type: ignore[attr-defined]
        check_aware_datetime(parameter, value)
    except (AttributeError, TypeError, ValueError):
        raise InvalidInput(parameter, "must be a timestamp in ISO 8601 with its offset") from None
    return value


class _Decimal(float):
    """A number with the digits that a float does not keep, such as 1.10."""

    digits: str


def _read_float(digits: str) -> float:
    number = float(digits)
    if repr(number) == digits or "e" in digits.lower() or len(digits) > MAX_JSON_DIGITS:
        return number  # an export has no exponents: they are short for numbers of any length
    exact = _Decimal(number)
    exact.digits = digits
    return exact


def _has_decimals(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_decimals, value.values()))
    return any(map(_has_decimals, value)) if isinstance(value, list) else type(value) is _Decimal


def _encode_exactly(value: object) -> str:
    """Return checked JSON with its numbers as they were written, as SQL may have stored them."""
    if isinstance(value, dict):
        members = (f"{_encode(name)}: {_encode_exactly(each)}" for name, each in value.items())
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_encode_exactly, value))}]"
    return value.digits if isinstance(value, _Decimal) else _encode(value)


def _parse_object(line: bytes) -> dict[str, Any]:
    try:
        given = json.loads(line.decode("utf-8-sig"), parse_float=_read_float)
    except UnicodeDecodeError:
        raise InvalidInput("", "is not UTF-8") from None
    except ValueError:
        raise InvalidInput("", "is not JSON") from None
    except RecursionError:
        raise InvalidInput("", "is nested too deep") from None
    return _check_object("", given, _REQUIRED, _KNOWN)


def _check_score(path: str, given: object) -> dict[str, Any]:
    score = _check_object(path, given, _REQUIRED_OF_SCORE, _KNOWN_OF_SCORE)
    try:
        occurrence = check_bigint("occurrence", score.pop("occurrence", 1))
        columns = check_new_score({"response_id": 1, **score})
    except InvalidInput as error:
        raise InvalidInput(f"{path}.{error.parameter}", error.problem) from None
    return {
        "data": columns["score_data"],
        "model_id": columns["model_id"],
        "prompt_version": columns["prompt_version"],
        "created_at": parse_timestamp(f"{path}.created_at", score["created_at"]),
        "occurrence": occurrence,
    }


def _check_object(
    path: str, given: object, required: Collection[str], known: Collection[str]
) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InvalidInput(path, "is not a JSON object")
    check_keys(path, given, required, known)
    return given
