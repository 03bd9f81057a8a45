"""The key that an export gives a response stored without one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from assessments.cli import jsonl

ROW: dict[str, Any] = {
    "response_id": 7,
    "anonymous_token": UUID("5ec2e700-70ce-4000-8000-00000000a11e"),
    "user_id": None,
    "question_id": "q1",
    "module_slug": "m1",
    "learning_outcome_id": None,
    "content_id": None,
    "answer_text": '日本 "quoted"',
    "answer_metadata": "{}",
    "created_at": datetime(2026, 11, 22, 10, 0, 0, 5, tzinfo=timezone.utc),
}
CLAIMED = {"anonymous_token": None, "user_id": 1}
ELSEWHERE = {"created_at": ROW["created_at"].astimezone(timezone(timedelta(hours=2)))}


def exported_key(**changes: Any) -> str:
    """Return the key on the line of the row, with *changes*."""
    line = jsonl.format_line({**ROW, **changes}, None, [])
    response, _ = jsonl.parse_line(line)
    return str(response["submission_key"])


@pytest.mark.parametrize("changes", [{}, CLAIMED, ELSEWHERE], ids=["same", "claimed", "elsewhere"])
def test_a_derived_key_is_the_same_in_every_version(changes: dict[str, Any]) -> None:
    """Another key would store an export of an earlier version a second time."""
    assert exported_key(**changes) == "9846968e-0124-56cb-b991-4301fa39b03a"


@pytest.mark.parametrize(
    "changes",
    [
        {"response_id": 8},
        {"created_at": ROW["created_at"] + timedelta(microseconds=1)},
        {"question_id": "q2"},
        {"module_slug": "m2"},
        {"answer_text": "another"},
    ],
    ids=str,
)
def test_another_response_has_another_derived_key(changes: dict[str, Any]) -> None:
    """Responses of two databases with one id differ in time, question, module or answer."""
    assert exported_key(**changes) != exported_key()
