"""Typed rows: what goes out, as plain dicts with the columns' own names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypedDict, cast

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from asyncpg import Record

__all__ = ["AssessmentResponse", "AssessmentScore"]


class AssessmentResponse(TypedDict):
    """One attempt of a student at a question: a row of ``assessment_responses``.

    Exactly one of *anonymous_token* and *user_id* is ``None``. *created_at* is aware: when the
    transaction began that stored the response.
    """

    response_id: int
    anonymous_token: UUID | None
    user_id: int | None
    question_id: str
    module_slug: str
    learning_outcome_id: str | None
    content_id: UUID | None
    answer_text: str
    answer_metadata: dict[str, Any]
    created_at: datetime


class AssessmentScore(TypedDict):
    """What an AI or a person made of a response: a row of ``assessment_scores``.

    *created_at* is aware: when the transaction began that stored the score.
    """

    score_id: int
    response_id: int
    score_data: dict[str, Any]
    model_id: str | None
    prompt_version: str | None
    created_at: datetime


# The queries hand JSONB out as text and it is decoded here, once: what a codec of the host's
# would make of it does not matter. PostgreSQL puts no white space around that text, so the
# decoder need not look for any.
_decode = json.JSONDecoder().raw_decode


def response(row: Record) -> AssessmentResponse:
    """Return *row* of a responses query as a record."""
    record = dict(row)
    record["answer_metadata"] = _decode(record["answer_metadata"])[0]
    return cast("AssessmentResponse", record)


def score(row: Record) -> AssessmentScore:
    """Return *row* of a scores query as a record."""
    record = dict(row)
    record["score_data"] = _decode(record["score_data"])[0]
    return cast("AssessmentScore", record)
