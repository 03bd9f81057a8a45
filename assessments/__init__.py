"""Student answers and their AI scores in PostgreSQL, on the caller's own asyncpg connection."""

from importlib.metadata import version as _version  # which aiosql imports, too

from assessments import backoffice
from assessments.batching import BatchingWriter
from assessments.checks import Finding, check
from assessments.claims import claim_assessment_responses
from assessments.cursors import decode_cursor, encode_cursor
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
    ResponseWithoutToken,
    ResponseWithScores,
    ScoredResponse,
    ScoredResponseWithoutToken,
)
from assessments.responses import (
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
    "BatchingWriter",
    "Finding",
    "InvalidInput",
    "NewResponse",
    "NewScore",
    "NotStored",
    "ResponseWithScores",
    "ResponseWithoutToken",
    "ScoredResponse",
    "ScoredResponseWithoutToken",
    "SubmissionConflict",
    "UnknownResponse",
    "UnknownUser",
    "UnsafeIsolation",
    "UnsupportedCodec",
    "backoffice",
    "check",
    "claim_assessment_responses",
    "create_pool",
    "decode_cursor",
    "delete_responses",
    "encode_cursor",
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

__version__ = _version("assessments")
