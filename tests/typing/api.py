"""The public interface as a type checker sees it. Read by mypy, never run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from typing_extensions import assert_type

import assessments
from assessments import (
    AssessmentResponse,
    AssessmentScore,
    NewResponse,
    NewScore,
    ResponseWithScores,
    ScoredResponse,
    backoffice,
)


async def takes_every_kind_of_connection(
    connection: asyncpg.Connection[Any], pool: asyncpg.Pool[Any]
) -> None:
    await assessments.get_responses(connection, user_id=1)
    await assessments.get_responses(pool, user_id=1)
    async with pool.acquire() as pooled:
        await assessments.get_responses(pooled, user_id=1)


async def returns_typed_rows(conn: asyncpg.Connection[Any], token: UUID) -> None:
    response = await assessments.submit_response(
        conn,
        anonymous_token=token,
        question_id="q",
        module_slug="m",
        answer_text="a",
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


async def mistakes_are_errors(conn: asyncpg.Connection[Any]) -> None:
    await assessments.get_responses(conn, 1)  # type: ignore[call-arg]
    await assessments.get_responses(conn, user_id="1")  # type: ignore[arg-type]
    await assessments.get_responses(conn, user_id=1, limit="1")  # type: ignore[arg-type]
    await assessments.get_responses(None, user_id=1)  # type: ignore[arg-type]
    await assessments.submit_response(conn, user_id=1)  # type: ignore[call-arg]
    await backoffice.record_score(conn, response_id=1)  # type: ignore[call-arg]
    await backoffice.record_score_once(conn, response_id=1, score_data={})  # type: ignore[call-arg]
    no_answer: NewResponse = {"question_id": "q", "module_slug": "m"}  # type: ignore[typeddict-item]
    await assessments.submit_responses(conn, [no_answer])
    assessments.create_pool("postgresql://", pooler="session")  # type: ignore[arg-type]
