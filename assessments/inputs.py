"""What is let in: types, limits, text, JSON.

One pass over each argument, before anything is encoded or sent. What passes comes back from
PostgreSQL equal; what does not is an `InvalidInput` that names the argument and never quotes
its value. A value of a subclass is taken for what it holds: what its class overrides is not asked,
and it goes on as a plain value. The limits stand here and nowhere else.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from assessments.errors import InvalidInput

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
_CONSTANTS = (bool, type(None))
_PLAIN: dict[type, Callable[[Any], Any]] = {  # how each reads itself, whatever a subclass overrides
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    dict: dict.copy,
    list: list.copy,
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    datetime: lambda value: datetime.combine(datetime.date(value), datetime.timetz(value)),
    timedelta: timedelta.__pos__,
}
_INTEGER_BOUND = 10**MAX_JSON_DIGITS
_PLAIN_NUMBER_BOUND = 1e16  # below it, repr() writes a float without an exponent
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


def _plain(value: object, *kinds: type) -> Any:
    """Return *value* as the first of *kinds* that it is of, or ``None``.

    Its type is asked and not `isinstance`, which believes what a proxy or a mock says it is.
    """
    own = type(value)
    if own in kinds:
        return value
    return next((_PLAIN[kind](value) for kind in kinds if issubclass(own, kind)), None)


def positive_bigint(parameter: str, value: object) -> int:
    """Return *value*, an int that is a key or a count: from 1 to 2**63-1."""
    number = value if type(value) is int else _plain(value, int)
    if number is None or type(value) is bool:
        raise InvalidInput(parameter, "must be an int")
    if not 1 <= number <= MAX_BIGINT:
        raise InvalidInput(parameter, "must be from 1 to 2**63-1")
    return number


def optional_positive_bigint(parameter: str, value: object) -> int | None:
    """Return *value* as `positive_bigint` does, or ``None``."""
    return None if value is None else positive_bigint(parameter, value)


def optional_position(parameter: str, value: object) -> int | None:
    """Return *value*, a key to go on after, or ``None``; 0 is before every key."""
    return 0 if type(value) is int and value == 0 else optional_positive_bigint(parameter, value)


def boolean(parameter: str, value: object) -> bool:
    """Return *value*, which must be a bool."""
    if value is True or value is False:
        return value
    raise InvalidInput(parameter, "must be a bool")


def uuid(parameter: str, value: object) -> UUID:
    """Return *value*, a UUID or its text form of RFC 9562, section 4, in any case."""
    if type(value) is UUID:
        return value
    if issubclass(type(value), UUID):  # as asyncpg's rows have it
        return UUID(int=value.int)  # type: ignore[attr-defined]
    if (text := _plain(value, str)) is not None and _UUID.fullmatch(text):
        return UUID(text)
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
    return None if value is None else _moment(parameter, value)


def _moment(parameter: str, value: object) -> datetime:
    moment: datetime | None = _plain(value, datetime)
    problem = "must be an aware datetime"
    try:  # its tzinfo is the caller's code, asked here and not once more by asyncpg
        if moment is not None and moment.utcoffset() is not None:
            return moment.astimezone(timezone.utc)
    except OverflowError:
        problem = "must be from year 1 to 9999 in UTC"
    except Exception:  # noqa: BLE001 - whatever that code raises
        problem = "must have a tzinfo that knows its offset"
    raise InvalidInput(parameter, problem)


def age(parameter: str, value: object) -> timedelta:
    """Return *value*, a timedelta above zero and of at most `MAX_DAYS`."""
    span: timedelta | None = _plain(value, timedelta)
    if span is None:
        raise InvalidInput(parameter, "must be a timedelta")
    if not timedelta(0) < span <= timedelta(MAX_DAYS):
        raise InvalidInput(parameter, f"must be above zero and at most {MAX_DAYS} days")
    return span


def cursor(parameter: str, value: object) -> tuple[datetime | None, int | None]:
    """Return *value*, the ``(created_at, response_id)`` of the last row seen, or two ``None``."""
    if value is None:
        return None, None
    pair = _plain(value, tuple, list)
    if pair is None or len(pair) != 2:  # noqa: PLR2004
        raise InvalidInput(parameter, "must be a pair (created_at, response_id)")
    return _moment(parameter, pair[0]), positive_bigint(parameter, pair[1])


def identifier(parameter: str, value: object) -> str:
    """Return *value*, a name given by the host: text of 1 to `MAX_ID_CHARACTERS` characters."""
    text = _text(parameter, value)
    if not text:
        raise InvalidInput(parameter, "must not be empty")
    if len(text) > MAX_ID_CHARACTERS:
        raise InvalidInput(parameter, f"must not exceed {MAX_ID_CHARACTERS} characters")
    _utf8_length(parameter, text)
    return text


def _text(parameter: str, value: object) -> str:
    text: str | None = value if type(value) is str else _plain(value, str)
    if text is None:
        raise InvalidInput(parameter, "must be a str")
    return text


def optional_identifier(parameter: str, value: object) -> str | None:
    """Return *value* as `identifier` does, or ``None``."""
    return None if value is None else identifier(parameter, value)


def optional_identifiers(parameter: str, value: object) -> list[str] | None:
    """Return *value*, a list or other collection of at most `MAX_BATCH` names, or ``None``."""
    if value is None:
        return None
    if issubclass(type(value), str) or not issubclass(type(value), Collection):
        raise InvalidInput(parameter, "must be a list of str")
    return [
        identifier(f"{parameter}[{index}]", each)
        for index, each in enumerate(_elements(parameter, value))
    ]


def _elements(parameter: str, value: Any) -> list[Any]:
    """Return the elements of *value*, of which there may be `MAX_BATCH`, whatever it counts."""
    elements = list(itertools.islice(_plain(value, list, tuple) or value, MAX_BATCH + 1))
    if len(elements) > MAX_BATCH:
        raise InvalidInput(parameter, f"must not exceed {MAX_BATCH} elements")
    return elements


def batch(
    parameter: str, value: object, element: type, check: Callable[..., dict[str, Any]]
) -> dict[str, list[Any]]:
    """Return the columns of *value*, a list of dicts with the keys of the TypedDict *element*.

    *check* takes the keys of an element by keyword and returns its columns.

    Raises:
        InvalidInput: An element, or a value in it, is not let in: *parameter* is then
            ``responses[3]`` or ``responses[3].question_id``, counted from 0.
    """
    if not issubclass(type(value), Sequence) or issubclass(type(value), str | bytes):
        raise InvalidInput(parameter, "must be a list of dicts")
    columns: dict[str, list[Any]] = {}
    size = 0
    for index, each in enumerate(_elements(parameter, value)):
        place = f"{parameter}[{index}]"
        arguments = _arguments(place, each, element)
        try:
            checked = check(**arguments)
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


def _arguments(place: str, element: object, kind: Any) -> dict[str, Any]:
    """Return *element*, a dict with the keys of the TypedDict *kind*."""
    given = _plain(element, dict)
    if given is None:
        raise InvalidInput(place, "must be a dict")
    arguments = {key: given[key] for key in kind.__annotations__ if key in given}
    for key in kind.__annotations__:
        if key in kind.__required_keys__ and key not in arguments:
            raise InvalidInput(f"{place}.{key}", "is missing")
    if len(arguments) < len(given):
        raise InvalidInput(place, f"may have no other keys than {', '.join(kind.__annotations__)}")
    return arguments


def answer(parameter: str, value: object) -> str:
    """Return *value*, text of at most `MAX_ANSWER_BYTES`; a blank answer is an answer."""
    text = _text(parameter, value)
    if len(text) > MAX_ANSWER_BYTES or _utf8_length(parameter, text) > MAX_ANSWER_BYTES:
        raise InvalidInput(parameter, f"must not exceed {MAX_ANSWER_BYTES} bytes of UTF-8")
    return text


def json_object(parameter: str, value: object, max_bytes: int) -> str:
    """Return *value*, a dict that JSONB holds and gives back equal, as its JSON text.

    Values are str, int, float, bool, None, and lists and dicts of them; keys are str. A tuple
    is refused, because it would come back as a list; so is a float whose digits JSONB would
    give back as another number (1e23 is 99999999999999991611392 to a float, 10**23 to JSONB).
    """
    if not issubclass(type(value), dict):
        raise InvalidInput(parameter, "must be a dict")
    plain: Any = value if type(value) is dict else _plain_json(parameter, value, 1, {})
    if not plain:
        return "{}"
    left = _check_container(parameter, plain, 1, max_bytes)
    if left is None:
        plain = _plain_json(parameter, plain, 1, {})
        left = _check_container(parameter, plain, 1, max_bytes)
    if left is not None and left >= 0:
        text = _encode(plain)
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
    parameter: str, container: Any, depth: int, budget: int
) -> int | None:
    """Refuse what JSONB cannot hold or would not give back equal.

    *budget* is how many more characters of JSON are allowed. It is counted low and returned as
    it is left; once it is below 0 the rest is not looked at, so that far too much costs little.
    Returns ``None`` where something is of no type of JSON's itself: `_plain_json` knows what then.
    """
    if depth > MAX_JSON_DEPTH:
        raise InvalidInput(parameter, f"must not nest deeper than {MAX_JSON_DEPTH} levels")
    left: int | None = budget - len(container)
    values = container
    if type(container) is dict:
        values = container.values()
        left = _check_keys(parameter, container, budget - len(container))
    for value in values:
        if left is None or left < 0:
            break
        kind = type(value)
        if kind is str:
            if "\0" in value:
                raise InvalidInput(parameter, _NUL)
            left -= len(value)
        elif kind in _NUMBERS:
            if not -_PLAIN_NUMBER_BOUND < value < _PLAIN_NUMBER_BOUND:
                _check_number(parameter, value)
        elif kind in _CONTAINERS:
            left = _check_container(parameter, value, depth + 1, left)
        elif kind not in _CONSTANTS:
            return None
    return left


def _check_keys(parameter: str, container: dict[Any, Any], budget: int) -> int | None:
    """Refuse keys that JSONB cannot hold; return what they leave of *budget*."""
    for key in container if budget >= 0 else ():
        if type(key) is not str:
            return None
        if "\0" in key:
            raise InvalidInput(parameter, _NUL)
        budget -= len(key)
    return budget


def _check_number(parameter: str, value: float) -> None:
    """Refuse a large *value*, NaN or infinity that does not survive JSONB's numeric."""
    if type(value) is int:
        if not -_INTEGER_BOUND < value < _INTEGER_BOUND:
            raise InvalidInput(parameter, f"has an int of over {MAX_JSON_DIGITS} digits")
    elif not math.isfinite(value):
        raise InvalidInput(parameter, "must not contain NaN or an infinity")
    elif Decimal(repr(value)) != value:
        raise InvalidInput(parameter, "has a float that JSONB would not give back equal")


def _plain_json(parameter: str, value: object, depth: int, copies: dict[int, Any]) -> Any:
    """Return *value* with JSON's own types in place of subclasses: an IntEnum is an int.

    *copies* are those made already, by the id of what was copied: what stands in a value many
    times, or contains itself, is copied once.
    """
    if type(value) in _CONSTANTS:
        return value
    plain = _plain(value, str, *_NUMBERS, *_CONTAINERS)
    if plain is None:
        raise InvalidInput(parameter, f"has a {type(value).__name__}, which is not JSON")
    if type(plain) not in _CONTAINERS:
        return plain
    if depth > MAX_JSON_DEPTH:
        raise InvalidInput(parameter, f"must not nest deeper than {MAX_JSON_DEPTH} levels")
    if id(value) in copies:
        return copies[id(value)]
    copy = copies[id(value)] = type(plain)()
    if type(plain) is list:
        copy.extend(_plain_json(parameter, each, depth + 1, copies) for each in plain)
        return copy
    _check_items(parameter, value, plain)
    for key, each in plain.items():
        if (text := _plain(key, str)) is None:
            raise InvalidInput(parameter, "must have str keys only")
        copy[text] = _plain_json(parameter, each, depth + 1, copies)
    if len(copy) < len(plain):
        raise InvalidInput(parameter, "has a key twice")
    return copy


def _check_items(parameter: str, value: Any, plain: dict[Any, Any]) -> None:
    """Refuse a dict of a subclass that shows other items than it holds, as a multi-dict does."""
    if type(value) is dict:
        return
    try:
        shown = dict(itertools.islice(type(value).items(value), len(plain) + 1))
        as_it_holds = shown == plain
    except Exception:  # noqa: BLE001 - whatever the class raises
        as_it_holds = False
    if not as_it_holds:
        raise InvalidInput(parameter, f"has a {type(value).__name__}, which is not JSON")
