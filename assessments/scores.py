"""The scores of an owner's responses. `assessments.backoffice` records them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assessments.event_loop import map_in_slices
from assessments.queries import queries
from assessments.records import to_score
from assessments.validation.arguments import check_owner
from assessments.validation.scalars import check_bigint

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
        score. Empty if the response has no score, does not exist, or belongs to another owner:
        the caller cannot tell which.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    owner = check_owner(user_id, anonymous_token)
    response_id = check_bigint("response_id", response_id)
    rows = await queries.get_scores(conn, **owner, response_id=response_id)
    return await map_in_slices(to_score, rows)
