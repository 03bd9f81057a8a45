"""The scores of one's own responses. What writes them is `assessments.backoffice`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assessments import inputs, ownership, records
from assessments.queries import queries

if TYPE_CHECKING:
    from uuid import UUID

    from assessments.queries import Connection
    from assessments.records import AssessmentScore

__all__ = ["get_scores"]


async def get_scores(
    conn: Connection,
    *,
    response_id: int,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
) -> list[AssessmentScore]:
    """List the scores of one response, newest first.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        response_id: The response.
        user_id: The signed-in owner.
        anonymous_token: The anonymous owner. At least one owner is given; with both, the
            response may be of either.

    Returns:
        The rows by ``created_at``, then ``score_id``, both descending; the first is the current
        score. Empty if the response has no score, is not there, or belongs to somebody else:
        the three are not told apart.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    user, visitor = ownership.reader(user_id, anonymous_token)
    rows = await queries.get_scores(
        conn,
        response_id=inputs.positive_bigint("response_id", response_id),
        user_id=user,
        anonymous_token=visitor,
    )
    return [records.score(row) for row in rows]
