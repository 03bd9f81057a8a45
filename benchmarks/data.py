"""The rows and the calls that the sections measure, so that they measure the same."""

from __future__ import annotations

from typing import Any

USERS = 1_000
OTHERS = 20_000
READER = 1
"""A user with two responses to each of 100 questions, every one scored."""
CLAIMER = 2
"""A user who has answered nothing and whom the claims are for."""
PAGES = (20, 100)
QUESTIONS = [f"question-{number}" for number in range(50)]
ANSWER = "Leaves look green because chlorophyll absorbs mostly red and blue. " * 5
METADATA: dict[str, Any] = {"locale": "en", "seconds": 184, "client": {"version": "7.1.0"}}
SCORE: dict[str, Any] = {
    "points": 4,
    "of": 5,
    "feedback": "Say why.",
    "rubric": {"clear": 2, "whole": 2},
}
RESPONSE: dict[str, Any] = {
    "question_id": "photosynthesis-why-green",
    "module_slug": "plant-biology",
    "answer_text": ANSWER,
}
COLUMNS = (
    "response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,"
    " content_id, answer_text, answer_metadata, created_at"
)

LOAD = f"""
INSERT INTO users SELECT FROM generate_series(1, {USERS});
INSERT INTO assessment_responses (user_id, question_id, module_slug, answer_text)
SELECT 3 + n % {USERS - 2}, 'question-' || n % 500, 'module-' || n % 50, '{ANSWER}'
FROM generate_series(1, {OTHERS}) AS n;
INSERT INTO assessment_responses (anonymous_token, question_id, module_slug, answer_text)
SELECT md5('token-' || n % 2000)::uuid, 'question-' || n % 500, 'module-' || n % 50, '{ANSWER}'
FROM generate_series(1, {OTHERS}) AS n;
INSERT INTO assessment_responses
    (user_id, question_id, module_slug, answer_text, answer_metadata, created_at)
SELECT
    {READER}, 'question-' || n % 100, 'biology', '{ANSWER}',
    CASE WHEN n % 2 = 0 THEN '{{"locale": "en", "seconds": 184}}' ELSE '{{}}' END::jsonb,
    now() + n * interval '1 minute'
FROM generate_series(0, 199) AS n;
INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version)
SELECT response_id, '{{"points": 4, "of": 5, "feedback": "Say why."}}', 'model-1', 'p1'
FROM assessment_responses
ORDER BY response_id;
"""
STORE_ANONYMOUS = """
INSERT INTO assessment_responses (anonymous_token, question_id, module_slug, answer_text)
SELECT $1::uuid, 'question-' || n, 'biology', 'Because.' FROM generate_series(1, $2::int) AS n
"""
"""Under one token, as many responses as a claim moves."""
UNCLAIM = "DELETE FROM assessment_responses WHERE user_id = $1::bigint"
