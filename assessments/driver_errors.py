"""PostgreSQL's errors as the caller sees them: redacted, or mapped to the library's own."""

from __future__ import annotations

from asyncpg import PostgresError

from assessments.errors import NotStored, UnknownUser

_FOREIGN_KEY_VIOLATION = "23503"
_INVALID_TEXT = "22P02"
_NOT_STORED = '"assessments: not all stored'  # in sql/, where a batch is to fail
_USER_FOREIGN_KEY = "assessment_responses_user_id_fkey"
# SQLSTATE classes about the server, the connection or the transaction, never about values.
_CLASSES_WITHOUT_VALUES = ("08", "0A", "25", "26", "28", "3D", "40", "53", "55", "57", "58")
# A missing right and a missing unique index: the message names objects of the database only.
_IDENTIFIER_SQLSTATES = ("42501", "42P10")


class driver_errors:  # noqa: N801 - read as a function; a generator would cost each call 2 us
    """Redact what PostgreSQL raises in the block; raise the library's error where one exists."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """End the block: let an error through as the caller is to see it."""
        if isinstance(error, PostgresError):
            translated = translate(error)
            redact(error)
            if translated:
                raise translated from error


def redact(error: PostgresError) -> None:
    """Remove from *error* what may quote a value of a row or a parameter.

    PostgreSQL quotes rows, values and parameters in DETAIL, HINT and CONTEXT, and in the message
    itself the value that a cast in a host's trigger, index or constraint refuses. All of that goes,
    unless the error points into the text of a query, which holds no value, or its class is about
    something else. So does the value that asyncpg quotes where it cannot encode it.

    Kept: the message of an error that a host's trigger raises, which is the host's own, and what
    PostgreSQL says of a name that such a trigger builds from an answer.
    """
    error.context = error.internal_query = None
    sqlstate = error.sqlstate or ""
    if error.severity is None:  # raised by asyncpg, not by the server
        if sqlstate.startswith("22"):
            error.args = ("a value cannot be encoded for this connection",)
            error.__cause__ = error.__context__ = None
    elif error.position is None and sqlstate[:2] not in _CLASSES_WITHOUT_VALUES:
        error.detail = error.hint = None
        names_only = error.internal_position is not None or sqlstate in _IDENTIFIER_SQLSTATES
        if sqlstate.startswith("22") or (sqlstate.startswith("42") and not names_only):
            message = "PostgreSQL refused a value or a name: its log has the message, redacted here"
            error.args, error.message = (message,), message


def translate(error: PostgresError) -> UnknownUser | NotStored | None:
    """Return the library's error for *error*, not yet redacted, if there is one."""
    if error.sqlstate == _INVALID_TEXT and _NOT_STORED in str(error.args[0]):
        return NotStored()
    # A foreign key that the host added keeps its own error. Citus reports no constraint names.
    is_user_key = error.constraint_name in (None, _USER_FOREIGN_KEY)
    return UnknownUser() if error.sqlstate == _FOREIGN_KEY_VIOLATION and is_user_key else None
