"""JSON objects that PostgreSQL's JSONB holds and gives back equal."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from assessments.errors import InvalidInput
from assessments.validation import MAX_JSON_DEPTH, MAX_JSON_DIGITS
from assessments.validation.scalars import NUL, measure_utf8

_LEAVES = frozenset({int, float, bool, type(None)})
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escaped NUL, and not the text of such an escape


def encode_json_object(parameter: str, value: object, max_bytes: int) -> str:
    """Return *value*, a dict that JSONB gives back equal, as its JSON text.

    Values are str, int, float, bool, None, and lists and dicts of them; keys are str. The check is
    the promise itself: the text is decoded as it would come back, and compared. So a tuple is
    refused, which comes back as a list, and a float that JSONB gives back as another number
    (1e23 is 99999999999999991611392 to a float and 10**23 to JSONB).
    """
    if not isinstance(value, dict):
        raise InvalidInput(parameter, "must be a dict")
    if not value:
        return "{}"
    if _measure(parameter, value, 1, max_bytes) < 0:
        raise InvalidInput(parameter, f"must not exceed {max_bytes} bytes of JSON in UTF-8")
    problem = ""
    try:
        text = _to_text(value)
        equal = _from_text(text) == value
    except TypeError:
        problem = "has a value or a key of a type that is not JSON"
    except ValueError:
        problem = f"must not contain NaN, an infinity or an int of over {MAX_JSON_DIGITS} digits"
    if problem:  # raised here, so that an error that quotes a value is not even the context
        raise InvalidInput(parameter, problem)
    if not equal:
        raise InvalidInput(parameter, "has a key, number or tuple that would not come back equal")
    if r"\u0000" in text and _NUL.search(text):
        raise InvalidInput(parameter, NUL)
    if measure_utf8(parameter, text) > max_bytes:
        raise InvalidInput(parameter, f"must not exceed {max_bytes} bytes of JSON in UTF-8")
    return text


def _measure(parameter: str, container: Any, depth: int, left: int) -> int:
    """Return what is left of a budget of *left* characters, counted low; below 0 it is exceeded.

    Bounds the work that follows: far too large a value, however nested or repeated, costs little.
    """
    if depth > MAX_JSON_DEPTH:
        raise InvalidInput(parameter, f"must not nest deeper than {MAX_JSON_DEPTH} levels")
    left -= len(container)
    if left >= 0:
        for each in container.values() if isinstance(container, dict) else container:
            kind = type(each)
            if kind is str:
                left -= len(each)
            elif kind not in _LEAVES and isinstance(each, dict | list | tuple):
                left = _measure(parameter, each, depth + 1, left)
                if left < 0:
                    break
    return left


def _from_text(text: str) -> Any:
    """Return what JSONB gives back for *text*."""
    if "e+" in text:  # as repr() writes floats of 1e16 and more
        return _decode_as_jsonb(text)[0]
    if len(text) > MAX_JSON_DIGITS:
        return _decode_ints(text)[0]
    return _decode(text)[0]


def _read_int(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_JSON_DIGITS:
        raise ValueError
    return int(digits)


def _read_float(digits: str) -> float:
    """Return the number without its exponent, and so without its point: JSONB writes an int."""
    return int(Decimal(digits)) if "e+" in digits else float(digits)


_to_text = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
_decode = json.JSONDecoder().raw_decode
_decode_ints = json.JSONDecoder(parse_int=_read_int).raw_decode
_decode_as_jsonb = json.JSONDecoder(parse_int=_read_int, parse_float=_read_float).raw_decode
