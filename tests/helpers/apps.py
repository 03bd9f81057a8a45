"""The example services: on the library's pool, on a host's own, and on SQLAlchemy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import asyncpg

from examples import service, sqlalchemy_service
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


def on_sqlalchemy() -> FastAPI:
    """Return the service on SQLAlchemy."""
    return sqlalchemy_service.app
