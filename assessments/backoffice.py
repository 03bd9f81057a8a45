"""The service's own work: scoring.

What stands here acts for the service and not for a person, so no owner is checked. In a request
handler it needs a reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assessments import inputs, records
from assessments.errors import UnknownResponse
from assessments.queries import queries

if TYPE_CHECKING:
    from assessments.queries import Connection
    from assessments.records import AssessmentScore

__all__ = ["record_score"]


async def record_score(
    conn: Connection,
    *,
    response_id: int,
    score_data: dict[str, Any],
    model_id: str | None = None,
    prompt_version: str | None = None,
) -> AssessmentScore:
    """Append a score to a response. Nothing is overwritten: the scores before it are its history.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        response_id: The response scored.
        score_data: A dict that becomes a JSON object of at most 256 KiB, nested at most 32
            levels.
        model_id: What scored, such as a model's name and version: 1 to 512 characters, or
            ``None`` for a person.
        prompt_version: The prompt or rubric that it scored by: 1 to 512 characters.

    Returns:
        The row as stored.

    Raises:
        InvalidInput: An argument breaks a rule above, or holds what PostgreSQL cannot store
            and give back equal.
        UnknownResponse: The response is not there (any more).
    """
    row = await queries.record_score(
        conn,
        response_id=inputs.positive_bigint("response_id", response_id),
        score_data=inputs.json_object("score_data", score_data, inputs.MAX_SCORE_BYTES),
        model_id=inputs.optional_identifier("model_id", model_id),
        prompt_version=inputs.optional_identifier("prompt_version", prompt_version),
    )
    if row is None:
        raise UnknownResponse
    return records.score(row)
