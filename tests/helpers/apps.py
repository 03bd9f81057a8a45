"""The example service as two hosts run it: on the library's pool, and on a pool of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import asyncpg

from examples import service
from tests.helpers import codecs

if TYPE_CHECKING:
    from fastapi import FastAPI


def on_library_pool() -> FastAPI:
    """Return the service as it stands."""
    return service.app


def on_host_pool() -> FastAPI:
    """Return the service on a pool that sets the host's own JSON codec."""

    def open_pool() -> asyncpg.Pool[Any]:
        return asyncpg.create_pool(os.environ["DATABASE_URL"], init=codecs.init("orjson"))

    return service.create_app(open_pool)
