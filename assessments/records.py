"""Typed rows: plain dicts with the columns' own names.

The types are asyncpg's. Where the host has set a codec for ``int8``, ``uuid`` or ``timestamptz``,
what that decodes is turned back into them; a codec for text changes the rows' text.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from assessments.codecs import restore_types

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict  # pydantic refuses the older Pythons' own

if TYPE_CHECKING:
    from asyncpg import Record

__all__ = [
    "AssessmentResponse",
    "AssessmentScore",
    "NewResponse",
    "NewScore",
    "ResponseWithScores",
    "ResponseWithoutToken",
    "ScoredResponse",
    "ScoredResponseWithoutToken",
]


# The columns of a response stand in three parts, so that they keep their order with the token and
# without it.
class _Key(TypedDict):
    response_id: int


class _Token(TypedDict):
    anonymous_token: UUID | None


class _Columns(TypedDict):
    user_id: int | None
    question_id: str
    module_slug: str
    learning_outcome_id: str | None
    content_id: UUID | None
    answer_text: str
    answer_metadata: dict[str, Any]
    created_at: datetime


class AssessmentResponse(_Key, _Token, _Columns):
    """One attempt of a student at a question: a row of ``assessment_responses``.

    Exactly one of *anonymous_token* and *user_id* is ``None``. *created_at* is aware: when the
    transaction began that stored the response.
    """


class ResponseWithoutToken(_Key, _Columns):
    """A response as a client may see it: without the token, which is a credential."""


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


class ScoredResponse(AssessmentResponse):
    """A response with its newest score, or ``None`` where it has no score."""

    latest_score: AssessmentScore | None


class ScoredResponseWithoutToken(ResponseWithoutToken):
    """A response with its newest score, as a client may see it: without the token."""

    latest_score: AssessmentScore | None


class ResponseWithScores(AssessmentResponse):
    """A response with all its scores, newest first."""

    scores: list[AssessmentScore]


class _RequiredOfResponse(TypedDict):
    question_id: str
    module_slug: str
    answer_text: str


class Submission(_RequiredOfResponse, total=False):
    """A response to submit, without its owner."""

    learning_outcome_id: str | None
    content_id: UUID | str | None
    answer_metadata: dict[str, Any] | None
    submission_key: UUID | str | None


class NewResponse(Submission, total=False):
    """A response to submit: the arguments of `submit_response`, with exactly one owner."""

    user_id: int | None
    anonymous_token: UUID | str | None


class _RequiredOfScore(TypedDict):
    response_id: int
    score_data: dict[str, Any]


class NewScore(_RequiredOfScore, total=False):
    """A score to record: the arguments of `record_score`."""

    model_id: str | None
    prompt_version: str | None


# The queries return JSONB as text, decoded here once, so that no JSON codec of the host's matters.
# PostgreSQL puts no white space around that text, so scan_once, which raw_decode calls, suffices.
_decode: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_UTC = timezone.utc  # as asyncpg has it
# Columns of a type have one codec: whether it is the host's is seen by one that is not null.


def to_response(row: Record, *extra: str) -> AssessmentResponse:
    """Return *row* of a responses query as a record, without its *extra* columns."""
    record: Any = dict(row)
    for name in extra:
        record.pop(name, None)
    record["answer_metadata"] = _decode(record["answer_metadata"], 0)[0]
    uuid, time = record["anonymous_token"] or record["content_id"], record["created_at"]
    if (
        type(record["response_id"]) is not int
        or type(time) is not datetime
        or time.tzinfo is not _UTC
        or (uuid is not None and not isinstance(uuid, UUID))
    ):
        restore_types(record)
    return record  # type: ignore[no-any-return]  # a cast is a call for each row


def to_score(row: Record, *extra: str) -> AssessmentScore:
    """Return *row* of a scores query as a record, without its *extra* columns."""
    record: Any = dict(row)
    for name in extra:
        record.pop(name, None)
    record["score_data"] = _decode(record["score_data"], 0)[0]
    time = record["created_at"]
    if (
        type(record["response_id"]) is not int
        or type(time) is not datetime
        or time.tzinfo is not _UTC
    ):
        restore_types(record)
    return record  # type: ignore[no-any-return]


def to_scored_response(row: Record) -> ScoredResponse:
    """Return *row* of a query of responses with their newest score as a record."""
    response, score = to_response_and_score(row)
    return cast("ScoredResponse", {**response, "latest_score": score})


def to_response_and_score(row: Record) -> tuple[AssessmentResponse, AssessmentScore | None]:
    """Return *row* of a query of responses, each with a score or nulls, as two records."""
    response: Any = to_response(row, "submission_key")
    score = {
        "score_id": response.pop("score_id"),
        "response_id": response["response_id"],
        "score_data": response.pop("score_data"),
        "model_id": response.pop("model_id"),
        "prompt_version": response.pop("prompt_version"),
        "created_at": response.pop("scored_at"),
    }
    if score["score_id"] is None:
        return response, None
    score["score_data"] = _decode(score["score_data"], 0)[0]
    return response, cast("AssessmentScore", score)
