"""An owner's responses with their scores. `assessments.backoffice` records them."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from assessments.event_loop import map_in_slices
from assessments.queries import queries
from assessments.records import to_score, to_scored_response
from assessments.validation.arguments import check_identifiers, check_owner, check_page
from assessments.validation.scalars import (
    check_bigint,
    check_bool,
    check_identifier,
    check_optional,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID

    from typing_extensions import Unpack

    from assessments.queries import Connection
    from assessments.records import AssessmentScore, ScoredResponse
    from assessments.responses import Latest, Page

__all__ = [
    "get_latest_responses_with_latest_score",
    "get_responses_with_latest_score",
    "get_scores",
]


@overload
async def get_scores(
    conn: Connection, *, response_id: int, user_id: int
) -> list[AssessmentScore]: ...
@overload
async def get_scores(
    conn: Connection, *, response_id: int, anonymous_token: UUID | str
) -> list[AssessmentScore]: ...
@overload
async def get_scores(
    conn: Connection, *, response_id: int, user_id: int | None, anonymous_token: UUID | str | None
) -> list[AssessmentScore]: ...
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


@overload
async def get_responses_with_latest_score(
    conn: Connection, *, user_id: int, human_first: bool = False, **page: Unpack[Page]
) -> list[ScoredResponse]: ...
@overload
async def get_responses_with_latest_score(
    conn: Connection,
    *,
    anonymous_token: UUID | str,
    human_first: bool = False,
    **page: Unpack[Page],
) -> list[ScoredResponse]: ...
@overload
async def get_responses_with_latest_score(
    conn: Connection,
    *,
    user_id: int | None,
    anonymous_token: UUID | str | None,
    human_first: bool = False,
    **page: Unpack[Page],
) -> list[ScoredResponse]: ...
async def get_responses_with_latest_score(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    module_slug: str | None = None,
    question_id: str | None = None,
    limit: int | None = None,
    before: tuple[datetime, int] | None = None,
    human_first: bool = False,
) -> list[ScoredResponse]:
    """List an owner's responses, newest first, each with its newest score, in one query.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: The signed-in owner.
        anonymous_token: The anonymous owner. At least one owner is given; with both, the rows
            of either come back in one order.
        module_slug: Only responses of this module.
        question_id: Only responses to this question.
        limit: At most so many rows, 1 to 10,000; all, if left out.
        before: Only rows after this one in the list: ``(created_at, response_id)`` of the last
            row of the page before.
        human_first: Prefer a person's score, one without a *model_id*, to every model's, however
            new.

    Returns:
        What `get_responses` returns, each row with *latest_score*: its newest score by
        ``created_at``, then ``score_id``, or ``None``. With *human_first* its newest score by a
        person, if it has one.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    owner = check_owner(user_id, anonymous_token)
    page = check_page(owner, module_slug, question_id, limit, before)
    page["human_first"] = check_bool("human_first", human_first)
    if page["question_id"] is not None:
        rows = await queries.get_scored_responses_for_question(conn, **page)
    elif page["module_slug"] is not None:
        rows = await queries.get_scored_responses_for_module(conn, **page)
    else:
        rows = await queries.get_responses_with_latest_score(conn, **page)
    return await map_in_slices(to_scored_response, rows)


@overload
async def get_latest_responses_with_latest_score(
    conn: Connection, *, user_id: int, human_first: bool = False, **latest: Unpack[Latest]
) -> list[ScoredResponse]: ...
@overload
async def get_latest_responses_with_latest_score(
    conn: Connection,
    *,
    anonymous_token: UUID | str,
    human_first: bool = False,
    **latest: Unpack[Latest],
) -> list[ScoredResponse]: ...
@overload
async def get_latest_responses_with_latest_score(
    conn: Connection,
    *,
    user_id: int | None,
    anonymous_token: UUID | str | None,
    human_first: bool = False,
    **latest: Unpack[Latest],
) -> list[ScoredResponse]: ...
async def get_latest_responses_with_latest_score(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    module_slug: str | None = None,
    question_ids: Collection[str] | None = None,
    human_first: bool = False,
) -> list[ScoredResponse]:
    """List an owner's newest response to each question with its score, in one query: a scored test.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: The signed-in owner.
        anonymous_token: The anonymous owner. At least one owner is given; with both, the newest
            of either counts.
        module_slug: Only responses of this module.
        question_ids: Only responses to these questions, at most 10,000; to all, if left out.
        human_first: Prefer a person's score, one without a *model_id*, to every model's, however
            new.

    Returns:
        What `get_latest_responses` returns, each row with *latest_score*: its newest score by
        ``created_at``, then ``score_id``, or ``None``. With *human_first* its newest score by a
        person, if it has one. An earlier attempt's scores do not count.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    rows = await queries.get_latest_responses_with_latest_score(
        conn,
        **check_owner(user_id, anonymous_token),
        module_slug=check_optional(check_identifier, "module_slug", module_slug),
        question_ids=check_optional(check_identifiers, "question_ids", question_ids),
        human_first=check_bool("human_first", human_first),
    )
    return await map_in_slices(to_scored_response, rows)
