"""What many tests need to say briefly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import assessments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assessments import AssessmentResponse

SECRET = "the-answer-that-nobody-may-see"  # noqa: S105 - an answer, not a password


async def new_user(conn: Any) -> int:
    """Add a user to the host's table."""
    user_id: int = await conn.fetchval("INSERT INTO users DEFAULT VALUES RETURNING user_id")
    return user_id


async def submit(conn: Any, question_id: str = "q1", **changes: Any) -> AssessmentResponse:
    """Submit a response of which only *changes* matter; an owner is among them."""
    arguments = {"module_slug": "m1", "answer_text": "Because.", **changes}
    return await assessments.submit_response(conn, question_id=question_id, **arguments)


async def submit_all(conn: Any, questions: Iterable[str], **owner: Any) -> None:
    """Submit a response to each of *questions*."""
    for question_id in questions:
        await submit(conn, question_id, **owner)


def ids(responses: Iterable[AssessmentResponse]) -> list[int]:
    """Return the keys of *responses* in their order."""
    return [response["response_id"] for response in responses]


def questions(responses: Iterable[AssessmentResponse]) -> list[str]:
    """Return the question of each of *responses* in their order."""
    return [response["question_id"] for response in responses]
