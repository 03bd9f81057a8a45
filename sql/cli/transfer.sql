-- Moving responses with their scores from one database to another: assessments export and import.
-- Not for request handlers: no owner is checked here.
--
-- This text is what runs; the form is explained in responses.sql and in sql/README.md.


-- name: export_details(response_ids)
-- What an export adds to a batch of responses: the submission key, or null, and the scores, oldest
-- first. One row for each score, one with nulls for a response without any, none for a response
-- that no longer exists.
-- One probe of the primary key of assessment_responses and one of idx_assessment_scores_response_id
-- for each response.
SELECT
    r.submission_key, r.response_id, s.score_data::text AS score_data, s.model_id,
    s.prompt_version, s.created_at
FROM assessment_responses AS r
LEFT JOIN assessment_scores AS s ON r.response_id = s.response_id
WHERE r.response_id = any(:response_ids::text[]::bigint[])
ORDER BY r.response_id, s.created_at, s.score_id;


-- name: import_responses(submission_keys, response_ids, user_ids, anonymous_tokens, question_ids, module_slugs, learning_outcome_ids, content_ids, answer_texts, answer_metadatas, created_ats, score_numbers, score_datas, score_model_ids, score_prompt_versions, score_created_ats)^
-- Stores those of a batch of exported responses that are not stored yet, each with its scores, with
-- new keys in the order given: arrays of equal length, one element for each response and no
-- submission key twice, then such arrays for the scores; score_numbers says which response a score
-- belongs to, counted from 1. A row that is already stored stays as it is, whoever owns it now: a
-- row with the submission key, or a row without one that is the very row exported.
-- Returns how many responses and scores it stored and how many responses were already stored. All
-- or nothing: where a user_id is not in users, or a key is used by a different answer, it stores
-- nothing and returns the number of the first such response. A row that appears during this
-- statement counts as neither.
-- For each response one probe of idx_assessment_responses_submission_key, of the primary key of
-- assessment_responses and of the key of users. As many rows written as counted.
WITH given AS (
    SELECT
        g.number, g.submission_key, g.response_id, g.user_id, g.anonymous_token, g.question_id,
        g.module_slug, g.learning_outcome_id, g.content_id, g.answer_text, g.answer_metadata,
        g.created_at
    FROM unnest(
        :submission_keys::text[]::uuid[], :response_ids::text[]::bigint[],
        :user_ids::text[]::bigint[], :anonymous_tokens::text[]::uuid[], :question_ids::text[],
        :module_slugs::text[], :learning_outcome_ids::text[], :content_ids::text[]::uuid[],
        :answer_texts::text[], :answer_metadatas::text[], :created_ats::text[]::timestamptz[]
    ) WITH ORDINALITY AS g (
        submission_key, response_id, user_id, anonymous_token, question_id, module_slug,
        learning_outcome_id, content_id, answer_text, answer_metadata, created_at, number
    )
),

given_scores AS (
    SELECT
        g.number, g.response_number, g.score_data, g.model_id, g.prompt_version, g.created_at
    FROM unnest(
        :score_numbers::text[]::bigint[], :score_datas::text[], :score_model_ids::text[],
        :score_prompt_versions::text[], :score_created_ats::text[]::timestamptz[]
    ) WITH ORDINALITY AS g (
        response_number, score_data, model_id, prompt_version, created_at, number
    )
),

existing AS MATERIALIZED (
    SELECT
        g.number,
        (r.question_id, r.module_slug, r.answer_text)
        <> (g.question_id, g.module_slug, g.answer_text) AS is_different
    FROM given AS g
    INNER JOIN assessment_responses AS r ON g.submission_key = r.submission_key
    UNION ALL
    SELECT g.number, FALSE AS is_different
    FROM given AS g
    INNER JOIN assessment_responses AS r ON g.response_id = r.response_id
    WHERE
        r.submission_key IS NULL
        AND (r.created_at, r.question_id, r.module_slug, r.answer_text)
        = (g.created_at, g.question_id, g.module_slug, g.answer_text)
),

refused AS MATERIALIZED (
    SELECT
        (
            SELECT min(number)
            FROM existing
            WHERE is_different
        ) AS conflict_number,
        (
            SELECT min(g.number)
            FROM given AS g
            WHERE
                g.user_id IS NOT NULL
                AND NOT EXISTS (
                    SELECT 1
                    FROM users AS u
                    WHERE u.user_id = g.user_id
                )
        ) AS unknown_user_number
),

stored AS (
    INSERT INTO assessment_responses (
        submission_key, user_id, anonymous_token, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata, created_at
    )
    SELECT
        submission_key, user_id, anonymous_token, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::jsonb, created_at
    FROM given
    WHERE
        NOT EXISTS (
            SELECT 1
            FROM existing
            WHERE existing.number = given.number
        )
        AND EXISTS (
            SELECT 1
            FROM refused
            WHERE num_nonnulls(conflict_number, unknown_user_number) = 0
        )
    ORDER BY number
    ON CONFLICT (submission_key) WHERE submission_key IS NOT NULL DO NOTHING
    RETURNING response_id, submission_key
),

stored_scores AS (
    INSERT INTO assessment_scores (
        response_id, score_data, model_id, prompt_version, created_at
    )
    SELECT r.response_id, s.score_data::jsonb, s.model_id, s.prompt_version, s.created_at
    FROM given_scores AS s
    INNER JOIN given AS g ON s.response_number = g.number
    INNER JOIN stored AS r ON g.submission_key = r.submission_key
    ORDER BY s.number
    RETURNING score_id
)

SELECT
    conflict_number,
    unknown_user_number,
    (
        SELECT count(response_id)
        FROM stored
    ) AS responses,
    (
        SELECT count(score_id)
        FROM stored_scores
    ) AS scores,
    (
        SELECT count(DISTINCT number)
        FROM existing
    ) AS already_stored
FROM refused;
