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
from functools import lru_cache
from hashlib import sha1, sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

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
        self._first = ""  # of the scores of that time

    def add(self, rows: Iterable[Any]) -> Iterator[bytes]:
        """Yield the lines that *rows*, the next ones, complete."""
        for row in rows:
            if row["response_id"] != self._response_id:
                if self._response_id is not None:
                    yield self._take_line()
                self._begin(row)
            if row["score_data"] is not None:
                if self._size > _LINE_BYTES:
                    yield self._take_line()
                self._add_score(row)

    def end(self) -> Iterator[bytes]:
        """Yield the last line, if there is one."""
        if self._response_id is not None:
            yield self._take_line()
            self._response_id = None

    def _begin(self, row: Mapping[str, Any]) -> None:
        self.count += 1
        self._response_id = row["response_id"]
        question_id = _encode_name(row["question_id"])
        module_slug = _encode_name(row["module_slug"])
        answer_text, created_at = _encode(row["answer_text"]), format_timestamp(row["created_at"])
        key = row["submission_key"] or _derive_key(
            f'[{self._response_id}, "{created_at}", {question_id}, {module_slug}, {answer_text}]'
        )
        self._members = (
            f'"response_id": {self._response_id}, '
            f'"anonymous_token": {_encode_uuid(row["anonymous_token"])}, '
            f'"user_id": {_encode(row["user_id"])}, '
            f'"question_id": {question_id}, "module_slug": {module_slug}, '
            f'"learning_outcome_id": {_encode_name(row["learning_outcome_id"])}, '
            f'"content_id": {_encode_uuid(row["content_id"])}, "answer_text": {answer_text}, '
            f'"answer_metadata": {row["answer_metadata"]}, "created_at": "{created_at}", '
            f'"database": {self._database}, "submission_key": "{key}"'
        )
        self._timed_at = None

    def _add_score(self, row: Mapping[str, Any]) -> None:
        members = (
            f'"score_data": {row["score_data"]}, "model_id": {_encode_name(row["model_id"])}, '
            f'"prompt_version": {_encode_name(row["prompt_version"])}, '
            f'"created_at": "{format_timestamp(row["scored_at"])}"'
        )
        self._size += len(members) if members.isascii() else len(members.encode())
        if row["scored_at"] != self._timed_at:  # equal scores have equal times
            self._timed_at = row["scored_at"]
            self._first = members
            self._times.clear()
        else:
            members += self._occurrence(members)
        self._scores.append(members)

    def _occurrence(self, members: str) -> str:
        """Return what a score is marked with that is not the first of its time."""
        if not self._times:
            self._times[_digest(self._first)] = 1
        digest = _digest(members)
        self._times[digest] += 1
        return f', "occurrence": {self._times[digest]}' if self._times[digest] > 1 else ""

    def _take_line(self) -> bytes:
        scores = ", ".join([f"{{{members}}}" for members in self._scores])
        self._scores, self._size = [], 0
        return f'{{{self._members}, "scores": [{scores}]}}\n'.encode()


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _derive_key(parts: str) -> str:
    """Return the key of a response that has none: always the same, whoever owns it by now.

    It is that of ``uuid.uuid5``, which takes three times as long.
    """
    if not parts.isascii() or "\x7f" in parts:  # what the keys are derived from has these escaped
        parts = json.dumps(json.loads(parts))
    digest = sha1(_KEYS.bytes + parts.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) % 4]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def format_timestamp(value: datetime) -> str:
    """Return *value* in ISO 8601, in UTC and to the microsecond."""
    return value.astimezone(timezone.utc).isoformat(timespec="microseconds")


def _encode_uuid(value: UUID | None) -> str:
    return "null" if value is None else f'"{value}"'


_encode = json.JSONEncoder(ensure_ascii=False).encode
_encode_name = lru_cache(4096)(_encode)  # names are short, and few are in many rows


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
    if _decoder.has_decimals:
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


class _Decoder:
    """Decodes JSON, and knows whether the last text had a number that a float does not keep."""

    def __init__(self) -> None:
        self.has_decimals = False
        self._decode = json.JSONDecoder(parse_float=self._read_float).decode

    def decode(self, text: str) -> Any:
        """Return what *text* is; such numbers are `_Decimal`."""
        self.has_decimals = False
        return self._decode(text)

    def _read_float(self, digits: str) -> float:
        number = float(digits)
        if repr(number) == digits or "e" in digits.lower() or len(digits) > MAX_JSON_DIGITS:
            return number  # an export has no exponents: they are short for numbers of any length
        exact = _Decimal(number)
        exact.digits = digits
        self.has_decimals = True
        return exact


_decoder = _Decoder()


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
        given = _decoder.decode(line.decode("utf-8-sig"))
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
