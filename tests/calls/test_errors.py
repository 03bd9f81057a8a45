"""Errors: one tree, which survives pickling; PostgreSQL's own come through as asyncpg's."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import assessments
from assessments import errors
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from uuid import UUID

BASES: dict[str, type[Exception]] = {
    "InvalidInput": ValueError,
    "UnknownUser": LookupError,
    "UnknownResponse": LookupError,
}


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_an_assessments_error_with_a_docstring(name: str) -> None:
    """One clause catches all; bad input is also a ValueError, an unknown row a LookupError."""
    error = getattr(assessments, name)

    assert issubclass(error, assessments.AssessmentsError)
    assert issubclass(error, BASES.get(name, Exception))
    assert error.__doc__


@pytest.mark.parametrize(
    "error",
    [
        assessments.InvalidInput("limit", "must be an int"),
        assessments.UnknownUser(),
        assessments.UnknownResponse(),
        assessments.UnknownResponse("scores[3]"),
        assessments.SubmissionConflict("responses[3]"),
        assessments.UnsafeIsolation(),
    ],
    ids=repr,
)
def test_errors_survive_pickling(error: assessments.AssessmentsError) -> None:
    """A worker may pass an error to its parent process: type, message and attributes arrive."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    assert str(error)


async def test_a_foreign_key_of_the_host_s_is_not_an_unknown_user(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """A constraint that the host adds to these tables fails under its own name."""
    await conn.execute(
        "CREATE TABLE contents (content_id uuid PRIMARY KEY);"
        "ALTER TABLE assessment_responses ADD CONSTRAINT known_content"
        " FOREIGN KEY (content_id) REFERENCES contents"
    )

    with pytest.raises(asyncpg.ForeignKeyViolationError) as raised:
        await submit(conn, anonymous_token=token, content_id=token)

    assert raised.value.constraint_name == "known_content"


async def test_a_missing_table_is_named_by_postgresql(conn: asyncpg.Connection[Any]) -> None:
    """What the database lacks comes through as asyncpg's error, in PostgreSQL's words."""
    await conn.execute("DROP TABLE assessment_responses CASCADE")

    with pytest.raises(asyncpg.UndefinedTableError, match="assessment_responses"):
        await assessments.get_responses(conn, user_id=1)
