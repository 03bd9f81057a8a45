"""The URL of a database, as SQLAlchemy, libpq or asyncpg would take it."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from assessments.errors import InvalidInput

__all__ = ["check_url"]

_SCHEME = re.compile(r"postgres(ql)?(\+\w+)?", re.ASCII | re.IGNORECASE)
_NAME_OF_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::(\d{0,5}))?", re.ASCII)
_EXPECTED = "must be postgresql://user:password@host/database"
_ESCAPE = (
    "cannot be taken apart: in the user, the password and the database, write other characters "
    "than letters and digits as %XX"
)


def check_url(parameter: str, url: object) -> str:
    """Return *url* as asyncpg and psycopg2 take it: with the scheme ``postgresql://``.

    ``ssl=``, as SQLAlchemy's URLs for asyncpg have it, becomes ``sslmode=``. What a URL leaves out
    is the environment's: ``PGHOST``, ``PGDATABASE`` and the like.

    Raises:
        InvalidInput: It is not a URL of PostgreSQL; the error quotes at most its scheme.
    """
    if not isinstance(url, str):
        raise InvalidInput(parameter, "must be a str")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise InvalidInput(parameter, _EXPECTED)
    if not _SCHEME.fullmatch(scheme):
        found = f", not {scheme}://" if _NAME_OF_SCHEME.fullmatch(scheme) else ""
        raise InvalidInput(parameter, _EXPECTED + found)
    hosts = _hosts(f"postgresql://{rest}")
    if hosts is None:
        raise InvalidInput(parameter, _ESCAPE)
    ports = [_HOST.fullmatch(host) for host in hosts.split(",")]
    if not all(port and int(port[1] or 1) in range(1, 65536) for port in ports):
        raise InvalidInput(parameter, "has a port that is no number from 1 to 65535")
    return "postgresql://" + re.sub(r"(?<=[?&])ssl=", "sslmode=", rest)


def _hosts(url: str) -> str | None:
    """Return the hosts in *url*, or None where a character of the password ends a part of it."""
    try:
        parts = urlsplit(url)
        parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:  # it may quote the password
        return None
    user, _, hosts = parts.netloc.rpartition("@")
    return None if "@" in user + parts.path or "#" in url else hosts
