"""The catalogue of calls, on which tests of every function rest, leaves nothing out."""

from __future__ import annotations

import inspect

from tests.helpers.calls import FUNCTIONS, catalogue


def test_no_function_and_no_argument_is_forgotten() -> None:
    """Every public function is called with every argument that it takes beside the connection."""
    calls = catalogue()

    assert {call.function for call in calls.values()} == FUNCTIONS.keys()
    for call in calls.values():
        _, *parameters = inspect.signature(FUNCTIONS[call.function]).parameters
        assert call.arguments.keys() == set(parameters), call.function
