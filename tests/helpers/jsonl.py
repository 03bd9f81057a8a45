"""Lines of an export, as the import reads them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

from tests.helpers.rows import SECRET


def line(**changes: Any) -> bytes:
    """Return a good line with *changes*; a key changed to ``...`` is left out."""
    good = {
        "anonymous_token": str(UUID(int=7)),
        "question_id": "q1",
        "module_slug": "m1",
        "answer_text": SECRET,
        "created_at": "2026-11-01T12:00:00+00:00",
        "submission_key": str(uuid4()),
        "scores": [],
    }
    return json.dumps(_changed(good, changes)).encode() + b"\n"


def score(**changes: Any) -> list[dict[str, Any]]:
    """Return the scores of a line: a good one, and one with *changes*."""
    good = {"score_data": {SECRET: 1}, "created_at": "2026-11-01T12:00:00Z"}
    return [good, _changed(good, changes)]


def _changed(good: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (good | changes).items() if value is not ...}
