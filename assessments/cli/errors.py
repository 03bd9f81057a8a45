"""Errors as a command reports them: in one line, without a password or anybody's data."""

from __future__ import annotations

import errno
import os

import asyncpg

# Messages of these classes of SQLSTATE hold no value of a row. Others quote what they reject.
_CLASSES_WITHOUT_VALUES = ("28", "3D", "53", "55", "57", "58")
_INSUFFICIENT_PRIVILEGE = "42501"
# Table, column or unique index that a migration creates.
_NOT_MIGRATED = ("42P01", "42703", "42P10")
_NO_CONNECTION = "no connection to the server"
BAD_PARAMETER = "a parameter in the URL of the database is unknown or has no valid value"

FAILED, WRONG_USAGE, OUT_OF_REACH = 1, 2, 3


class CommandError(Exception):
    """Ends a command with *status*; the message is the line that its user reads."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def describe(error: BaseException) -> str:
    """Return the message of *error*, as far as it can hold neither a password nor a row's value."""
    if isinstance(error, asyncpg.PostgresError):
        return _describe_server_error(error)
    if isinstance(error, OSError) and error.strerror:
        # The system's own text for its own numbers: asyncio puts addresses into its texts.
        known = error.errno if error.errno in errno.errorcode else None
        return f"{_NO_CONNECTION}: {os.strerror(known) if known else error.strerror}"
    return f"{_NO_CONNECTION}: {type(error).__name__}"


def _describe_server_error(error: asyncpg.PostgresError) -> str:
    message = str(error.args[0]).partition("\n")[0]
    if isinstance(error, asyncpg.PostgresConnectionError):
        return f"{_NO_CONNECTION}: {message}"
    if error.sqlstate in _NOT_MIGRATED:
        return f"{message}: apply the migrations: `assessments migrate`"
    if error.sqlstate == _INSUFFICIENT_PRIVILEGE or error.sqlstate[:2] in _CLASSES_WITHOUT_VALUES:
        return f"PostgreSQL says: {message}"
    return f"PostgreSQL refused with SQLSTATE {error.sqlstate} ({type(error).__name__})"
