"""Errors are named, can be handed on, and keep answers, tokens and scores to themselves."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import assessments
from assessments import errors
from tests.helpers.observe import everything_shown
from tests.helpers.rows import SECRET, submit

if TYPE_CHECKING:
    from uuid import UUID


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_an_assessments_error_with_a_docstring(name: str) -> None:
    """One except clause catches them all, and each says what happened."""
    error = getattr(assessments, name)

    assert issubclass(error, assessments.AssessmentsError)
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
    """A worker may hand an error to its parent process: type and message arrive."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert (type(copy), str(copy)) == (type(error), str(error))
    assert str(error)


async def test_postgresql_s_own_refusal_keeps_the_answer_to_itself(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """A CHECK of the host's fails as asyncpg's own error, without the row that DETAIL quotes."""
    await conn.execute(
        "ALTER TABLE assessment_responses ADD CONSTRAINT brief CHECK (length(answer_text) < 10)"
    )

    with pytest.raises(asyncpg.CheckViolationError) as raised:
        await submit(conn, anonymous_token=token, answer_text=SECRET)

    assert raised.value.constraint_name == "brief"
    assert SECRET not in everything_shown(raised.value)
    assert str(token) not in everything_shown(raised.value)


async def test_a_foreign_key_of_the_host_s_is_not_an_unknown_user(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """What the host adds to our tables fails under its own name."""
    await conn.execute("CREATE TABLE contents (content_id uuid PRIMARY KEY)")
    await conn.execute(
        "ALTER TABLE assessment_responses ADD CONSTRAINT content_is_there"
        " FOREIGN KEY (content_id) REFERENCES contents"
    )

    with pytest.raises(asyncpg.ForeignKeyViolationError) as raised:
        await submit(conn, anonymous_token=token, content_id=token)

    assert raised.value.constraint_name == "content_is_there"
    assert str(token) not in everything_shown(raised.value)


def test_what_asyncpg_says_of_a_lost_connection_comes_through() -> None:
    """An error of asyncpg's own that quotes no value keeps its words."""
    lost = asyncpg.ConnectionDoesNotExistError("connection was closed")

    assert errors.translate(lost) is lost
    assert str(lost) == "connection was closed"


async def test_other_errors_come_through_untouched(conn: asyncpg.Connection[Any]) -> None:
    """What is missing in the database comes through as asyncpg's error, in PostgreSQL's words."""
    await conn.execute("DROP TABLE assessment_responses CASCADE")

    with pytest.raises(asyncpg.UndefinedTableError, match="assessment_responses"):
        await assessments.get_responses(conn, user_id=1)
