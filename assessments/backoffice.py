"""The service's own work: scoring, walks over everybody's responses, the purge.

What stands here acts for the service and not for a person, so no owner is checked. In a request
handler it needs a reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assessments import inputs, ownership, records
from assessments.errors import UnknownResponse
from assessments.queries import queries
from assessments.records import NewScore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from assessments.queries import Connection
    from assessments.records import AssessmentResponse, AssessmentScore

__all__ = [
    "get_unscored_responses",
    "iter_responses",
    "purge_anonymous_responses",
    "record_score",
    "record_scores",
]


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
        **_columns(
            response_id=response_id,
            score_data=score_data,
            model_id=model_id,
            prompt_version=prompt_version,
        ),
    )
    if row is None:
        raise UnknownResponse
    return records.score(row)


async def record_scores(conn: Connection, scores: Sequence[NewScore]) -> list[AssessmentScore]:
    """Append many scores in one statement and one round trip, all or nothing.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        scores: At most 10,000 dicts with the arguments of `record_score`; the optional ones may be
            left out. Together at most
            64 Mi characters of text.

    Returns:
        The rows as stored, in the order given.

    Raises:
        InvalidInput: An element breaks a rule of `record_score`; *parameter* names it, as in
            ``scores[3].score_data``, counted from 0. Nothing is stored.
        UnknownResponse: A response is not there (any more); *parameter* names the first such
            element. Nothing is stored.
    """
    columns = inputs.batch("scores", scores, NewScore, _columns)
    if not columns:
        return []
    rows = await queries.record_scores(
        conn, **{f"{name}s": column for name, column in columns.items()}
    )
    if not rows:
        number = await queries.first_unknown_response(conn, response_ids=columns["response_id"])
        raise UnknownResponse(f"scores[{number - 1}]" if number else None)
    return [records.score(row) for row in rows]


def _columns(
    *,
    response_id: object,
    score_data: object,
    model_id: object = None,
    prompt_version: object = None,
) -> dict[str, Any]:
    """Return the columns of a score to store, checked and encoded."""
    return {
        "response_id": inputs.positive_bigint("response_id", response_id),
        "score_data": inputs.json_object("score_data", score_data, inputs.MAX_SCORE_BYTES),
        "model_id": inputs.optional_identifier("model_id", model_id),
        "prompt_version": inputs.optional_identifier("prompt_version", prompt_version),
    }


async def get_unscored_responses(
    conn: Connection,
    *,
    model_id: str | None = None,
    prompt_version: str | None = None,
    limit: int = 100,
    after: int | None = None,
    up_to: int | None = None,
) -> list[AssessmentResponse]:
    """List responses that wait for a score, oldest first: the backlog, or what to score again.

    Finding what is unscored costs a look at every response between *after* and the last one
    returned, so a worker that is up to date goes on from where it was instead of from the start. A
    response whose transaction commits late can appear behind a cursor: start over now and then.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        model_id: Responses without a score by this model.
        prompt_version: Responses without a score by this prompt version; with *model_id*, without
            a score by both together. With neither, responses without any score.
        limit: At most so many rows, 1 or more.
        after: Only responses with a greater *response_id*: that of the last row seen; 0 for all.
        up_to: Only responses with no greater *response_id*. ``after=key - 1, up_to=key`` asks
            whether this one response still waits, with a single look.

    Returns:
        The rows by ``response_id``, ascending.

    Raises:
        InvalidInput: An argument breaks a rule above.
    """
    rows = await queries.get_unscored_responses(
        conn,
        model_id=inputs.optional_identifier("model_id", model_id),
        prompt_version=inputs.optional_identifier("prompt_version", prompt_version),
        after_response_id=inputs.optional_position("after", after),
        up_to_response_id=inputs.optional_positive_bigint("up_to", up_to),
        max_rows=inputs.positive_bigint("limit", limit),
    )
    return [records.response(row) for row in rows]


async def iter_responses(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    module_slug: str | None = None,
    question_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    batch_size: int = 1000,
) -> AsyncIterator[AssessmentResponse]:
    """Walk over responses, oldest first, in flat memory: for analysis and export.

    Each batch is a query of its own that goes on after the last key: no cursor, no long
    transaction, and from a pool no connection held between batches. A response whose transaction
    commits behind the walk is not seen.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: Only this user's responses.
        anonymous_token: Only this visitor's; with *user_id*, those of either. With neither,
            everybody's.
        module_slug: Only responses of this module.
        question_id: Only responses to this question.
        since: Only responses created at this moment (aware) or later.
        until: Only responses created before this moment (aware).
        batch_size: How many rows a query fetches, 1 or more.

    Yields:
        The rows by ``response_id``, ascending.

    Raises:
        InvalidInput: An argument breaks a rule above; raised at the first step.
    """
    filters = {
        "user_id": user_id,
        "anonymous_token": anonymous_token,
        "module_slug": module_slug,
        "question_id": question_id,
        "since": since,
        "until": until,
    }
    async for rows in iter_batches(conn, **filters, batch_size=batch_size):
        for row in rows:
            yield records.response(row)


async def iter_batches(
    conn: Connection,
    *,
    user_id: object = None,
    anonymous_token: object = None,
    module_slug: object = None,
    question_id: object = None,
    since: object = None,
    until: object = None,
    batch_size: object,
) -> AsyncIterator[list[Any]]:
    """Yield the rows of each of the queries behind `iter_responses`, their JSON as text."""
    arguments: dict[str, Any] = {
        "module_slug": inputs.optional_identifier("module_slug", module_slug),
        "question_id": inputs.optional_identifier("question_id", question_id),
        "since": inputs.optional_moment("since", since),
        "until": inputs.optional_moment("until", until),
        "max_rows": inputs.positive_bigint("batch_size", batch_size),
    }
    query = queries.iter_responses
    if user_id is not None or anonymous_token is not None:
        user, visitor = ownership.reader(user_id, anonymous_token)
        arguments |= {"user_id": user, "anonymous_token": visitor}
        query = queries.iter_owner_responses
    after = None
    while rows := await query(conn, after_response_id=after, **arguments):
        yield rows
        after = rows[-1]["response_id"]


async def purge_anonymous_responses(
    conn: Connection, *, older_than: timedelta, limit: int = 10_000, dry_run: bool = False
) -> int:
    """Erase responses that nobody has claimed for so long, a bounded batch a call.

    Their scores go too. Call it until it returns 0. It waits for a claim under way, and leaves
    what that has taken.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool; its role needs SELECT and
            DELETE on ``assessment_responses``.
        older_than: The age from which an unclaimed response goes: above zero, at most 365,000 days.
        limit: At most so many responses, 1 or more.
        dry_run: Erase nothing, only count.

    Returns:
        The number of responses erased or, with *dry_run*, the number that would be.

    Raises:
        InvalidInput: An argument breaks a rule above.
    """
    arguments = {
        "older_than": inputs.age("older_than", older_than),
        "max_rows": inputs.positive_bigint("limit", limit),
    }
    if inputs.boolean("dry_run", dry_run):
        counted: int = await queries.count_anonymous_responses(conn, **arguments)
        return counted
    erased: int = await queries.purge_anonymous_responses(conn, **arguments)
    return erased
