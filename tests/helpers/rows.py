"""Rows: what tests store, and what they read of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import assessments

if TYPE_CHECKING:
    from collections.abc import Iterable

    import asyncpg

    from assessments import AssessmentResponse, NewResponse

SECRET = "the-answer-that-nobody-may-see"  # noqa: S105 - an answer, not a password


async def new_user(conn: Any) -> int:
    """Add a user to the host's table."""
    user_id: int = await conn.fetchval("INSERT INTO users DEFAULT VALUES RETURNING user_id")
    return user_id


def new_response(question_id: str = "q1", **changes: Any) -> NewResponse:
    """Return a batch item of which only *changes* matter; an owner is among them."""
    arguments = {"module_slug": "m1", "answer_text": "Because.", **changes}
    return {"question_id": question_id, **arguments}  # type: ignore[typeddict-item]


async def submit(conn: Any, question_id: str = "q1", **changes: Any) -> AssessmentResponse:
    """Submit a response of which only *changes* matter; an owner is among them."""
    response: Any = new_response(question_id, **changes)
    submitted: AssessmentResponse = await assessments.submit_response(conn, **response)
    return submitted


async def submit_all(conn: Any, questions: Iterable[str], **owner: Any) -> None:
    """Submit a response to each of *questions*."""
    for question_id in questions:
        await submit(conn, question_id, **owner)


async def counts(conn: asyncpg.Connection[Any]) -> tuple[int, int]:
    """Return how many responses and how many scores are stored."""
    row = await conn.fetchrow(
        "SELECT (SELECT count(*) FROM assessment_responses), count(*) FROM assessment_scores"
    )
    assert row
    return row[0], row[1]


def ids(responses: Iterable[AssessmentResponse]) -> list[int]:
    """Return the ids of *responses*, in order."""
    return [response["response_id"] for response in responses]


def questions(responses: Iterable[AssessmentResponse]) -> list[str]:
    """Return the question of each of *responses*, in order."""
    return [response["question_id"] for response in responses]
