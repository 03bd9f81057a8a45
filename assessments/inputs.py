"""What is let in: types, limits, text, JSON.

One pass over each argument, before anything is encoded or sent. What passes comes back from
PostgreSQL equal; what does not is an `InvalidInput` that names the argument and never quotes
its value. The limits stand here and nowhere else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from assessments.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ANSWER_BYTES = 1024 * 1024
"""Longest *answer_text*, in bytes of UTF-8."""
MAX_METADATA_BYTES = 64 * 1024
"""Longest *answer_metadata*, in bytes of its JSON text in UTF-8."""
MAX_SCORE_BYTES = 256 * 1024
"""Longest *score_data*, in bytes of its JSON text in UTF-8."""
MAX_BATCH = 10_000
"""Most elements of a call that takes many."""
MAX_BATCH_CHARACTERS = 64 * 1024 * 1024
"""Most text of a call that takes many: its ids, answers and JSON together, in characters."""
MAX_ID_CHARACTERS = 512
"""Longest id or slug, in characters."""
MAX_JSON_DEPTH = 32
"""Deepest nesting of JSON; the object at the top is level 1."""
MAX_JSON_DIGITS = 640
"""Most digits of an integer in JSON: what every Python can read back, as
``sys.set_int_max_str_digits`` takes no lower limit."""
MAX_DAYS = 365_000
"""Longest age, in days: a thousand years."""
MAX_BIGINT = 2**63 - 1
"""Largest value of a PostgreSQL bigint."""

_NUL = "must not contain a NUL character"
_NUMBERS = (int, float)
_CONTAINERS = (dict, list)
_JSON_TYPES = frozenset({str, bool, type(None), *_NUMBERS, *_CONTAINERS})
_INTEGER_BOUND = 10**MAX_JSON_DIGITS
_PLAIN_NUMBER_BOUND = 1e16  # below it, repr() writes a float without an exponent
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


def positive_bigint(parameter: str, value: object) -> int:
    """Return *value*, an int that is a key or a count: from 1 to 2**63-1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(parameter, "must be an int")
    if not 1 <= value <= MAX_BIGINT:
        raise InvalidInput(parameter, "must be from 1 to 2**63-1")
    return value


def optional_positive_bigint(parameter: str, value: object) -> int | None:
    """Return *value* as `positive_bigint` does, or ``None``."""
    return None if value is None else positive_bigint(parameter, value)


def optional_position(parameter: str, value: object) -> int | None:
    """Return *value*, a key to go on after, or ``None``; 0 is before every key."""
    return 0 if value == 0 and type(value) is int else optional_positive_bigint(parameter, value)


def boolean(parameter: str, value: object) -> bool:
    """Return *value*, which must be a bool."""
    if not isinstance(value, bool):
        raise InvalidInput(parameter, "must be a bool")
    return value


def uuid(parameter: str, value: object) -> UUID:
    """Return *value*, a UUID or its text form of RFC 9562, section 4, in any case."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, str) and _UUID.fullmatch(value):
        return UUID(value)
    raise InvalidInput(parameter, "must be a UUID or its string of 36 characters")


def random_uuid(parameter: str, value: object) -> UUID:
    """Return *value* as `uuid` does; careless clients would share the nil UUID: it is refused."""
    random = uuid(parameter, value)
    if not random.int:
        raise InvalidInput(parameter, "must not be the nil UUID")
    return random


def optional_uuid(parameter: str, value: object) -> UUID | None:
    """Return *value* as `uuid` does, or ``None``."""
    return None if value is None else uuid(parameter, value)


def optional_moment(parameter: str, value: object) -> datetime | None:
    """Return *value*, an aware datetime, or ``None``."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidInput(parameter, "must be an aware datetime")
    try:
        value.astimezone(timezone.utc)
    except OverflowError:
        pass
    else:
        return value
    raise InvalidInput(parameter, "must be from year 1 to 9999 in UTC")


def age(parameter: str, value: object) -> timedelta:
    """Return *value*, a timedelta above zero and of at most `MAX_DAYS`."""
    if not isinstance(value, timedelta):
        raise InvalidInput(parameter, "must be a timedelta")
    if not timedelta(0) < value <= timedelta(MAX_DAYS):
        raise InvalidInput(parameter, f"must be above zero and at most {MAX_DAYS} days")
    return value


def cursor(parameter: str, value: object) -> tuple[datetime | None, int | None]:
    """Return *value*, the ``(created_at, response_id)`` of the last row seen, or two ``None``."""
    if value is None:
        return None, None
    if not isinstance(value, tuple | list) or len(value) != 2:  # noqa: PLR2004
        raise InvalidInput(parameter, "must be a pair (created_at, response_id)")
    created_at, response_id = value
    if created_at is None:
        raise InvalidInput(parameter, "must be a pair (created_at, response_id)")
    optional_moment(parameter, created_at)
    return created_at, positive_bigint(parameter, response_id)


def identifier(parameter: str, value: object) -> str:
    """Return *value*, a name given by the host: text of 1 to `MAX_ID_CHARACTERS` characters."""
    if not isinstance(value, str):
        raise InvalidInput(parameter, "must be a str")
    if not value:
        raise InvalidInput(parameter, "must not be empty")
    if len(value) > MAX_ID_CHARACTERS:
        raise InvalidInput(parameter, f"must not exceed {MAX_ID_CHARACTERS} characters")
    _utf8_length(parameter, value)
    return value


def optional_identifier(parameter: str, value: object) -> str | None:
    """Return *value* as `identifier` does, or ``None``."""
    return None if value is None else identifier(parameter, value)


def optional_identifiers(parameter: str, value: object) -> list[str] | None:
    """Return *value*, a list or other collection of at most `MAX_BATCH` names, or ``None``."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Collection):
        raise InvalidInput(parameter, "must be a list of str")
    if len(value) > MAX_BATCH:
        raise InvalidInput(parameter, f"must not exceed {MAX_BATCH} elements")
    return [identifier(f"{parameter}[{index}]", each) for index, each in enumerate(value)]


def batch(
    parameter: str, value: object, element: type, check: Callable[..., dict[str, Any]]
) -> dict[str, list[Any]]:
    """Return the columns of *value*, a list of dicts with the keys of the TypedDict *element*.

    *check* takes the keys of an element by keyword and returns its columns.

    Raises:
        InvalidInput: An element, or a value in it, is not let in: *parameter* is then
            ``responses[3]`` or ``responses[3].question_id``, counted from 0.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise InvalidInput(parameter, "must be a list of dicts")
    if len(value) > MAX_BATCH:
        raise InvalidInput(parameter, f"must not exceed {MAX_BATCH} elements")
    columns: dict[str, list[Any]] = {}
    size = 0
    for index, each in enumerate(value):
        place = f"{parameter}[{index}]"
        _check_keys_of_element(place, each, element)
        try:
            checked = check(**each)
        except InvalidInput as error:
            refused = InvalidInput(f"{place}.{error.parameter}", error.problem)
        else:
            size += sum(len(column) for column in checked.values() if isinstance(column, str))
            if size > MAX_BATCH_CHARACTERS:
                raise InvalidInput(parameter, f"must not exceed {MAX_BATCH_CHARACTERS} characters")
            for name, column in checked.items():
                columns.setdefault(name, []).append(column)
            continue
        raise refused
    return columns


def _check_keys_of_element(place: str, element: object, kind: Any) -> None:
    if not isinstance(element, dict):
        raise InvalidInput(place, "must be a dict")
    for key in kind.__annotations__:
        if key in kind.__required_keys__ and key not in element:
            raise InvalidInput(f"{place}.{key}", "is missing")
    if len(element.keys() & kind.__annotations__.keys()) < len(element):
        raise InvalidInput(place, f"may have no other keys than {', '.join(kind.__annotations__)}")


def answer(parameter: str, value: object) -> str:
    """Return *value*, text of at most `MAX_ANSWER_BYTES`; a blank answer is an answer."""
    if not isinstance(value, str):
        raise InvalidInput(parameter, "must be a str")
    if len(value) > MAX_ANSWER_BYTES or _utf8_length(parameter, value) > MAX_ANSWER_BYTES:
        raise InvalidInput(parameter, f"must not exceed {MAX_ANSWER_BYTES} bytes of UTF-8")
    return value


def json_object(parameter: str, value: object, max_bytes: int) -> str:
    """Return *value*, a dict that JSONB holds and gives back equal, as its JSON text.

    Values are str, int, float, bool, None, and lists and dicts of them; keys are str. A tuple
    is refused, because it would come back as a list; so is a float whose digits JSONB would
    give back as another number (1e23 is 99999999999999991611392 to a float, 10**23 to JSONB).
    """
    if not isinstance(value, dict):
        raise InvalidInput(parameter, "must be a dict")
    if type(value) is not dict:
        _check_items(parameter, value)
    if not value:
        return "{}"
    if _check_container(parameter, value, 1, max_bytes) >= 0:
        text = _encode(value)
        if _utf8_length(parameter, text) <= max_bytes:
            return text
    raise InvalidInput(parameter, f"must not exceed {max_bytes} bytes of JSON in UTF-8")


def _utf8_length(parameter: str, value: str) -> int:
    """Return the length of *value* in UTF-8; refuse what PostgreSQL's text cannot hold."""
    if "\0" in value:
        raise InvalidInput(parameter, _NUL)
    if value.isascii():
        return len(value)
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        pass  # it quotes the text: raise outside, so that it is not even the context
    raise InvalidInput(parameter, "must not contain a lone surrogate")


def _check_container(  # noqa: C901 - one pass, and every call pays for it
    parameter: str, container: dict[Any, Any] | list[Any], depth: int, budget: int
) -> int:
    """Refuse what JSONB cannot hold or would not give back equal.

    *budget* is how many more characters of JSON are allowed. It is counted low and returned as
    it is left; once it is below 0 the rest is not looked at, so that far too much costs little.
    """
    if depth > MAX_JSON_DEPTH:
        raise InvalidInput(parameter, f"must not nest deeper than {MAX_JSON_DEPTH} levels")
    budget -= len(container)
    if budget < 0:
        return budget
    values: Any = container
    if isinstance(container, dict):
        budget -= _check_keys(parameter, container)
        values = container.values()
    for value in values:
        kind = type(value)
        if kind not in _JSON_TYPES:
            kind = _json_type(parameter, value)
        if kind is str:
            if "\0" in value:
                raise InvalidInput(parameter, _NUL)
            budget -= len(value)
        elif kind in _NUMBERS:
            if not -_PLAIN_NUMBER_BOUND < value < _PLAIN_NUMBER_BOUND:
                _check_number(parameter, value)
        elif kind in _CONTAINERS:
            budget = _check_container(parameter, value, depth + 1, budget)
        if budget < 0:
            break
    return budget


def _check_keys(parameter: str, container: dict[Any, Any]) -> int:
    """Refuse keys that are not text; return the length of them all."""
    length = 0
    for key in container:
        if not isinstance(key, str):
            raise InvalidInput(parameter, "must have str keys only")
        if "\0" in key:
            raise InvalidInput(parameter, _NUL)
        length += len(key)
    return length


def _check_items(parameter: str, value: Any) -> None:
    """Refuse a dict of a subclass that shows other items than it holds, as a multi-dict does."""
    if dict(value.items()) != dict.copy(value):
        raise InvalidInput(parameter, f"has a {type(value).__name__}, which is not JSON")


def _check_number(parameter: str, value: float) -> None:
    """Refuse a large *value*, NaN or infinity that does not survive JSONB's numeric."""
    if isinstance(value, int):
        if not -_INTEGER_BOUND < value < _INTEGER_BOUND:
            raise InvalidInput(parameter, f"has an int of over {MAX_JSON_DIGITS} digits")
    elif not math.isfinite(value):
        raise InvalidInput(parameter, "must not contain NaN or an infinity")
    elif Decimal(float.__repr__(value)) != value:
        raise InvalidInput(parameter, "has a float that JSONB would not give back equal")


def _json_type(parameter: str, value: object) -> type:
    """Return the type that *value*, of a subclass, is to JSON: an IntEnum is an int."""
    for kind in (str, *_NUMBERS, *_CONTAINERS):
        if isinstance(value, kind):
            if kind is dict:
                _check_items(parameter, value)
            return kind
    raise InvalidInput(parameter, f"has a {type(value).__name__}, which is not JSON")
