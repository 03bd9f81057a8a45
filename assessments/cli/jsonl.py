"""A response with its scores as a line of JSON: what ``export`` writes and ``import`` reads.

The line holds the columns of `assessments.AssessmentResponse`, its *submission_key*, and *scores*,
oldest first. UUIDs and timestamps are strings. The key identifies a response in every database, so
that an export and an import can both be repeated.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from assessments import AssessmentResponse
from assessments.errors import InvalidInput
from assessments.validation.arguments import check_keys, check_new_response, check_new_score
from assessments.validation.scalars import (
    check_aware_datetime,
    check_bigint,
    check_optional,
    check_random_uuid,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

# The namespace of the keys of responses stored without one. Another would derive other keys.
_KEYS = UUID("0e6cdd5c-20a7-4cc7-a7bd-a6a05ea3cbc1")
_COLUMNS = tuple(AssessmentResponse.__annotations__)
_REQUIRED = ("submission_key", "question_id", "module_slug", "answer_text", "created_at", "scores")
_KNOWN = (*_COLUMNS, "submission_key", "scores")
_REQUIRED_OF_SCORE = ("score_data", "created_at")
_KNOWN_OF_SCORE = ("score_data", "model_id", "prompt_version", "created_at")
_JSON_COLUMNS = ("answer_metadata", "score_data")


def format_line(row: Mapping[str, Any], key: UUID | None, scores: Iterable[Any]) -> bytes:
    """Return the line of a response from its *row*, its submission *key* and rows of *scores*.

    JSON columns are in the rows as text and go on unchanged, so that no number is rounded.
    """
    members = _members(row, _COLUMNS)
    members += f', "submission_key": "{key or _derive_key(row)}", "scores": ['
    members += ", ".join(f"{{{_members(score, _KNOWN_OF_SCORE)}}}" for score in scores)
    return f"{{{members}]}}\n".encode()


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


def parse_line(line: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the columns of the response on *line* and of its scores, by the library's own rules.

    Raises:
        InvalidInput: The line breaks a rule. *parameter* is empty where it is no response at all.
    """
    given = _parse_object(line)
    columns = {
        "submission_key": check_random_uuid("submission_key", given.pop("submission_key")),
        "response_id": check_optional(check_bigint, "response_id", given.pop("response_id", None)),
        "created_at": parse_timestamp("created_at", given.pop("created_at")),
    }
    scores = given.pop("scores")
    if not isinstance(scores, list):
        raise InvalidInput("scores", "must be a list")
    return {**check_new_response(given), **columns}, [
        _check_score(f"scores[{index}]", score) for index, score in enumerate(scores)
    ]


def parse_timestamp(parameter: str, text: object) -> datetime:
    """Return the aware datetime that *text* is in ISO 8601."""
    try:
        # Python 3.10 does not know Z.
        value = datetime.fromisoformat(text.replace("Z", "+00:00"))  # type: ignore[attr-defined]
        check_aware_datetime(parameter, value)
    except (AttributeError, TypeError, ValueError):
        raise InvalidInput(parameter, "must be a timestamp in ISO 8601 with its offset") from None
    return value


def _parse_object(line: bytes) -> dict[str, Any]:
    try:
        given = json.loads(line.decode("utf-8-sig"))
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
        columns = check_new_score({"response_id": 1, **score})
    except InvalidInput as error:
        raise InvalidInput(f"{path}.{error.parameter}", error.problem) from None
    return {
        "data": columns["score_data"],
        "model_id": columns["model_id"],
        "prompt_version": columns["prompt_version"],
        "created_at": parse_timestamp(f"{path}.created_at", score["created_at"]),
    }


def _check_object(
    path: str, given: object, required: Collection[str], known: Collection[str]
) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InvalidInput(path, "is not a JSON object")
    check_keys(path, given, required, known)
    return given
