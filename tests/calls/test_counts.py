"""The number that a claim, an erasure and a purge return."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from assessments import claim_assessment_responses, delete_responses
from assessments.backoffice import purge_anonymous_responses
from tests.helpers.rows import submit_all

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg


async def test_every_row_is_counted(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """A number of two digits comes back whole."""
    questions = [f"q{number}" for number in range(12)]
    await submit_all(conn, questions, anonymous_token=token)

    assert await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id) == 12
    assert await delete_responses(conn, user_id=user_id) == 12
    await submit_all(conn, questions, anonymous_token=token)
    assert await purge_anonymous_responses(conn, older_than=timedelta(microseconds=1)) == 12
