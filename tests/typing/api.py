"""The public interface as type checkers see it. Read by mypy and pyright, never run.

An ``ignore`` stands where both refuse: each reports one that it does not need.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from uuid import UUID

import asyncpg
from typing_extensions import assert_type

import assessments
from assessments import (
    AssessmentResponse,
    AssessmentScore,
    Finding,
    NewResponse,
    NewScore,
    ResponseWithoutToken,
    ResponseWithScores,
    ScoredResponse,
    ScoredResponseWithoutToken,
    backoffice,
)
from assessments.sqlalchemy import asyncpg_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session


async def takes_every_kind_of_connection(
    connection: asyncpg.Connection[Any], pool: asyncpg.Pool[Any]
) -> None:
    await assessments.get_responses(connection, user_id=1)
    await assessments.get_responses(pool, user_id=1)
    async with pool.acquire() as pooled:
        await assessments.get_responses(pooled, user_id=1)


async def returns_findings(pool: asyncpg.Pool[Any]) -> None:
    (finding, *_) = await assessments.check(pool)
    assert_type(finding, Finding)
    assert_type(finding.level, Literal["ok", "note", "warning", "error"])


async def takes_the_connection_of_sqlalchemy(
    connection: AsyncConnection, session: AsyncSession, scoped: async_scoped_session[AsyncSession]
) -> None:
    for host in (connection, session, scoped):
        assert_type(await asyncpg_connection(host), asyncpg.Connection[Any])


async def returns_typed_rows(conn: asyncpg.Connection[Any], token: UUID) -> None:
    response = await assessments.submit_response(
        conn,
        anonymous_token=token,
        question_id="q",
        module_slug="m",
        answer_text="a",
        learning_outcome_id="lo",
        content_id=str(token),
        answer_metadata={"seconds": 1},
        submission_key=token,
    )
    assert_type(response, AssessmentResponse)
    assert_type(response["response_id"], int)
    assert_type(response["anonymous_token"], UUID | None)
    assert_type(response["user_id"], int | None)
    assert_type(response["question_id"], str)
    assert_type(response["learning_outcome_id"], str | None)
    assert_type(response["answer_metadata"], dict[str, Any])
    assert_type(response["created_at"], datetime)

    page = await assessments.get_responses(
        conn,
        user_id=1,
        anonymous_token=str(token),
        limit=10,
        before=(response["created_at"], response["response_id"]),
    )
    assert_type(page, list[AssessmentResponse])
    assert_type(
        await assessments.get_responses_for_question(conn, user_id=1, question_id="q"),
        list[AssessmentResponse],
    )
    assert_type(
        await assessments.claim_assessment_responses(conn, anonymous_token=token, user_id=1), int
    )
    assert_type(await assessments.get_scores(conn, response_id=1, user_id=1), list[AssessmentScore])
    score = await backoffice.record_score(conn, response_id=1, score_data={})
    assert_type(score, AssessmentScore)
    assert_type(score["score_data"], dict[str, Any])
    assert_type(score["model_id"], str | None)
    once = await backoffice.record_score_once(
        conn, response_id=1, score_data={}, model_id="m", prompt_version="p"
    )
    assert_type(once, AssessmentScore | None)
    found = await assessments.get_response(conn, response_id=1, user_id=1)
    assert_type(found, AssessmentResponse | None)
    assert_type(await backoffice.get_responses_by_id(conn, [1, 2]), list[AssessmentResponse])
    assert_type(await backoffice.get_scores(conn, response_id=1), list[AssessmentScore])


async def returns_typed_rows_of_everything_else(conn: asyncpg.Connection[Any]) -> None:
    new: list[NewResponse] = [
        {"user_id": 1, "question_id": "q", "module_slug": "m", "answer_text": "a"},
        {
            "user_id": 1,
            "question_id": "q",
            "module_slug": "m",
            "answer_text": "a",
            "submission_key": "0e6cdd5c-20a7-4cc7-a7bd-a6a05ea3cbc1",
        },
    ]
    assert_type(await assessments.submit_responses(conn, new), list[AssessmentResponse])
    assert_type(
        await assessments.get_latest_responses(conn, user_id=1, question_ids=["q"]),
        list[AssessmentResponse],
    )
    scored = await assessments.get_responses_with_latest_score(conn, user_id=1)
    assert_type(scored, list[ScoredResponse])
    assert_type(scored[0]["latest_score"], AssessmentScore | None)
    assert_type(scored[0]["answer_text"], str)
    test = await assessments.get_latest_responses_with_latest_score(
        conn, user_id=1, human_first=True
    )
    assert_type(test, list[ScoredResponse])
    assert_type(await assessments.delete_responses(conn, user_id=1), int)
    scores: list[NewScore] = [{"response_id": 1, "score_data": {}, "model_id": "m"}]
    assert_type(await backoffice.record_scores(conn, scores), list[AssessmentScore])
    assert_type(
        await backoffice.get_unscored_responses(conn, model_id="m"), list[AssessmentResponse]
    )
    assert_type(
        await backoffice.purge_anonymous_responses(conn, older_than=timedelta(days=90)), int
    )
    assert_type(await backoffice.purge_responses(conn, older_than=timedelta(days=900)), int)
    async for response in backoffice.iter_responses(conn, since=datetime.now().astimezone()):
        assert_type(response, AssessmentResponse)
    async for scored_response in backoffice.iter_responses_with_scores(conn, user_id=1):
        assert_type(scored_response, ResponseWithScores)
        assert_type(scored_response["scores"], list[AssessmentScore])


async def a_pool_is_asyncpg_s() -> None:
    assert_type(await assessments.create_pool("postgresql://"), asyncpg.Pool[Any])
    async with assessments.create_pool("postgresql://", pooler="transaction", min_size=2) as pool:
        assert_type(pool, asyncpg.Pool[Any])


class Answer(TypedDict):
    """What a submission has besides its owner."""

    question_id: str
    module_slug: str
    answer_text: str


class Owners(TypedDict):
    """Both owners, as a handler's dependency returns them."""

    user_id: int | None
    anonymous_token: UUID | None


async def reads_take_an_owner_or_two(
    conn: asyncpg.Connection[Any], token: UUID, row: ScoredResponse, either: Owners
) -> None:
    user_id, maybe_token = either["user_id"], either["anonymous_token"]
    get = assessments.get_responses
    assert_type(await get(conn, user_id=1), list[AssessmentResponse])
    assert_type(await get(conn, anonymous_token=token), list[AssessmentResponse])
    assert_type(await get(conn, anonymous_token=str(token)), list[AssessmentResponse])
    assert_type(await get(conn, user_id=1, anonymous_token=token), list[AssessmentResponse])
    assert_type(await get(conn, user_id=1, anonymous_token=None), list[AssessmentResponse])
    # Two of which one may be None: that not both are, no type says.
    assert_type(await get(conn, user_id=user_id, anonymous_token=token), list[AssessmentResponse])
    await get(conn, user_id=user_id, anonymous_token=maybe_token, module_slug="m", question_id="q")
    await get(conn, user_id=row["user_id"], anonymous_token=row["anonymous_token"])
    assert_type(await get(conn, **either), list[AssessmentResponse])
    assert_type(await assessments.delete_responses(conn, **either), int)
    assert_type(
        await assessments.get_response(conn, response_id=1, **either), AssessmentResponse | None
    )
    assert_type(await assessments.get_scores(conn, response_id=1, **either), list[AssessmentScore])
    await assessments.get_responses_for_question(conn, question_id="q", **either)
    await assessments.get_latest_responses(conn, module_slug="m", question_ids=["q"], **either)
    await assessments.get_responses_with_latest_score(conn, human_first=True, limit=1, **either)
    await assessments.get_latest_responses_with_latest_score(conn, question_ids=["q"], **either)


async def a_dict_without_types_is_an_owner(
    conn: asyncpg.Connection[Any], owner: dict[str, Any]
) -> None:
    await assessments.get_responses(conn, **owner, limit=1)
    await assessments.submit_response(
        conn, **owner, question_id="q", module_slug="m", answer_text="a"
    )


async def a_submission_has_one_owner(
    conn: asyncpg.Connection[Any], answer: Answer, token: UUID, user_id: int | None
) -> None:
    submit = assessments.submit_response
    if user_id is None:
        stored = await submit(conn, anonymous_token=token, **answer)
    else:
        stored = await submit(conn, user_id=user_id, anonymous_token=None, **answer)
    assert_type(stored, AssessmentResponse)


async def no_owner_is_an_error(
    conn: asyncpg.Connection[Any], user_id: int | None, token: UUID | None
) -> None:
    await assessments.get_responses(conn)  # type: ignore[call-overload]
    await assessments.get_responses(conn, limit=1)  # type: ignore[call-overload]
    await assessments.get_responses(conn, user_id=None)  # type: ignore[call-overload]
    await assessments.get_responses(conn, user_id=user_id)  # type: ignore[arg-type]
    await assessments.get_responses(conn, anonymous_token=token)  # type: ignore[arg-type]
    await assessments.get_responses_for_question(conn, question_id="q")  # type: ignore[call-overload]
    await assessments.get_latest_responses(conn)  # type: ignore[call-overload]
    await assessments.get_response(conn, response_id=1)  # type: ignore[call-overload]
    await assessments.get_responses_with_latest_score(conn)  # type: ignore[call-overload]
    await assessments.get_latest_responses_with_latest_score(conn)  # type: ignore[call-overload]
    await assessments.delete_responses(conn)  # type: ignore[call-overload]
    await assessments.get_scores(conn, response_id=1)  # type: ignore[call-overload]


async def a_submission_without_an_owner_or_with_both_is_an_error(
    conn: asyncpg.Connection[Any], answer: Answer, token: UUID, either: Owners
) -> None:
    submit = assessments.submit_response
    await submit(conn, **answer)  # type: ignore[call-overload]
    await submit(conn, user_id=either["user_id"], **answer)  # type: ignore[arg-type]
    await submit(conn, user_id=1, anonymous_token=token, **answer)  # type: ignore[call-overload]
    await submit(conn, **either, **answer)  # type: ignore[arg-type]


def a_cursor_is_text(rows: list[ScoredResponse], before: str | None) -> None:
    assert_type(assessments.encode_cursor(rows[-1]), str)
    assert_type(assessments.decode_cursor(before), tuple[datetime, int] | None)


async def rows_are_sent_without_the_token(
    conn: asyncpg.Connection[Any],
) -> Sequence[ResponseWithoutToken]:
    return await assessments.get_responses(conn, user_id=1)


def a_row_without_the_token_has_none(row: ScoredResponseWithoutToken) -> None:
    assert_type(row["latest_score"], AssessmentScore | None)
    row["anonymous_token"]  # type: ignore[typeddict-item]


async def mistakes_are_errors(conn: asyncpg.Connection[Any]) -> None:
    await assessments.get_responses(conn, 1)  # type: ignore[call-overload]
    await assessments.get_responses(conn, user_id="1")  # type: ignore[call-overload]
    await assessments.get_responses(conn, user_id=1, limit="1")  # type: ignore[call-overload]
    await assessments.get_responses(None, user_id=1)  # type: ignore[call-overload]
    await assessments.submit_response(conn, user_id=1)  # type: ignore[call-overload]
    await backoffice.record_score(conn, response_id=1)  # type: ignore[call-arg]
    await backoffice.record_score_once(conn, response_id=1, score_data={})  # type: ignore[call-arg]
    no_answer: NewResponse = {"question_id": "q", "module_slug": "m"}  # type: ignore[typeddict-item]
    await assessments.submit_responses(conn, [no_answer])
    assessments.create_pool("postgresql://", pooler="session")  # type: ignore[arg-type]


async def batches_concurrent_calls(pool: asyncpg.Pool[Any], token: UUID) -> None:
    async with assessments.BatchingWriter(pool, max_batch=100) as writer:
        assert_type(writer, assessments.BatchingWriter)
        response = await writer.submit_response(
            anonymous_token=token, question_id="q1", module_slug="m1", answer_text="Because."
        )
        assert_type(response, AssessmentResponse)
        score = await writer.record_score(response_id=response["response_id"], score_data={})
        assert_type(score, AssessmentScore)
        await writer.submit_response(  # type: ignore[call-overload]
            question_id="q1",
            module_slug="m1",
            answer_text="Because.",
        )
    assessments.BatchingWriter(pool, batch=1)  # type: ignore[call-arg]
