"""Databases on a server, each for as long as a block lasts.

They are created with psycopg2, so that synchronous tests can use them, and any event loop.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def temporary(server: str, template: str = "template1") -> Iterator[str]:
    """Create a database on *server*, yield its URL, and drop it, whoever is still connected.

    It begins as a copy of the database *template*, to which nobody may be connected.
    """
    name = f"assessments_{uuid4().hex}"
    try:
        execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
        yield database_url(server, name)
    finally:
        execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def execute(url: str, statement: str) -> Any:
    """Run *statement* on a connection of its own; return the first value of its row, if any."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True  # CREATE DATABASE refuses a transaction
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None


def database_url(server: str, name: str) -> str:
    """Return the URL of the database *name* on *server*."""
    url = urlsplit(server)
    # Not geturl(), which leaves out the slashes of a URL without a host.
    return f"postgresql://{url.netloc}/{name}" + (f"?{url.query}" if url.query else "")


def database_name(url: str) -> str:
    """Return the name of the database at *url*."""
    return urlsplit(url).path[1:]
