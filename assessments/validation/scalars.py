"""Checks of single values: each returns the value as asyncpg takes it, or raises `InvalidInput`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from assessments.errors import InvalidInput
from assessments.validation import (
    MAX_ANSWER_BYTES,
    MAX_BIGINT,
    MAX_DAYS,
    MAX_ID_CHARACTERS,
    MAX_PAGE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

NUL = "must not contain a NUL character"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def check_optional(check: Callable[[str, object], T], parameter: str, value: object) -> T | None:
    """Return *value* as *check* does, or ``None``."""
    return None if value is None else check(parameter, value)


def check_bigint(parameter: str, value: object, least: int = 1, most: int = MAX_BIGINT) -> int:
    """Return *value*, an int that is a key or a count: from *least* to *most*."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(parameter, "must be an int")
    if not least <= value <= most:
        limit = "2**63-1" if most == MAX_BIGINT else most
        raise InvalidInput(parameter, f"must be from {least} to {limit}")
    return int(value)


def check_page_size(parameter: str, value: object) -> int:
    """Return *value*, the number of rows of one query: from 1 to `MAX_PAGE`."""
    return check_bigint(parameter, value, most=MAX_PAGE)


def check_bool(parameter: str, value: object) -> bool:
    """Return *value*, which must be a bool."""
    if isinstance(value, bool):
        return value
    raise InvalidInput(parameter, "must be a bool")


def check_uuid(parameter: str, value: object) -> UUID:
    """Return *value*, a UUID or its text form of RFC 9562, section 4, in any case."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, str) and _UUID.fullmatch(value):
        return UUID(value)
    raise InvalidInput(parameter, "must be a UUID or its string of 36 characters")


def check_random_uuid(parameter: str, value: object) -> UUID:
    """Return *value* as `check_uuid` does; refuse the nil UUID, which careless clients share."""
    random = value if isinstance(value, UUID) else check_uuid(parameter, value)
    if not random.int:
        raise InvalidInput(parameter, "must not be the nil UUID")
    return random


def check_aware_datetime(parameter: str, value: object) -> datetime:
    """Return *value*, an aware datetime, in UTC."""
    try:
        if isinstance(value, datetime) and value.utcoffset() is not None:
            return datetime.combine(value.date(), value.timetz()).astimezone(timezone.utc)
    except Exception:  # noqa: BLE001, S110 - out of range, or what a tzinfo or a subclass raises
        pass
    raise InvalidInput(parameter, "must be an aware datetime, from year 1 to 9999 in UTC")


def check_retention(parameter: str, value: object) -> timedelta:
    """Return *value*, a timedelta above zero and of at most `MAX_DAYS`."""
    if not isinstance(value, timedelta):
        raise InvalidInput(parameter, "must be a timedelta")
    if not timedelta(0) < value <= timedelta(MAX_DAYS):
        raise InvalidInput(parameter, f"must be above zero and at most {MAX_DAYS} days")
    return value


def check_identifier(parameter: str, value: object) -> str:
    """Return *value*, a name given by the host: text of 1 to `MAX_ID_CHARACTERS` characters."""
    if not isinstance(value, str):
        raise InvalidInput(parameter, "must be a str")
    if not value:
        raise InvalidInput(parameter, "must not be empty")
    if len(value) > MAX_ID_CHARACTERS:
        raise InvalidInput(parameter, f"must not exceed {MAX_ID_CHARACTERS} characters")
    if not value.isascii() or "\0" in value:
        measure_utf8(parameter, value)
    return value


def check_answer_text(parameter: str, value: object) -> str:
    """Return *value*, text of at most `MAX_ANSWER_BYTES`; a blank answer is an answer."""
    if not isinstance(value, str):
        raise InvalidInput(parameter, "must be a str")
    # Characters first, so that far too long a text is not encoded to measure it.
    if len(value) > MAX_ANSWER_BYTES or measure_utf8(parameter, value) > MAX_ANSWER_BYTES:
        raise InvalidInput(parameter, f"must not exceed {MAX_ANSWER_BYTES} bytes of UTF-8")
    return value


def measure_utf8(parameter: str, text: str) -> int:
    """Return the length of *text* in UTF-8; refuse what PostgreSQL's text cannot hold."""
    if "\0" in text:
        raise InvalidInput(parameter, NUL)
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        pass  # it quotes the text: raise outside, so that it is not even the context
    raise InvalidInput(parameter, "must not contain a lone surrogate")
