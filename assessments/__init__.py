"""Student answers and their AI scores in PostgreSQL, on the caller's own asyncpg connection."""

from assessments import backoffice
from assessments.errors import (
    AssessmentsError,
    InvalidInput,
    UnknownResponse,
    UnknownUser,
    UnsafeIsolation,
)
from assessments.pool import create_pool
from assessments.records import AssessmentResponse, AssessmentScore
from assessments.responses import (
    claim_assessment_responses,
    get_responses,
    get_responses_for_question,
    submit_response,
)
from assessments.scores import get_scores

__all__ = [
    "AssessmentResponse",
    "AssessmentScore",
    "AssessmentsError",
    "InvalidInput",
    "UnknownResponse",
    "UnknownUser",
    "UnsafeIsolation",
    "backoffice",
    "claim_assessment_responses",
    "create_pool",
    "get_responses",
    "get_responses_for_question",
    "get_scores",
    "submit_response",
]
