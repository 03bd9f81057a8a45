"""JSON codecs that a host may have set on its connections."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

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
