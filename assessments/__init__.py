"""Student answers and their AI scores in PostgreSQL, on the caller's own asyncpg connection."""

from assessments import backoffice
from assessments.errors import (
    AssessmentsError,
    InvalidInput,
    NotStored,
    SubmissionConflict,
    UnknownResponse,
    UnknownUser,
    UnsafeIsolation,
    UnsupportedCodec,
)
from assessments.pool import create_pool
from assessments.records import (
    AssessmentResponse,
    AssessmentScore,
    NewResponse,
    NewScore,
    ResponseWithScores,
    ScoredResponse,
)
from assessments.responses import (
    claim_assessment_responses,
    delete_responses,
    get_latest_responses,
    get_response,
    get_responses,
    get_responses_for_question,
    submit_response,
    submit_responses,
)
from assessments.scores import (
    get_latest_responses_with_latest_score,
    get_responses_with_latest_score,
    get_scores,
)

__all__ = [
    "AssessmentResponse",
    "AssessmentScore",
    "AssessmentsError",
    "InvalidInput",
    "NewResponse",
    "NewScore",
    "NotStored",
    "ResponseWithScores",
    "ScoredResponse",
    "SubmissionConflict",
    "UnknownResponse",
    "UnknownUser",
    "UnsafeIsolation",
    "UnsupportedCodec",
    "backoffice",
    "claim_assessment_responses",
    "create_pool",
    "delete_responses",
    "get_latest_responses",
    "get_latest_responses_with_latest_score",
    "get_response",
    "get_responses",
    "get_responses_for_question",
    "get_responses_with_latest_score",
    "get_scores",
    "submit_response",
    "submit_responses",
]
