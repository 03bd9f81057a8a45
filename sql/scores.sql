-- Scores: what an AI or a person made of a response. Appended and read, never changed.
--
-- This text is what runs; the form is explained in responses.sql and in sql/README.md.


-- name: record_score(response_id, score_data, model_id, prompt_version)^
-- Appends one score to a response and returns it. Returns no row when the response is not there.
-- KEY SHARE is the lock that the foreign key takes in any case: taken first, it waits for a
-- deletion under way instead of failing after it. It holds up neither reads nor claims.
-- One row written; one probe of the primary key of assessment_responses.
INSERT INTO assessment_scores (
    response_id,
    score_data,
    model_id,
    prompt_version
)
SELECT
    r.response_id,
    :score_data::text::jsonb,
    :model_id::text,
    :prompt_version::text
FROM assessment_responses AS r
WHERE r.response_id = :response_id::bigint
FOR KEY SHARE OF r
RETURNING
    score_id,
    response_id,
    score_data::text AS score_data,
    model_id,
    prompt_version,
    created_at;


-- name: get_scores(response_id, user_id, anonymous_token)
-- The scores of one response, newest first, if it belongs to either owner; otherwise no row.
-- One probe of the primary key of assessment_responses, then idx_assessment_scores_response_id;
-- what is sorted is what is returned.
SELECT
    s.score_id,
    s.response_id,
    s.score_data::text AS score_data,
    s.model_id,
    s.prompt_version,
    s.created_at
FROM assessment_scores AS s
INNER JOIN assessment_responses AS r ON s.response_id = r.response_id
WHERE
    s.response_id = :response_id::bigint
    AND (r.user_id = :user_id::bigint OR r.anonymous_token = :anonymous_token::uuid)
ORDER BY s.created_at DESC, s.score_id DESC;
