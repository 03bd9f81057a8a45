"""The service's own work: scoring, iteration over all responses, the purge.

These functions act for the service and not for a person. Not for request handlers: no ownership
check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assessments.errors import NotStored, UnknownResponse
from assessments.event_loop import map_in_slices
from assessments.queries import queries, text_arrays
from assessments.records import to_response, to_score
from assessments.validation.arguments import check_new_score, check_new_scores, check_owner
from assessments.validation.scalars import (
    check_aware_datetime,
    check_bigint,
    check_bool,
    check_identifier,
    check_optional,
    check_page_size,
    check_retention,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from asyncpg import Record

    from assessments.queries import Connection
    from assessments.records import AssessmentResponse, AssessmentScore, NewScore

_ATTEMPTS = 2  # a response can appear between two statements

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
    """Append a score to a response. Earlier scores stay, as its history.

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
        UnknownResponse: The response does not exist (any more).
        NotStored: A trigger of the database dropped the row.
    """
    columns = check_new_score(locals())  # the arguments are the columns
    for _ in range(_ATTEMPTS):
        row = await queries.record_score(conn, **columns)
        if row is not None:
            return to_score(row)
        await _refuse_unknown(conn, [columns["response_id"]], [None])
    raise NotStored


async def record_scores(conn: Connection, scores: Sequence[NewScore]) -> list[AssessmentScore]:
    """Append many scores in one statement and one round trip, all or nothing.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        scores: At most 10,000 dicts with the arguments of `record_score`; the optional ones may be
            left out. Together at most 64 Mi characters of text.

    Returns:
        The rows as stored, in the order given.

    Raises:
        InvalidInput: A batch item breaks a rule of `record_score`; *parameter* names it, as in
            ``scores[3].score_data``, counted from 0. Nothing is stored.
        UnknownResponse: A response does not exist (any more); *parameter* names the first such
            item. Nothing is stored.
        NotStored: A trigger of the database dropped a row. Nothing is stored.
    """
    columns = await check_new_scores(scores)
    if not columns:
        return []
    places = [f"scores[{index}]" for index in range(len(columns["response_id"]))]
    for _ in range(_ATTEMPTS):
        rows = await queries.record_scores(conn, **text_arrays(columns))
        if rows:
            return await map_in_slices(to_score, rows)
        await _refuse_unknown(conn, columns["response_id"], places)
    raise NotStored(places[0])


async def _refuse_unknown(
    conn: Connection, response_ids: list[int], places: Sequence[str | None]
) -> None:
    """Raise `UnknownResponse` for the first of these that does not exist; *places* name them."""
    ids = text_arrays({"response_id": response_ids})
    rows = await queries.get_unknown_responses(conn, **ids)
    for place, row in zip(places, rows, strict=True):
        if row["unknown_response"] is not None:
            raise UnknownResponse(place)


async def get_unscored_responses(
    conn: Connection,
    *,
    model_id: str | None = None,
    prompt_version: str | None = None,
    limit: int = 100,
    after: int | None = None,
    up_to: int | None = None,
) -> list[AssessmentResponse]:
    """List responses without a score, oldest first: the scoring backlog, or what to score again.

    The query scans every response between *after* and the last one returned, so a worker should
    continue from its cursor instead of from the start. A response whose transaction commits late
    can appear behind a cursor: start over now and then.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        model_id: Responses without a score by this model.
        prompt_version: Responses without a score by this prompt version; with *model_id*, without
            a score by both together. With neither, responses without any score.
        limit: At most so many rows, 1 to 10,000.
        after: The cursor: only responses with a greater *response_id*, that of the last row seen;
            0 for all.
        up_to: Only responses with no greater *response_id*. ``after=key - 1, up_to=key`` asks
            whether this one response is still unscored, with a single index lookup.

    Returns:
        The rows by ``response_id``, ascending.

    Raises:
        InvalidInput: An argument breaks a rule above.
    """
    rows = await queries.get_unscored_responses(
        conn,
        model_id=check_optional(check_identifier, "model_id", model_id),
        prompt_version=check_optional(check_identifier, "prompt_version", prompt_version),
        after_response_id=None if after is None else check_bigint("after", after, least=0),
        up_to_response_id=check_optional(check_bigint, "up_to", up_to),
        max_rows=check_page_size("limit", limit),
    )
    return await map_in_slices(to_response, rows)


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
    """Iterate over responses, oldest first, in flat memory: for analysis and export.

    Keyset pagination: each batch is a query of its own that continues after the last key. So there
    is no cursor, no long transaction and, on a pool, no connection held between batches. A response
    whose transaction commits behind the iteration is not seen.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: Only this user's responses.
        anonymous_token: Only this anonymous owner's; with *user_id*, those of either. With neither,
            all responses.
        module_slug: Only responses of this module.
        question_id: Only responses to this question.
        since: Only responses created at this (aware) time or later.
        until: Only responses created before this (aware) time.
        batch_size: How many rows a query fetches, 1 to 10,000.

    Yields:
        The rows by ``response_id``, ascending.

    Raises:
        InvalidInput: An argument breaks a rule above; raised at the first step.
    """
    async for rows in iter_batches(conn, locals(), batch_size):
        for response in await map_in_slices(to_response, rows):
            yield response


async def iter_batches(
    conn: Connection, filters: Mapping[str, Any], batch_size: int
) -> AsyncIterator[list[Record]]:
    """Yield the rows of each query of `iter_responses`, whose arguments *filters* are."""
    arguments = {
        "module_slug": check_optional(check_identifier, "module_slug", filters["module_slug"]),
        "question_id": check_optional(check_identifier, "question_id", filters["question_id"]),
        "since": check_optional(check_aware_datetime, "since", filters["since"]),
        "until": check_optional(check_aware_datetime, "until", filters["until"]),
        "max_rows": check_page_size("batch_size", batch_size),
    }
    query = queries.iter_responses
    owner = filters["user_id"], filters["anonymous_token"]
    if owner != (None, None):
        arguments |= check_owner(*owner)
        query = queries.iter_owner_responses
    after = None
    while rows := await query(conn, after_response_id=after, **arguments):
        yield rows
        after = rows[-1]["response_id"]


async def purge_anonymous_responses(
    conn: Connection, *, older_than: timedelta, limit: int = 10_000, dry_run: bool = False
) -> int:
    """Erase unclaimed responses older than *older_than*, a bounded batch a call.

    Their scores are erased too. Call it until it returns 0. It waits for a claim in progress, and
    leaves what that has taken.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool; its role needs SELECT and
            DELETE on ``assessment_responses``.
        older_than: The retention of unclaimed responses: above zero, at most 365,000 days.
        limit: At most so many responses, 1 or more.
        dry_run: Erase nothing, only count.

    Returns:
        The number of responses erased or, with *dry_run*, the number that would be.

    Raises:
        InvalidInput: An argument breaks a rule above.
    """
    arguments = {
        "older_than": check_retention("older_than", older_than),
        "max_rows": check_bigint("limit", limit),
    }
    if check_bool("dry_run", dry_run):
        return int(await queries.count_anonymous_responses(conn, **arguments))
    erased: int = await queries.purge_anonymous_responses(conn, **arguments)
    return erased
