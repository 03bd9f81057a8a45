"""An owner's own responses: submit, read, erase.

Every function takes the connection first and the rest by keyword, and calls one named query of
``sql/``. *conn* is an ``asyncpg.Connection``, a pool's connection, or an
``asyncpg.Pool``, from which one connection is taken for the call. Inside the caller's transaction,
that transaction is neither committed nor rolled back, and none of its settings change.

The overloads are for type checkers: a read has an owner or two, a submission exactly one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, overload

from assessments.event_loop import map_in_slices
from assessments.queries import queries
from assessments.records import to_response
from assessments.submissions import store_response, store_responses
from assessments.validation.arguments import (
    check_identifiers,
    check_new_response,
    check_new_responses,
    check_owner,
    check_page,
)
from assessments.validation.scalars import (
    check_bigint,
    check_identifier,
    check_optional,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from typing_extensions import Unpack

    from assessments.queries import Connection
    from assessments.records import AssessmentResponse, NewResponse, Submission

    class Latest(TypedDict, total=False):
        """What selects the questions of a test."""

        module_slug: str | None
        question_ids: Collection[str] | None

    class Page(TypedDict, total=False):
        """What selects a page of a list."""

        module_slug: str | None
        question_id: str | None
        limit: int | None
        before: tuple[datetime, int] | None


__all__ = [
    "delete_responses",
    "get_latest_responses",
    "get_response",
    "get_responses",
    "get_responses_for_question",
    "submit_response",
    "submit_responses",
]


@overload
async def submit_response(
    conn: Connection, *, user_id: int, anonymous_token: None = None, **response: Unpack[Submission]
) -> AssessmentResponse: ...
@overload
async def submit_response(
    conn: Connection,
    *,
    user_id: None = None,
    anonymous_token: UUID | str,
    **response: Unpack[Submission],
) -> AssessmentResponse: ...
async def submit_response(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    question_id: str,
    module_slug: str,
    learning_outcome_id: str | None = None,
    content_id: UUID | str | None = None,
    answer_text: str,
    answer_metadata: dict[str, Any] | None = None,
    submission_key: UUID | str | None = None,
) -> AssessmentResponse:
    """Store one response as a new row, always: an answer submitted twice is two responses.

    With a *submission_key* the call is idempotent: safe to retry when its outcome is unknown. The
    same key, owner and content return the row already stored; after a claim, that owner is the
    user.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: The owner, if signed in: a key of the host's ``users``, 1 to 2**63-1.
        anonymous_token: The owner, if anonymous: a random UUID, or its string, that the browser
            keeps. Exactly one owner is given.
        question_id: The question answered: 1 to 512 characters.
        module_slug: The module that it belongs to: 1 to 512 characters.
        learning_outcome_id: The learning outcome that it assesses: 1 to 512 characters.
        content_id: The piece of content that shows the question.
        answer_text: The answer, at most 1 MiB of UTF-8. It may be blank, and is stored
            code point for code point.
        answer_metadata: A dict that becomes a JSON object of at most 64 KiB, nested at most 32
            levels; ``{}`` if left out.
        submission_key: An idempotency key: a random UUID, or its string, that the client makes
            before it sends this response for the first time.

    Returns:
        The row as stored, by this call or by an earlier one with the key.

    Raises:
        InvalidInput: An argument breaks a rule above, or holds what PostgreSQL cannot store
            and give back equal (NUL, a lone surrogate, NaN, a tuple in JSON and the like).
        UnknownUser: *user_id* is not in the host's ``users``.
        SubmissionConflict: *submission_key* is already used by another owner or with different
            content.
        NotStored: A trigger of the database dropped the row.
    """
    columns = check_new_response(locals())  # the arguments are the columns
    return await store_response(conn, columns)


async def submit_responses(
    conn: Connection, responses: Sequence[NewResponse]
) -> list[AssessmentResponse]:
    """Store many responses in one statement and one round trip, all or nothing.

    Items with a *submission_key* that was sent before are not stored again, as in
    `submit_response`. Where there are such keys, the statement runs in a transaction, or in a
    savepoint of the caller's. Concurrent calls with the same keys in a different order may
    deadlock: PostgreSQL then ends one of them, which is safe to retry.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        responses: At most 10,000 dicts with the arguments of `submit_response`, each with its own
            owner; the optional ones may be left out. Together at most 64 Mi characters of text.

    Returns:
        The rows as stored, by this call or an earlier one, in the order given.

    Raises:
        InvalidInput: A batch item breaks a rule of `submit_response`; *parameter* names it, as in
            ``responses[3].question_id``, counted from 0. Nothing is stored.
        UnknownUser: A *user_id* is not in the host's ``users``; *parameter* names the first such
            item. Nothing is stored.
        SubmissionConflict: A *submission_key* is already used by another owner or with different
            content; *parameter* names the first such item. Nothing is stored.
        NotStored: A trigger of the database dropped a row. Nothing is stored.
    """
    columns = await check_new_responses(responses)
    if not columns:
        return []
    return await store_responses(conn, columns)


@overload
async def get_response(
    conn: Connection, *, response_id: int, user_id: int
) -> AssessmentResponse | None: ...
@overload
async def get_response(
    conn: Connection, *, response_id: int, anonymous_token: UUID | str
) -> AssessmentResponse | None: ...
@overload
async def get_response(
    conn: Connection, *, response_id: int, user_id: int | None, anonymous_token: UUID | str | None
) -> AssessmentResponse | None: ...
async def get_response(
    conn: Connection,
    *,
    response_id: int,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
) -> AssessmentResponse | None:
    """Return one of an owner's responses by its id.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        response_id: The response.
        user_id: The signed-in owner.
        anonymous_token: The anonymous owner. At least one owner is given; with both, the
            response may be of either.

    Returns:
        The row, or ``None`` if it does not exist or belongs to another owner: the caller cannot
        tell which.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    owner = check_owner(user_id, anonymous_token)
    response_id = check_bigint("response_id", response_id)
    row = await queries.get_response(conn, **owner, response_id=response_id)
    return None if row is None else to_response(row)


@overload
async def get_responses(
    conn: Connection, *, user_id: int, **page: Unpack[Page]
) -> list[AssessmentResponse]: ...
@overload
async def get_responses(
    conn: Connection, *, anonymous_token: UUID | str, **page: Unpack[Page]
) -> list[AssessmentResponse]: ...
@overload
async def get_responses(
    conn: Connection,
    *,
    user_id: int | None,
    anonymous_token: UUID | str | None,
    **page: Unpack[Page],
) -> list[AssessmentResponse]: ...
async def get_responses(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    module_slug: str | None = None,
    question_id: str | None = None,
    limit: int | None = None,
    before: tuple[datetime, int] | None = None,
) -> list[AssessmentResponse]:
    """List an owner's responses, newest first.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: The signed-in owner.
        anonymous_token: The anonymous owner. At least one owner is given; with both, the rows
            of either come back in one order: the user's own and those not yet claimed.
        module_slug: Only responses of this module.
        question_id: Only responses to this question.
        limit: At most so many rows, 1 to 10,000; all, if left out.
        before: Only rows after this one in the list: ``(created_at, response_id)`` of the last
            row of the page before. Rows that arrive between two pages neither shift nor repeat
            any.

    Returns:
        The rows by ``created_at``, then ``response_id``, both descending. An owner without
        responses, or unknown, has an empty list.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    owner = check_owner(user_id, anonymous_token)
    page = check_page(owner, module_slug, question_id, limit, before)
    if page["question_id"] is not None:
        rows = await queries.get_responses_for_question(conn, **page)
    elif page["module_slug"] is not None:
        rows = await queries.get_responses_for_module(conn, **page)
    else:
        rows = await queries.get_responses(conn, **page)
    return await map_in_slices(to_response, rows)


@overload
async def get_responses_for_question(
    conn: Connection, *, user_id: int, question_id: str
) -> list[AssessmentResponse]: ...
@overload
async def get_responses_for_question(
    conn: Connection, *, anonymous_token: UUID | str, question_id: str
) -> list[AssessmentResponse]: ...
@overload
async def get_responses_for_question(
    conn: Connection, *, user_id: int | None, anonymous_token: UUID | str | None, question_id: str
) -> list[AssessmentResponse]: ...
async def get_responses_for_question(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    question_id: str,
) -> list[AssessmentResponse]:
    """List an owner's responses to one question, newest first.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: The signed-in owner.
        anonymous_token: The anonymous owner. At least one owner is given; with both, the rows
            of either come back in one order.
        question_id: The question.

    Returns:
        The rows by ``created_at``, then ``response_id``, both descending.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    owner = check_owner(user_id, anonymous_token)
    question_id = check_identifier("question_id", question_id)
    page = check_page(owner, None, question_id, None, None)
    rows = await queries.get_responses_for_question(conn, **page)
    return await map_in_slices(to_response, rows)


@overload
async def get_latest_responses(
    conn: Connection, *, user_id: int, **latest: Unpack[Latest]
) -> list[AssessmentResponse]: ...
@overload
async def get_latest_responses(
    conn: Connection, *, anonymous_token: UUID | str, **latest: Unpack[Latest]
) -> list[AssessmentResponse]: ...
@overload
async def get_latest_responses(
    conn: Connection,
    *,
    user_id: int | None,
    anonymous_token: UUID | str | None,
    **latest: Unpack[Latest],
) -> list[AssessmentResponse]: ...
async def get_latest_responses(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    module_slug: str | None = None,
    question_ids: Collection[str] | None = None,
) -> list[AssessmentResponse]:
    """List an owner's newest response to each question, in one query: to resume a test.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: The signed-in owner.
        anonymous_token: The anonymous owner. At least one owner is given; with both, the newest
            of either counts.
        module_slug: Only responses of this module.
        question_ids: Only responses to these questions, at most 10,000; to all, if left out.

    Returns:
        A row for each question that has been answered, by ``created_at``, then ``response_id``,
        both descending.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    rows = await queries.get_latest_responses(
        conn,
        **check_owner(user_id, anonymous_token),
        module_slug=check_optional(check_identifier, "module_slug", module_slug),
        question_ids=check_optional(check_identifiers, "question_ids", question_ids),
    )
    return await map_in_slices(to_response, rows)


@overload
async def delete_responses(conn: Connection, *, user_id: int) -> int: ...
@overload
async def delete_responses(conn: Connection, *, anonymous_token: UUID | str) -> int: ...
@overload
async def delete_responses(
    conn: Connection, *, user_id: int | None, anonymous_token: UUID | str | None
) -> int: ...
async def delete_responses(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
) -> int:
    """Erase an owner's responses and their scores: the right to erasure of Art. 17 GDPR.

    *user_id* does not find the user's unclaimed responses: give their token too. Deleting the row
    in the host's ``users`` also erases the user's responses and scores.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool; its role needs SELECT and
            DELETE on ``assessment_responses``.
        user_id: The signed-in owner.
        anonymous_token: The anonymous owner. At least one owner is given; with both, the
            responses of either are erased.

    Returns:
        The number of responses erased.

    Raises:
        InvalidInput: No owner is given, or one breaks a rule above.
    """
    owner = check_owner(user_id, anonymous_token)
    erased: int = await queries.delete_responses(conn, **owner)
    return erased
