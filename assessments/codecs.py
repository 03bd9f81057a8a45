"""A host's codecs for ``int8``, ``uuid`` and ``timestamptz``: rows keep the types of the records.

A host may have set a codec for one of them on its connections. What that decodes, such as text or a
class of the host's, is turned back; what it cannot encode is sent as text instead.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asyncpg import DataError

from assessments.errors import UnsupportedCodec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_UTC = timezone.utc
_INFINITIES = (datetime.min, datetime.max)  # noqa: DTZ901 - so asyncpg decodes PostgreSQL's
_EXACT_IN_FLOAT = 2**53
_REFUSED_ARGUMENT = re.compile(r"invalid input for query argument \$(\d+)")
# ISO 8601 and PostgreSQL's own form of it, not all of which Python 3.10 reads.
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:Z|([+-]\d\d)(?::?(\d\d))?)", re.ASCII
)


def restore_types(row: dict[str, Any]) -> dict[str, Any]:
    """Give the columns of *row* the types that they have in the records, and return it.

    Raises:
        UnsupportedCodec: A value cannot be read as that type.
    """
    for name, restore in _RESTORE.items():
        value = row.get(name)
        if value is not None:
            row[name] = _restore(name, restore, value)
    return row


def _restore(name: str, restore: Callable[[Any], object], value: object) -> object:
    try:
        return restore(value)
    except Exception:  # noqa: BLE001, S110 - a class of the host's may raise any
        pass  # it may quote the value: raise outside, so that it is not even the context
    raise UnsupportedCodec(name)


def _to_int(value: object) -> int:
    if not isinstance(value, (int, float, Decimal)):
        return int(str(value))
    number = int(value)
    if number != value or (isinstance(value, float) and abs(value) >= _EXACT_IN_FLOAT):
        raise ValueError  # it may be another row's
    return number


def _to_uuid(value: object) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))


def _to_datetime(value: object) -> datetime:
    if value in _INFINITIES:
        return value  # type: ignore[return-value]
    found = _TIMESTAMP.fullmatch(str(value))
    if not found:
        raise ValueError  # a time without a zone, too
    date, time, fraction, hours, minutes = found.groups("")
    zone = f"{hours or '+00'}:{minutes or '00'}"
    return datetime.fromisoformat(f"{date}T{time}.{fraction:0<6}{zone}").astimezone(_UTC)


_RESTORE: dict[str, Callable[[Any], object]] = {
    "response_id": _to_int,
    "user_id": _to_int,
    "score_id": _to_int,
    "anonymous_token": _to_uuid,
    "content_id": _to_uuid,
    "created_at": _to_datetime,
    "scored_at": _to_datetime,
}


async def run_with_text(
    run: Callable[..., Awaitable[Any]], sql: str, arguments: list[Any], error: DataError
) -> Any:
    """Run *sql* again, with each argument that a codec refuses, as *error* says, as text."""
    while True:
        refused = _REFUSED_ARGUMENT.match(str(error.args[0]))
        index = int(refused[1]) - 1 if refused and error.severity is None else None
        if index is None or isinstance(arguments[index], str):
            raise error
        arguments[index] = str(arguments[index])
        try:
            return await run(sql, *arguments)
        except DataError as again:
            error = again
