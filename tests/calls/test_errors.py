"""Errors: one tree, and each survives pickling.

`test_secrets.py` has the errors that stay PostgreSQL's own.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import assessments
from assessments import errors

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
        assessments.UnsupportedCodec("created_at"),
    ],
    ids=repr,
)
def test_errors_survive_pickling(error: assessments.AssessmentsError) -> None:
    """A worker may pass an error to its parent process: type, message and attributes arrive."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    assert str(error)


def test_invalid_input_names_its_argument() -> None:
    """The message is the argument's name and the problem."""
    assert str(errors.InvalidInput("limit", "must be an int")) == "limit: must be an int"


@pytest.mark.parametrize(
    "error",
    [errors.UnknownUser, errors.UnknownResponse, errors.SubmissionConflict, errors.NotStored],
)
def test_an_error_of_a_batch_names_its_item(
    error: Any,
) -> None:
    """Outside a batch the message stands alone; in a batch the item's position precedes it."""
    assert str(error()) == error.message
    assert str(error("responses[3]")) == f"responses[3]: {error.message}"
    assert error("responses[3]").parameter == "responses[3]"
