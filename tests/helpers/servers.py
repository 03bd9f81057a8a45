"""Where the suite finds a PostgreSQL."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assessments.testing import server

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMAGE = os.environ.get("ASSESSMENTS_TEST_IMAGE", "postgres:18")
_BINARIES = {"embedded": server.embedded_binaries, "installed": server.installed_binaries}


@contextmanager
def found(choice: str | None) -> Iterator[str]:
    """Yield the URL of a server on which databases may be created.

    *choice* is a ``postgresql://`` URL, ``embedded`` (the wheel's 18), ``installed`` (this
    machine's newest) or ``container``; if it is None, the first available of the last three.
    """
    if choice and "://" in choice:
        yield choice
        return
    for name, find in _BINARIES.items():
        if choice in (None, name) and (binaries := find()):
            with server.running(binaries) as url:
                yield url
            return
    if choice not in (None, "container"):
        raise LookupError(f"no such server: {choice}")
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - an extra

    with PostgresContainer(_IMAGE, driver=None) as container:
        yield container.get_connection_url()


def database_url(server: str, name: str) -> str:
    """Return the URL of the database *name* on *server*."""
    return urlsplit(server)._replace(path=f"/{name}").geturl()
