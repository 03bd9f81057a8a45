"""A person's own responses: submit, read, claim, erase.

Every function takes the connection first and the rest by keyword, and calls one named query of
``sql/responses.sql``. *conn* is an ``asyncpg.Connection``, a pool's connection, or an
``asyncpg.Pool``, from which one connection is taken for the call. Inside a transaction of the
caller's, that transaction is neither committed nor rolled back, and none of its settings change.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from assessments import inputs, ownership, records
from assessments.errors import SubmissionConflict, UnknownUser, UnsafeIsolation
from assessments.queries import queries
from assessments.records import NewResponse
from assessments.transactions import atomic

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from assessments.queries import Connection
    from assessments.records import AssessmentResponse, ScoredResponse

__all__ = [
    "claim_assessment_responses",
    "delete_responses",
    "get_latest_responses",
    "get_responses",
    "get_responses_for_question",
    "get_responses_with_latest_score",
    "submit_response",
    "submit_responses",
]


_SAFE_ISOLATION = ("read committed", "read uncommitted")  # which PostgreSQL treats alike


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
    """Store one attempt at a question. Each call is a row: an answer given twice is two attempts.

    With a *submission_key* the call may be made again when nobody knows what became of it: the same
    key, owner and content give back the row already stored. After a claim that owner is the user.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: The owner, if signed in: a key of the host's ``users``, 1 to 2**63-1.
        anonymous_token: The owner, if anonymous: a random UUID that the visitor's browser
            keeps, or its string. Exactly one owner is given.
        question_id: The question answered: 1 to 512 characters.
        module_slug: The module that it belongs to: 1 to 512 characters.
        learning_outcome_id: The learning outcome that it assesses: 1 to 512 characters.
        content_id: The piece of content that it stood in.
        answer_text: The answer, at most 1 MiB of UTF-8. It may be blank, and is stored
            code point for code point.
        answer_metadata: A dict that becomes a JSON object of at most 64 KiB, nested at most 32
            levels; ``{}`` if left out.
        submission_key: A random UUID, or its string, made by the client for this attempt before it
            is sent for the first time.

    Returns:
        The row as stored, now or when the key was sent before.

    Raises:
        InvalidInput: An argument breaks a rule above, or holds what PostgreSQL cannot store
            and give back equal (NUL, a lone surrogate, NaN, a tuple in JSON and the like).
        UnknownUser: *user_id* is not in the host's ``users``.
        SubmissionConflict: *submission_key* stands for another owner's or another content.
    """
    columns = checked_columns(
        user_id=user_id,
        anonymous_token=anonymous_token,
        question_id=question_id,
        module_slug=module_slug,
        learning_outcome_id=learning_outcome_id,
        content_id=content_id,
        answer_text=answer_text,
        answer_metadata=answer_metadata,
        submission_key=submission_key,
    )
    if submission_key is not None:
        return await _submit_once(conn, columns)
    row = await queries.submit_response(conn, **columns)
    if row is None:
        raise UnknownUser
    return records.response(row)


async def _submit_once(conn: Connection, columns: dict[str, Any]) -> AssessmentResponse:
    """Store a response unless it is stored already; return it either way."""
    row = await queries.submit_response_once(conn, **columns)
    if row is not None:
        return records.response(row)
    (before,) = await _submitted(conn, {name: [value] for name, value in columns.items()})
    return before


async def submit_responses(
    conn: Connection, responses: Sequence[NewResponse]
) -> list[AssessmentResponse]:
    """Store many attempts in one statement and one round trip, all or nothing.

    Elements with a *submission_key* that was sent before are not stored again, as in
    `submit_response`. Where there are such keys, the statement has a transaction or a savepoint
    around it. Calls at the same moment with the same keys in another order may deadlock: PostgreSQL
    then ends one of them, which may be made again until it is through.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        responses: At most 10,000 dicts with the arguments of `submit_response`; the optional ones
            may be left out, and each has its own owner. Together at most
            64 Mi characters of text.

    Returns:
        The rows as stored, now or before, in the order given.

    Raises:
        InvalidInput: An element breaks a rule of `submit_response`; *parameter* names it, as in
            ``responses[3].question_id``, counted from 0. Nothing is stored.
        UnknownUser: A *user_id* is not in the host's ``users``; *parameter* names the first such
            element. Nothing is stored.
        SubmissionConflict: A *submission_key* stands for another owner's or another content;
            *parameter* names the first such element. Nothing is stored.
    """
    columns = inputs.batch("responses", responses, NewResponse, checked_columns)
    if not columns:
        return []
    if any(columns["submission_key"]):
        return await _submit_all_once(conn, columns)
    rows = await queries.submit_responses(conn, **_arrays(columns))
    if not rows:
        number = await queries.first_unknown_user(conn, user_ids=columns["user_id"])
        raise UnknownUser(f"responses[{number - 1}]" if number else None)
    return [records.response(row) for row in rows]


async def _submit_all_once(
    conn: Connection, columns: dict[str, list[Any]]
) -> list[AssessmentResponse]:
    """Store what of *columns* is not stored already; return all of it in the order given."""
    async with atomic(conn) as connection:
        stored = await queries.submit_responses_once(connection, **_arrays(columns))
        new = {row["submission_key"] for row in stored}
        left_out = []
        for index, key in enumerate(columns["submission_key"]):
            if key not in new:
                left_out.append(index)
            elif key is not None:
                new.remove(key)  # given again further down, it is left out there
        rows = [records.response(row, "submission_key") for row in stored]
        if left_out:
            rest = {name: [column[n] for n in left_out] for name, column in columns.items()}
            for index, before in zip(
                left_out, await _submitted(connection, rest, left_out), strict=True
            ):
                rows.insert(index, before)
    return rows


async def _submitted(
    conn: Connection, columns: dict[str, list[Any]], indexes: list[int] | None = None
) -> list[AssessmentResponse]:
    """Return what *columns*, whose keys are taken, were stored as before.

    Raises:
        UnknownUser, SubmissionConflict: One of them was not stored before, and why; *indexes* are
            the places of the elements in the call.
    """
    rows = await queries.get_submitted_responses(conn, **_arrays(columns))
    if len(rows) == len(columns["submission_key"]):
        return [records.response(row, "number") for row in rows]
    if number := await queries.first_unknown_user(conn, user_ids=columns["user_id"]):
        raise UnknownUser(_place(indexes, number))
    there = {row["number"] for row in rows}
    number = next(number for number in count(1) if number not in there)
    raise SubmissionConflict(_place(indexes, number))


def _place(indexes: list[int] | None, number: int) -> str | None:
    return f"responses[{indexes[number - 1]}]" if indexes else None


def _arrays(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return *columns* under the names that a query for many gives to its arrays."""
    return {f"{name}s": column for name, column in columns.items()}


def checked_columns(
    *,
    user_id: object = None,
    anonymous_token: object = None,
    question_id: object,
    module_slug: object,
    learning_outcome_id: object = None,
    content_id: object = None,
    answer_text: object,
    answer_metadata: object = None,
    submission_key: object = None,
) -> dict[str, Any]:
    """Return the columns of a response to store, checked and encoded."""
    user, visitor = ownership.writer(user_id, anonymous_token)
    return {
        "user_id": user,
        "anonymous_token": visitor,
        "question_id": inputs.identifier("question_id", question_id),
        "module_slug": inputs.identifier("module_slug", module_slug),
        "learning_outcome_id": inputs.optional_identifier(
            "learning_outcome_id", learning_outcome_id
        ),
        "content_id": inputs.optional_uuid("content_id", content_id),
        "answer_text": inputs.answer("answer_text", answer_text),
        "answer_metadata": "{}"
        if answer_metadata is None
        else inputs.json_object("answer_metadata", answer_metadata, inputs.MAX_METADATA_BYTES),
        "submission_key": None
        if submission_key is None
        else inputs.random_uuid("submission_key", submission_key),
    }


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
            of either come back in one order: a user's own and what this browser has not yet
            claimed.
        module_slug: Only responses of this module.
        question_id: Only responses to this question.
        limit: At most so many rows, 1 or more; all, if left out.
        before: Only rows after this one in the list: ``(created_at, response_id)`` of the last
            row of the page before. Rows that arrive between two pages neither shift nor repeat
            any.

    Returns:
        The rows by ``created_at``, then ``response_id``, both descending. An owner without
        responses, or unknown, has an empty list.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    page = _page(
        user_id=user_id,
        anonymous_token=anonymous_token,
        module_slug=module_slug,
        question_id=question_id,
        limit=limit,
        before=before,
    )
    return [records.response(row) for row in await queries.get_responses(conn, **page)]


async def get_responses_with_latest_score(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    module_slug: str | None = None,
    question_id: str | None = None,
    limit: int | None = None,
    before: tuple[datetime, int] | None = None,
) -> list[ScoredResponse]:
    """List an owner's responses, newest first, each with its newest score, in one query.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        user_id: The signed-in owner.
        anonymous_token: The anonymous owner. At least one owner is given; with both, the rows
            of either come back in one order.
        module_slug: Only responses of this module.
        question_id: Only responses to this question.
        limit: At most so many rows, 1 or more; all, if left out.
        before: Only rows after this one in the list: ``(created_at, response_id)`` of the last
            row of the page before.

    Returns:
        What `get_responses` returns, each row with *latest_score*: its newest score by
        ``created_at``, then ``score_id``, or ``None``.

    Raises:
        InvalidInput: No owner is given, or an argument breaks a rule above.
    """
    page = _page(
        user_id=user_id,
        anonymous_token=anonymous_token,
        module_slug=module_slug,
        question_id=question_id,
        limit=limit,
        before=before,
    )
    rows = await queries.get_responses_with_latest_score(conn, **page)
    return [records.scored_response(row) for row in rows]


def _page(
    *,
    user_id: object,
    anonymous_token: object,
    module_slug: object,
    question_id: object,
    limit: object,
    before: object,
) -> dict[str, Any]:
    """Return the parameters of a query that lists an owner's responses in pages."""
    user, visitor = ownership.reader(user_id, anonymous_token)
    before_created_at, before_response_id = inputs.cursor("before", before)
    return {
        "user_id": user,
        "anonymous_token": visitor,
        "module_slug": inputs.optional_identifier("module_slug", module_slug),
        "question_id": inputs.optional_identifier("question_id", question_id),
        "before_created_at": before_created_at,
        "before_response_id": before_response_id,
        "max_rows": inputs.optional_positive_bigint("limit", limit),
    }


async def get_responses_for_question(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    question_id: str,
) -> list[AssessmentResponse]:
    """List an owner's attempts at one question, newest first.

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
    user, visitor = ownership.reader(user_id, anonymous_token)
    rows = await queries.get_responses_for_question(
        conn,
        user_id=user,
        anonymous_token=visitor,
        question_id=inputs.identifier("question_id", question_id),
    )
    return [records.response(row) for row in rows]


async def get_latest_responses(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    module_slug: str | None = None,
    question_ids: Collection[str] | None = None,
) -> list[AssessmentResponse]:
    """List an owner's newest response to each question, in one query: what resuming a test needs.

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
    user, visitor = ownership.reader(user_id, anonymous_token)
    rows = await queries.get_latest_responses(
        conn,
        user_id=user,
        anonymous_token=visitor,
        module_slug=inputs.optional_identifier("module_slug", module_slug),
        question_ids=inputs.optional_identifiers("question_ids", question_ids),
    )
    return [records.response(row) for row in rows]


async def claim_assessment_responses(
    conn: Connection,
    *,
    anonymous_token: UUID | str,
    user_id: int,
    skip_answered: bool = True,
) -> int:
    """Move a visitor's responses to the user who has signed in; their scores go along.

    Questions that the user has already answered stay with the token, all attempts at them
    together; ``get_responses(anonymous_token=…)`` still shows them. Of concurrent claims of one
    token one wins. Concurrent claims for one user wait for one another and end as if made one
    after the other. It may be called at every sign-in.

    What stays can be claimed by whoever signs in next in that browser: give it a new token at
    sign-out.

    Inside a transaction of the caller's, the locks behind that promise (two advisory ones, no
    row's) last until it ends: claim late, commit soon.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        anonymous_token: The visitor's token, or its string.
        user_id: The user, a key of the host's ``users``.
        skip_answered: Leave questions that the user has already answered; ``False`` moves all.

    Returns:
        The number of responses claimed; 0 if there was nothing to claim.

    Raises:
        InvalidInput: An argument breaks a rule above.
        UnknownUser: *user_id* is not in the host's ``users``; nothing was claimed.
        UnsafeIsolation: The caller's transaction is REPEATABLE READ or SERIALIZABLE; nothing was
            claimed.
    """
    visitor, user = ownership.visitor(anonymous_token), ownership.user(user_id)
    skip = inputs.boolean("skip_answered", skip_answered)
    async with atomic(conn) as connection:
        locked = await queries.lock_claim(connection, anonymous_token=visitor, user_id=user)
        if locked["transaction_isolation"] not in _SAFE_ISOLATION:
            raise UnsafeIsolation
        if not locked["user_exists"]:
            raise UnknownUser
        claimed: int = await queries.claim_assessment_responses(
            connection, anonymous_token=visitor, user_id=user, skip_answered=skip
        )
    return claimed


async def delete_responses(
    conn: Connection,
    *,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
) -> int:
    """Erase an owner's responses and their scores, for good: the right to erasure of Art. 17 GDPR.

    Responses of the user's that are still under a token are not found by *user_id*: give the
    token too. Deleting the row in the host's ``users`` erases what is the user's as well.

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
    user, visitor = ownership.reader(user_id, anonymous_token)
    erased: int = await queries.delete_responses(conn, user_id=user, anonymous_token=visitor)
    return erased
