"""Errors: one tree, and each survives pickling.

`test_secrets.py` has the errors that stay PostgreSQL's own.
"""

from __future__ import annotations

import pickle

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
    ],
    ids=repr,
)
def test_errors_survive_pickling(error: assessments.AssessmentsError) -> None:
    """A worker may pass an error to its parent process: type, message and attributes arrive."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    assert str(error)
