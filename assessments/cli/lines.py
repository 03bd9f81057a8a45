"""A response as a line of JSON, as ``assessments export`` writes and ``import`` reads it.

The line holds the columns of `assessments.AssessmentResponse`, its *submission_key*, and *scores*,
oldest first. UUIDs and moments are strings. The key says which rows of two databases are the same
one, so that an export and an import can both be repeated.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid5

from assessments import AssessmentResponse
from assessments.cli.connection import CommandError
from assessments.errors import InvalidInput
from assessments.validation.arguments import check_keys, check_new_response, check_new_score
from assessments.validation.scalars import (
    check_aware_datetime,
    check_bigint,
    check_optional,
    check_random_uuid,
)

# Of the keys of responses that were stored without one. Another value would be other keys.
_KEYS = UUID("0e6cdd5c-20a7-4cc7-a7bd-a6a05ea3cbc1")
_REQUIRED = ("submission_key", "question_id", "module_slug", "answer_text", "created_at", "scores")
_KNOWN = (*AssessmentResponse.__annotations__, "submission_key", "scores")
_REQUIRED_OF_SCORE = ("score_data", "created_at")
_KNOWN_OF_SCORE = ("score_data", "model_id", "prompt_version", "created_at")


def score(row: Any) -> dict[str, Any]:
    """Return a score as the line holds it."""
    known = {name: row[name] for name in _KNOWN_OF_SCORE}
    return known | {"score_data": json.loads(row["score_data"])}


def written(response: AssessmentResponse, key: UUID | None, scores: list[Any]) -> bytes:
    """Return the line of *response*.

    Raises:
        CommandError: JSON cannot hold it. Nothing that this library has stored is so.
    """
    line = {**response, "submission_key": key or _derived_key(response), "scores": scores}
    try:
        return f"{_encode(line)}\n".encode()
    except ValueError:
        raise CommandError(
            f"response {response['response_id']}: has a number that JSON cannot hold"
        ) from None


def _derived_key(response: AssessmentResponse) -> UUID:
    """Return the key of a response that has none: always the same, whoever owns it by now."""
    parts = [
        response["response_id"],
        _text(response["created_at"]),
        response["question_id"],
        response["module_slug"],
        response["answer_text"],
    ]
    return uuid5(_KEYS, json.dumps(parts))


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat(timespec="microseconds")
    return str(value)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_text).encode


def read(line: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the columns of the response on *line* and of its scores, by the library's own rules.

    Raises:
        InvalidInput: The line is not let in. *parameter* is empty where it is no response at all.
    """
    given = _parsed(line)
    known = {
        "submission_key": check_random_uuid("submission_key", given.pop("submission_key")),
        "response_id": check_optional(check_bigint, "response_id", given.pop("response_id", None)),
        "created_at": moment("created_at", given.pop("created_at")),
    }
    scores = given.pop("scores")
    if not isinstance(scores, list):
        raise InvalidInput("scores", "must be a list")
    return {**check_new_response(given), **known}, [
        _checked_score(f"scores[{index}]", each) for index, each in enumerate(scores)
    ]


def moment(parameter: str, text: object) -> datetime:
    """Return the aware datetime that *text* writes in ISO 8601."""
    try:
        # Python 3.10 does not know Z.
        value = datetime.fromisoformat(text.replace("Z", "+00:00"))  # type: ignore[attr-defined]
        check_aware_datetime(parameter, value)
    except (AttributeError, TypeError, ValueError):
        raise InvalidInput(parameter, "must be a moment in ISO 8601 with its offset") from None
    return value


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        given = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidInput("", "is not UTF-8") from None
    except ValueError:
        raise InvalidInput("", "is not JSON") from None
    except RecursionError:
        raise InvalidInput("", "is nested too deep") from None
    check_keys("", given, _REQUIRED, _KNOWN)
    assert isinstance(given, dict)  # noqa: S101 - just checked
    return given


def _checked_score(place: str, given: object) -> dict[str, Any]:
    check_keys(place, given, _REQUIRED_OF_SCORE, _KNOWN_OF_SCORE)
    assert isinstance(given, dict)  # noqa: S101 - just checked
    try:
        columns = check_new_score({"response_id": 1, **given})
    except InvalidInput as error:
        raise InvalidInput(f"{place}.{error.parameter}", error.problem) from None
    return {
        "data": columns["score_data"],
        "model_id": columns["model_id"],
        "prompt_version": columns["prompt_version"],
        "created_at": moment(f"{place}.created_at", given["created_at"]),
    }
