"""The service's own work: scoring, iteration over all responses, the purges.

These functions act for the service and not for a person. Not for request handlers: no ownership
check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assessments.errors import NotStored, UnknownResponse, UnsafeIsolation
from assessments.event_loop import map_in_slices
from assessments.purges import purge_anonymous_responses, purge_responses
from assessments.queries import queries, text_arrays
from assessments.records import to_response, to_response_and_score, to_score
from assessments.transactions import atomic
from assessments.validation.arguments import check_new_score, check_new_scores, check_response_ids
from assessments.validation.scalars import (
    check_bigint,
    check_bool,
    check_identifier,
    check_optional,
    check_page_size,
)
from assessments.walks import iter_batches, iter_batches_with_scores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from assessments.queries import Connection
    from assessments.records import (
        AssessmentResponse,
        AssessmentScore,
        NewScore,
        ResponseWithScores,
    )
    from assessments.validation.arguments import Columns

_ATTEMPTS = 2  # a response can appear between two statements

__all__ = [
    "get_responses_by_id",
    "get_scores",
    "get_unscored_responses",
    "iter_responses",
    "iter_responses_with_scores",
    "purge_anonymous_responses",
    "purge_responses",
    "record_score",
    "record_score_once",
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
    return await store_score(conn, columns)


async def store_score(conn: Connection, columns: Columns) -> AssessmentScore:
    """Append a score, its *columns* checked, to a response."""
    for _ in range(_ATTEMPTS):
        row = await queries.record_score(conn, **columns)
        if row is not None:
            return to_score(row)
        await _refuse_unknown(conn, [columns["response_id"]], [None])
    raise NotStored


async def record_score_once(
    conn: Connection,
    *,
    response_id: int,
    score_data: dict[str, Any],
    model_id: str,
    prompt_version: str,
) -> AssessmentScore | None:
    """Append a score unless the response has one by this model and prompt version.

    Any number of workers may do so at the same time, and one score is stored. `record_score` and
    `record_scores` do not look: every program that scores uses this function, or none does.

    Inside the caller's transaction, the lock behind that promise (an advisory lock, no row lock but
    the foreign key's) lasts until it ends. Record several in the order of their ids there, or
    transactions can deadlock.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        response_id: The response scored.
        score_data: As in `record_score`.
        model_id: What scored: 1 to 512 characters.
        prompt_version: The prompt or rubric that it scored by: 1 to 512 characters.

    Returns:
        The row as stored, or ``None`` where such a score stood already; nothing is stored then.

    Raises:
        InvalidInput: An argument breaks a rule above, or holds what PostgreSQL cannot store
            and give back equal.
        UnknownResponse: The response does not exist (any more).
        UnsafeIsolation: The caller's transaction is REPEATABLE READ or SERIALIZABLE; nothing was
            stored.
        NotStored: A trigger of the database dropped the row.
    """
    columns = check_new_score(locals())
    scorer = {
        "model_id": check_identifier("model_id", model_id),
        "prompt_version": check_identifier("prompt_version", prompt_version),
    }
    async with atomic(conn) as connection:
        if not await queries.lock_score(connection, response_id=columns["response_id"], **scorer):
            raise UnsafeIsolation
        row = await queries.record_score_once(connection, **columns)
    if row["already_scored"] is not None:
        return None
    if row["unknown_response"] is not None:
        raise UnknownResponse
    if row["score_id"] is None:
        raise NotStored
    return to_score(row, "unknown_response", "already_scored")


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


async def get_scores(conn: Connection, *, response_id: int) -> list[AssessmentScore]:
    """List the scores of one response, newest first, whoever owns it.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        response_id: The response.

    Returns:
        The rows by ``created_at``, then ``score_id``, both descending. Empty if the response has
        no score or does not exist.

    Raises:
        InvalidInput: An argument breaks a rule above.
    """
    response_id = check_bigint("response_id", response_id)
    rows = await queries.get_scores_of_any_owner(conn, response_id=response_id)
    return await map_in_slices(to_score, rows)


async def get_responses_by_id(
    conn: Connection, response_ids: Collection[int]
) -> list[AssessmentResponse]:
    """Return responses by their ids, whoever owns them.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        response_ids: At most 10,000 ids, in any order.

    Returns:
        The rows by ``response_id``, ascending, each once; without those that do not exist.

    Raises:
        InvalidInput: An argument breaks a rule above.
    """
    ids = text_arrays({"response_id": check_response_ids("response_ids", response_ids)})
    return await map_in_slices(to_response, await queries.get_responses_by_id(conn, **ids))


async def get_unscored_responses(
    conn: Connection,
    *,
    model_id: str | None = None,
    prompt_version: str | None = None,
    module_slug: str | None = None,
    question_id: str | None = None,
    latest_attempts_only: bool = False,
    skip_human_scored: bool = False,
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
        module_slug: Only responses of this module.
        question_id: Only responses to this question.
        latest_attempts_only: Leave out an attempt that its owner has followed by a newer one to
            the same question, scored or not.
        skip_human_scored: Leave out what a person has scored: a score without a *model_id*.
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
        module_slug=check_optional(check_identifier, "module_slug", module_slug),
        question_id=check_optional(check_identifier, "question_id", question_id),
        latest_attempts_only=check_bool("latest_attempts_only", latest_attempts_only),
        skip_human_scored=check_bool("skip_human_scored", skip_human_scored),
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
        The rows by ``response_id``, ascending; with an owner by ``created_at``, then
            ``response_id``.

    Raises:
        InvalidInput: An argument breaks a rule above; raised at the first step.
    """
    async for rows in iter_batches(conn, locals(), batch_size):
        for response in await map_in_slices(to_response, rows):
            yield response


async def iter_responses_with_scores(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    module_slug: str | None = None,
    question_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    batch_size: int = 1000,
) -> AsyncIterator[ResponseWithScores]:
    """Iterate over responses as `iter_responses` does, each with all its scores.

    One query a batch. The scores of a response are those of one moment, unless they alone are more
    than a batch.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: Only this user's responses.
        anonymous_token: Only this anonymous owner's; with *user_id*, those of either. With neither,
            all responses.
        module_slug: Only responses of this module.
        question_id: Only responses to this question.
        since: Only responses created at this (aware) time or later.
        until: Only responses created before this (aware) time.
        batch_size: How many rows a query fetches, 1 to 10,000: one for each score, and one for a
            response without any.

    Yields:
        The rows in the order of `iter_responses`, each with *scores*, newest first.

    Raises:
        InvalidInput: An argument breaks a rule above; raised at the first step.
    """
    current: ResponseWithScores | None = None
    async for rows in iter_batches_with_scores(conn, locals(), batch_size):
        for response, score in await map_in_slices(to_response_and_score, rows):
            if current is None or current["response_id"] != response["response_id"]:
                if current is not None:
                    yield _newest_first(current)
                current = {**response, "scores": []}
            if score is not None:
                current["scores"].append(score)
    if current is not None:
        yield _newest_first(current)


def _newest_first(response: ResponseWithScores) -> ResponseWithScores:
    response["scores"].reverse()
    return response
