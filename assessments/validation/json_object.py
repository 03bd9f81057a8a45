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
_EXPONENT = re.compile(r"\de[+-]")  # of a float as repr() writes it, or in a string
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escaped NUL, and not the text of such an escape


def encode_json_object(parameter: str, value: object, max_bytes: int) -> str:
    """Return *value*, a dict that JSONB gives back equal, as its JSON text.

    Values are str, int, float, bool, None, and lists and dicts of them; keys are str. The check is
    the promise itself: the text is decoded as it would come back, and compared. So a tuple is
    refused, which comes back as a list, and a float that JSONB gives back as another number
    (1e23 is 99999999999999991611392 to a float and 10**23 to JSONB). *max_bytes* counts numbers as
    they come back: 1e-300 is 302 bytes.
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
        back, longer = _from_text(text)
        equal = back == value
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
    if measure_utf8(parameter, text) + longer > max_bytes:
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


def _from_text(text: str) -> tuple[Any, int]:
    """Return what JSONB gives back for *text*, and how much longer it writes the numbers."""
    if ("e+" in text or "e-" in text) and _EXPONENT.search(text):
        return _decode_exponents(text)
    if len(text) > MAX_JSON_DIGITS:
        return _decode_ints(text)[0], 0
    return _decode(text)[0], 0


def _decode_exponents(text: str) -> tuple[Any, int]:
    """Return the same of a text with exponents, which JSONB writes out: 1e-5 as 0.00001."""
    longer = 0

    def read_float(digits: str) -> float:
        nonlocal longer
        if "e" not in digits:
            return float(digits)
        number = Decimal(digits)
        longer += len(f"{number:f}") - len(digits)
        # Without its exponent a large number has no point either, and comes back as an int.
        return int(number) if "e+" in digits else float(digits)

    decoder = json.JSONDecoder(parse_int=_read_int, parse_float=read_float)
    return decoder.raw_decode(text)[0], longer


def _read_int(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_JSON_DIGITS:
        raise ValueError
    return int(digits)


_to_text = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
_decode = json.JSONDecoder().raw_decode
_decode_ints = json.JSONDecoder(parse_int=_read_int).raw_decode
