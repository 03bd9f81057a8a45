"""What this library raises of its own.

    AssessmentsError
    ├── InvalidInput        (also a ValueError)
    ├── UnknownUser         (also a LookupError)
    ├── UnknownResponse     (also a LookupError)
    ├── SubmissionConflict
    └── UnsafeIsolation

Everything else that can go wrong is PostgreSQL's or asyncpg's to say, and comes through as
asyncpg's own exception, so that the caller's retry logic sees it: see `asyncpg.exceptions`_.
No message of ours holds an answer, metadata, score data, a token or a submission key, and what
PostgreSQL may quote of them is left out of its errors: see `translate`.

.. _asyncpg.exceptions: https://magicstack.github.io/asyncpg/current/api/index.html#exceptions
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import PostgresError

__all__ = [
    "AssessmentsError",
    "InvalidInput",
    "SubmissionConflict",
    "UnknownResponse",
    "UnknownUser",
    "UnsafeIsolation",
]

_FOREIGN_KEY_VIOLATION = "23503"
_USER_FOREIGN_KEY = "assessment_responses_user_id_fkey"
# Classes of SQLSTATE that speak of the server, the connection or the transaction, not of values.
_CLASSES_WITHOUT_VALUES = ("08", "0A", "25", "26", "28", "3D", "40", "53", "55", "57", "58")
# A missing right and a missing unique index, of which the message names what is the database's.
_ABOUT_NAMES = ("42501", "42P10")


class AssessmentsError(Exception):
    """The root of this library's errors: catch it to catch them all."""


class InvalidInput(AssessmentsError, ValueError):
    """An argument was refused before the database was asked; nothing was sent or stored.

    Attributes:
        parameter: The name of the argument to correct.
        problem: What is wrong with it, without its value.
    """

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(parameter, problem)
        self.parameter = parameter
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.parameter}: {self.problem}"


class _OfElement(AssessmentsError):
    message: str

    def __init__(self, parameter: str | None = None) -> None:
        super().__init__(parameter)
        self.parameter = parameter

    def __str__(self) -> str:
        return f"{self.parameter}: {self.message}" if self.parameter else self.message


class UnknownUser(_OfElement, LookupError):
    """The user is not in the host's ``users`` table; nothing was stored or claimed.

    The caller's transaction stays usable, with one exception: a submit that waits inside it
    while another transaction deletes that very user fails on the foreign key, and PostgreSQL
    then accepts no more statements before a rollback.

    Attributes:
        parameter: Which element of a call that takes many is the first with such a user, as
            ``responses[3]``, counted from 0; otherwise ``None``.
    """

    message = "there is no such user in the host's users table"


class UnknownResponse(_OfElement, LookupError):
    """The response is not there (any more); no score was stored. The transaction stays usable.

    Attributes:
        parameter: Which element of a call that takes many is the first for such a response, as
            ``scores[3]``, counted from 0; otherwise ``None``.
    """

    message = "there is no such response"


class SubmissionConflict(_OfElement):
    """The submission key stands for another submit; nothing was stored.

    Another owner's, or this owner's with another content: which of the two, and what is stored
    under the key, is not told. Or it was erased at that very moment, and the next call stores it.
    The transaction stays usable.

    Attributes:
        parameter: Which element of a call that takes many is the first with such a key, as
            ``responses[3]``, counted from 0; otherwise ``None``.
    """

    message = "the submission key stands for another submit"


class UnsafeIsolation(AssessmentsError):
    """A claim was tried in a REPEATABLE READ or SERIALIZABLE transaction; nothing was changed.

    There a claim cannot see what other claims committed since the transaction began, so it
    could give a user two sets of answers to one question; and PostgreSQL fails a SERIALIZABLE
    transaction for that only if the other one was SERIALIZABLE too. Claim at READ COMMITTED,
    which is PostgreSQL's default.
    """

    def __str__(self) -> str:
        return "a claim is safe in a READ COMMITTED transaction only"


def translate(error: PostgresError) -> Exception:
    """Return what to raise in place of PostgreSQL's *error*: ours where we have a name for it.

    PostgreSQL quotes rows, values and parameters in DETAIL, HINT and CONTEXT, and in the message
    itself the value that a cast in a trigger, an index or a constraint of the host's refuses. All
    that is left out, except where the error points into the text of a query, which holds no value,
    or is of a class that speaks of other things. So is what asyncpg says of a value that it cannot
    encode.

    The message of an error that a trigger of the host's raises is the host's own, and is kept; so
    is what PostgreSQL says of a name that such a trigger makes out of an answer.
    """
    error.context = error.internal_query = None
    sqlstate = error.sqlstate or ""
    if error.severity is None:  # not the server's: asyncpg's own
        if sqlstate.startswith("22"):
            error.args = ("a value cannot be encoded for this connection",)
            error.__cause__ = error.__context__ = None
    elif error.position is None and sqlstate[:2] not in _CLASSES_WITHOUT_VALUES:
        error.detail = error.hint = None
        names_only = error.internal_position is not None or sqlstate in _ABOUT_NAMES
        if sqlstate.startswith("22") or (sqlstate.startswith("42") and not names_only):
            message = "PostgreSQL refused a value or a name: its log has the message, left out here"
            error.args, error.message = (message,), message
    # A foreign key of the host's own is not ours to name. Citus reports no constraint names.
    if error.sqlstate == _FOREIGN_KEY_VIOLATION and error.constraint_name in (
        None,
        _USER_FOREIGN_KEY,
    ):
        return UnknownUser()
    return error
