"""What an error says: which argument or batch item, and what is wrong with it."""

from __future__ import annotations

import pytest

from assessments import InvalidInput, SubmissionConflict, UnknownResponse, UnknownUser


def test_invalid_input_names_its_argument() -> None:
    """The message is the argument's name and the problem."""
    assert str(InvalidInput("limit", "must be an int")) == "limit: must be an int"


@pytest.mark.parametrize("error", [UnknownUser, UnknownResponse, SubmissionConflict])
def test_an_error_of_a_batch_names_its_item(
    error: type[UnknownUser | UnknownResponse | SubmissionConflict],
) -> None:
    """Outside a batch the message stands alone; in a batch the item's position precedes it."""
    assert str(error()) == error.message
    assert str(error("responses[3]")) == f"responses[3]: {error.message}"
    assert error("responses[3]").parameter == "responses[3]"
