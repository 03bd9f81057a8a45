"""The cursor of a list as text for a URL: ``created_at`` in microseconds and ``response_id``."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta, timezone
from struct import Struct
from typing import TYPE_CHECKING

from assessments.errors import InvalidInput
from assessments.validation.scalars import check_aware_datetime, check_bigint, check_optional

if TYPE_CHECKING:
    from assessments.records import ResponseWithoutToken

__all__ = ["decode_cursor", "encode_cursor"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_KEYSET = Struct(">qq")
_TEXT = re.compile(r"[\w-]{21}[AQgw]", re.ASCII)  # 16 bytes: the last character holds two bits


def encode_cursor(response: ResponseWithoutToken) -> str:
    """Return the cursor after a response in a list as text for a URL.

    It grants nothing: a list has its owner's rows only, whatever the cursor. A client can read
    ``created_at`` and ``response_id`` out of it.

    Args:
        response: The last row of a page, with or without a score.

    Returns:
        22 characters: letters, digits, ``-`` and ``_``.

    Raises:
        InvalidInput: *response* is no response.
    """
    if not isinstance(response, dict):
        raise InvalidInput("response", "must be a response")
    created_at = check_aware_datetime("response.created_at", response.get("created_at"))
    response_id = check_bigint("response.response_id", response.get("response_id"))
    keyset = _KEYSET.pack((created_at - _EPOCH) // _MICROSECOND, response_id)
    return urlsafe_b64encode(keyset).rstrip(b"=").decode()


def decode_cursor(before: str | None) -> tuple[datetime, int] | None:
    """Return what a list takes as *before*, from the text that a client sent back.

    Args:
        before: Text of `encode_cursor`; ``None`` for the first page.

    Returns:
        ``(created_at, response_id)``, the former in UTC; ``None`` for ``None``.

    Raises:
        InvalidInput: *before* is any other text.
    """
    return check_optional(_unpack, "before", before)


def _unpack(parameter: str, text: object) -> tuple[datetime, int]:
    if isinstance(text, str) and _TEXT.fullmatch(text):
        microseconds, response_id = _KEYSET.unpack(urlsafe_b64decode(f"{text}=="))
        try:
            return _EPOCH + microseconds * _MICROSECOND, check_bigint(parameter, response_id)
        except (InvalidInput, OverflowError):
            pass
    raise InvalidInput(parameter, "must be the cursor of a page")
