"""The library's own errors.

    AssessmentsError
    ├── InvalidInput        (also a ValueError)
    ├── UnknownUser         (also a LookupError)
    ├── UnknownResponse     (also a LookupError)
    ├── SubmissionConflict
    ├── NotStored
    ├── UnsafeIsolation
    └── UnsupportedCodec    (also a TypeError)

Every other failure is PostgreSQL's or asyncpg's and is raised as asyncpg's own exception, so that
the caller's retry logic sees it: see `asyncpg.exceptions`_. No message of ours holds an answer,
metadata, score data, a token or a submission key; `assessments.driver_errors` redacts PostgreSQL's.

.. _asyncpg.exceptions: https://magicstack.github.io/asyncpg/current/api/index.html#exceptions
"""

from __future__ import annotations

__all__ = [
    "AssessmentsError",
    "InvalidInput",
    "NotStored",
    "SubmissionConflict",
    "UnknownResponse",
    "UnknownUser",
    "UnsafeIsolation",
    "UnsupportedCodec",
]


class AssessmentsError(Exception):
    """The root of this library's errors: catch it to catch them all."""


class InvalidInput(AssessmentsError, ValueError):
    """An argument was refused before anything was sent to the database; nothing was stored.

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


class _BatchItemError(AssessmentsError):
    message: str

    def __init__(self, parameter: str | None = None) -> None:
        super().__init__(parameter)
        self.parameter = parameter

    def __str__(self) -> str:
        return f"{self.parameter}: {self.message}" if self.parameter else self.message


class UnknownUser(_BatchItemError, LookupError):
    """The user does not exist in the host's ``users`` table; nothing was stored or claimed.

    The caller's transaction stays usable, with one exception: a submit that waits inside it
    while another transaction deletes that very user fails on the foreign key, and PostgreSQL
    then accepts no more statements before a rollback.

    Attributes:
        parameter: The first batch item with such a user, as ``responses[3]``, counted from 0;
            ``None`` outside a batch, and where the user was deleted while the batch waited.
    """

    message = "there is no such user in the host's users table"


class UnknownResponse(_BatchItemError, LookupError):
    """The response does not exist (any more); no score was stored. The transaction stays usable.

    Attributes:
        parameter: The first batch item for such a response, as ``scores[3]``, counted from 0;
            ``None`` outside a batch.
    """

    message = "there is no such response"


class SubmissionConflict(_BatchItemError):
    """The submission key is already used by a different submission; nothing was stored.

    Another owner's, or this owner's with different content: which of the two, and what is stored
    under the key, is not revealed. The transaction stays usable.

    Attributes:
        parameter: The first batch item with such a key, as ``responses[3]``, counted from 0;
            ``None`` outside a batch.
    """

    message = "the submission key is already used by a different submission"


class NotStored(_BatchItemError):
    """The database dropped a row without an error; nothing of the call was stored.

    A BEFORE INSERT trigger of the host's that returns NULL does that. The transaction stays usable,
    with one exception: where it drops only some rows of a batch without submission keys, the
    statement fails, and PostgreSQL accepts no more statements before a rollback.

    Attributes:
        parameter: The first batch item dropped, as ``responses[3]``, counted from 0; ``None``
            outside a batch, and where the statement failed.
    """

    message = "a trigger of the database dropped the row"


class UnsafeIsolation(AssessmentsError):
    """A claim, or a score once, in a REPEATABLE READ or SERIALIZABLE transaction; nothing changed.

    There the call cannot see what others committed since the transaction began, so it could give a
    user two sets of answers to one question, or a response two scores by one model and prompt
    version; and PostgreSQL fails a SERIALIZABLE transaction for that only if the other one was
    SERIALIZABLE too. Call it at READ COMMITTED, which is PostgreSQL's default.
    """

    def __str__(self) -> str:
        return "a claim, or a score recorded once, is safe in a READ COMMITTED transaction only"


class UnsupportedCodec(AssessmentsError, TypeError):
    """A codec that the host has set decodes a column into what cannot be read as its type.

    The statement has run: what it stored is stored, unless the caller rolls back. Let the codec
    return text as PostgreSQL writes it, or something whose ``str()`` is that.

    Attributes:
        column: The column.
    """

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column

    def __str__(self) -> str:
        return f"{self.column}: the connection's codec returns what is not a value of its type"
