"""Checks of the arguments of a call: its owner, a page, a new response, a new score, a batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from assessments import validation
from assessments.errors import InvalidInput
from assessments.event_loop import map_in_slices
from assessments.records import NewResponse, NewScore
from assessments.validation.json_object import encode_json_object
from assessments.validation.scalars import (
    check_answer_text,
    check_aware_datetime,
    check_bigint,
    check_identifier,
    check_optional,
    check_page_size,
    check_random_uuid,
    check_uuid,
)

if TYPE_CHECKING:
    from datetime import datetime

    Check = Callable[[str, object], Any]
    Columns = dict[str, Any]

_RESPONSE: dict[str, Check] = {
    "user_id": check_bigint,
    "anonymous_token": check_random_uuid,
    "question_id": check_identifier,
    "module_slug": check_identifier,
    "learning_outcome_id": check_identifier,
    "content_id": check_uuid,
    "answer_text": check_answer_text,
    "answer_metadata": lambda name, value: encode_json_object(
        name, value, validation.MAX_METADATA_BYTES
    ),
    "submission_key": check_random_uuid,
}
_SCORE: dict[str, Check] = {
    "response_id": check_bigint,
    "score_data": lambda name, value: encode_json_object(name, value, validation.MAX_SCORE_BYTES),
    "model_id": check_identifier,
    "prompt_version": check_identifier,
}


def check_owner(user_id: object, anonymous_token: object) -> Columns:
    """Return the owner or owners of what is read or erased; refuse none."""
    if user_id is None and anonymous_token is None:
        raise InvalidInput("user_id", "user_id or anonymous_token is needed")
    return {
        "user_id": check_optional(check_bigint, "user_id", user_id),
        "anonymous_token": check_optional(check_random_uuid, "anonymous_token", anonymous_token),
    }


def check_page(
    owner: Columns, module_slug: object, question_id: object, limit: object, before: object
) -> Columns:
    """Return the parameters of a query that lists the responses of *owner* in pages."""
    created_at, response_id = _check_cursor(before)
    return {
        **owner,
        "module_slug": check_optional(check_identifier, "module_slug", module_slug),
        "question_id": check_optional(check_identifier, "question_id", question_id),
        "before_created_at": created_at,
        "before_response_id": response_id,
        "max_rows": check_optional(check_page_size, "limit", limit),
    }


def _check_cursor(before: object) -> tuple[datetime | None, int | None]:
    if before is None:
        return None, None
    if not isinstance(before, tuple | list) or len(before) != 2:  # noqa: PLR2004
        raise InvalidInput("before", "must be a pair (created_at, response_id)")
    return check_aware_datetime("before", before[0]), check_bigint("before", before[1])


def check_identifiers(parameter: str, value: object) -> list[str]:
    """Return *value*, a list or other collection of at most `MAX_BATCH` names."""
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        raise InvalidInput(parameter, "must be a list of str")
    names = enumerate(_limit_batch(parameter, value))
    return [check_identifier(f"{parameter}[{index}]", name) for index, name in names]


def check_response_ids(parameter: str, value: object) -> list[int]:
    """Return *value*, a list or other collection of at most `MAX_BATCH` keys."""
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        raise InvalidInput(parameter, "must be a list of int")
    keys = enumerate(_limit_batch(parameter, value))
    return [check_bigint(f"{parameter}[{index}]", key) for index, key in keys]


def check_new_response(response: Mapping[str, Any]) -> Columns:
    """Return the columns of *response*, checked and encoded; it has exactly one owner."""
    if (response.get("user_id") is None) == (response.get("anonymous_token") is None):
        raise InvalidInput("user_id", "give exactly one of user_id and anonymous_token")
    columns = _check_columns(response, _RESPONSE, NewResponse.__optional_keys__)
    columns["answer_metadata"] = columns["answer_metadata"] or "{}"
    return columns


def check_new_score(score: Mapping[str, Any]) -> Columns:
    """Return the columns of *score*, checked and encoded."""
    return _check_columns(score, _SCORE, NewScore.__optional_keys__)


def _check_columns(
    given: Mapping[str, Any], checks: dict[str, Check], optional_keys: Collection[str]
) -> Columns:
    return {
        name: None
        if (value := given.get(name)) is None and name in optional_keys
        else check(name, value)
        for name, check in checks.items()
    }


async def check_new_responses(responses: object) -> dict[str, list[Any]]:
    """Return the columns of *responses*, a list of `NewResponse`."""
    return await _check_batch("responses", responses, NewResponse, check_new_response)


async def check_new_scores(scores: object) -> dict[str, list[Any]]:
    """Return the columns of *scores*, a list of `NewScore`."""
    return await _check_batch("scores", scores, NewScore, check_new_score)


async def _check_batch(
    parameter: str, items: object, kind: Any, check: Callable[[Mapping[str, Any]], Columns]
) -> dict[str, list[Any]]:
    """Return the columns of *items*; an error names the item: ``responses[3].question_id``."""
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        raise InvalidInput(parameter, "must be a list of dicts")
    size = 0
    required, known = kind.__required_keys__, frozenset(kind.__annotations__)

    def check_item(numbered: tuple[int, Any]) -> Columns:
        nonlocal size
        index, item = numbered
        if type(item) is not dict or not required <= item.keys() <= known:
            check_keys(f"{parameter}[{index}]", item, kind.__required_keys__, kind.__annotations__)
        try:
            checked = check(item)
        except InvalidInput as error:
            path = f"{parameter}[{index}].{error.parameter}"
            raise InvalidInput(path, error.problem) from None
        for value in checked.values():
            if isinstance(value, str):
                size += len(value)
        if size > validation.MAX_BATCH_CHARACTERS:
            limit = validation.MAX_BATCH_CHARACTERS
            raise InvalidInput(parameter, f"must not exceed {limit} characters")
        return checked

    rows = await map_in_slices(check_item, enumerate(_limit_batch(parameter, items)))
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def check_keys(
    place: str, value: object, required: Collection[str], known: Collection[str]
) -> None:
    """Refuse *value* unless it is a dict with all *required* keys and no others than *known*."""
    if not isinstance(value, dict):
        raise InvalidInput(place, "must be a dict")
    if missing := [key for key in known if key in required and key not in value]:
        raise InvalidInput(f"{place}.{missing[0]}".lstrip("."), "is missing")
    if not value.keys() <= set(known):
        raise InvalidInput(place, f"may have no other keys than {', '.join(known)}")


def _limit_batch(parameter: str, items: Collection[Any]) -> list[Any]:
    limited = list(islice(items, validation.MAX_BATCH + 1))
    if len(limited) > validation.MAX_BATCH:
        raise InvalidInput(parameter, f"must not exceed {validation.MAX_BATCH} items")
    return limited
