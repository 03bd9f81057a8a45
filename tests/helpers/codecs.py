"""Codecs that a host may have set on its connections: for JSON, and for the types of the keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

_JSONB_VERSION = b"\x01"

_CODECS: dict[str, dict[str, Any]] = {
    "json": {"encoder": json.dumps, "decoder": json.loads, "format": "text"},
    "orjson": {
        "encoder": lambda value: orjson.dumps(value).decode(),
        "decoder": orjson.loads,
        "format": "text",
    },
    "orjson as bytes": {  # a common mistake: it cannot encode, which must not matter
        "encoder": orjson.dumps,
        "decoder": orjson.loads,
        "format": "text",
    },
    "binary": {
        "encoder": lambda value: _JSONB_VERSION + orjson.dumps(value),
        "decoder": lambda data: orjson.loads(data[1:]),
        "format": "binary",
    },
    "pass-through": {"encoder": str, "decoder": str, "format": "text"},
}

NAMES = ["none", *_CODECS]


def init(name: str) -> Callable[[asyncpg.Connection[Any]], Any]:
    """Return the ``init`` of a pool that sets the codec *name* on its connections."""

    async def set_codec(connection: asyncpg.Connection[Any]) -> None:
        if codec := _CODECS.get(name):
            await connection.set_type_codec("jsonb", schema="pg_catalog", **codec)

    return set_codec


@dataclass(frozen=True)
class Decoded:
    """A host's class: equal to nothing that the library could compare it with."""

    text: str

    def __str__(self) -> str:
        return self.text


class Number(int):
    """A host's class of numbers."""


class Key(UUID):
    """A host's class of keys."""


class Moment(datetime):
    """A host's class of times."""

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Return the time that PostgreSQL prints as *text*, in UTC as asyncpg has it."""
        moment = datetime.strptime(f"{text}00", "%Y-%m-%d %H:%M:%S.%f%z")
        return cls.fromtimestamp(moment.timestamp(), timezone.utc)


def _in_delhi(text: str) -> datetime:
    zone = timezone(timedelta(hours=5, minutes=30))
    return datetime.fromtimestamp(Moment.parse(text).timestamp(), zone)


def _in_text(decoder: Callable[[str], Any], encoder: Callable[[Any], str] = str) -> dict[str, Any]:
    return {"encoder": encoder, "decoder": decoder, "format": "text"}


_TYPES = ("uuid", "int8", "timestamptz", "text", "numeric")
KEY_CODECS: dict[str, dict[str, dict[str, Any]]] = {
    **{f"{name} alone": {name: _in_text(Decoded)} for name in _TYPES},
    "classes": {name: _in_text(Decoded) for name in _TYPES},
    "texts": {name: _in_text(str, lambda text: text) for name in ("uuid", "int8", "timestamptz")},
    "subclasses": {
        "uuid": _in_text(Key),
        "int8": _in_text(Number),
    },
    "a subclass of datetime": {"timestamptz": _in_text(Moment.parse)},
    "a zone": {"timestamptz": _in_text(_in_delhi)},
    "decimals": {"int8": _in_text(Decimal)},
    "floats": {"int8": _in_text(float)},
    "bytes": {
        "uuid": {
            "encoder": lambda value: value.bytes,
            "decoder": lambda data: UUID(bytes=bytes(data)),
            "format": "binary",
        },
    },
}


async def set_codecs(
    connection: asyncpg.Connection[Any], codecs: dict[str, dict[str, Any]]
) -> None:
    """Set a codec for each type that *codecs* names."""
    for name, codec in codecs.items():
        await connection.set_type_codec(name, schema="pg_catalog", **codec)
