-- Scores: what an AI or a person made of a response. Appended and read, never changed.
--
-- This text is what runs; the form is explained in submissions.sql and in sql/README.md.


-- name: record_score(response_id, score_data, model_id, prompt_version)^
-- Appends one score to a response and returns it. Returns no row when the response does not exist.
-- KEY SHARE is the lock that the foreign key takes in any case: taken first, it waits for a
-- deletion in progress instead of failing after it. It blocks neither reads nor claims.
-- One row written; one probe of assessment_responses_pkey.
INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version)
SELECT r.response_id, :score_data::varchar::jsonb, :model_id::text, :prompt_version::text
FROM assessment_responses AS r
WHERE r.response_id = :response_id::bigint
FOR KEY SHARE OF r
RETURNING
    score_id, response_id, score_data::varchar AS score_data, model_id, prompt_version, created_at;


-- name: record_scores(response_ids, score_datas, model_ids, prompt_versions)
-- Appends many scores and returns them in the order given: arrays of equal length, one element for
-- each score. All or nothing: where one response does not exist, nothing is stored and no row comes
-- back; where a trigger of the host's drops some of the rows, it fails. The responses are locked as
-- in record_score, in the order of their keys: one probe of assessment_responses_pkey for each.
WITH given AS (
    SELECT g.number, g.response_id, g.score_data, g.model_id, g.prompt_version
    FROM unnest(
        :response_ids::text[]::bigint[], :score_datas::text[], :model_ids::text[],
        :prompt_versions::text[]
    ) WITH ORDINALITY AS g (response_id, score_data, model_id, prompt_version, number)
),

scored AS MATERIALIZED (
    SELECT r.response_id
    FROM assessment_responses AS r
    WHERE r.response_id = any(:response_ids::text[]::bigint[])
    ORDER BY r.response_id
    FOR KEY SHARE OF r
),

stored AS (
    INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version)
    SELECT response_id, score_data::jsonb, model_id, prompt_version
    FROM given
    WHERE
        (
            SELECT pg_catalog.count(DISTINCT g.response_id)
            FROM given AS g
        ) = (
            SELECT pg_catalog.count(r.response_id)
            FROM scored AS r
        )
    ORDER BY number
    RETURNING
        score_id, response_id, score_data::varchar AS score_data, model_id, prompt_version,
        created_at
)

SELECT
    s.score_id, s.response_id, s.score_data, s.model_id, s.prompt_version, s.created_at
FROM stored AS s
WHERE
    CASE
        WHEN
            (
                SELECT pg_catalog.count(g.number)
                FROM given AS g
            ) = (
                SELECT pg_catalog.count(r.score_id)
                FROM stored AS r
            )
            THEN TRUE
        -- Text that is no boolean: SQL's only way to fail, and so to store nothing.
        ELSE ('assessments: not all stored, not after ' || s.score_id::text)::boolean
    END
-- Identity values are assigned in the order of insertion.
ORDER BY s.score_id;


-- name: get_unknown_responses(response_ids)
-- For each of these, in the order given: true where it does not exist, else null. Why a score was
-- not stored. One probe of assessment_responses_pkey for each.
SELECT nullif(r.response_id IS NULL, FALSE) AS unknown_response
FROM pg_catalog.unnest(:response_ids::text[]::bigint[]) WITH ORDINALITY AS g (response_id, number)
LEFT JOIN assessment_responses AS r ON g.response_id = r.response_id
ORDER BY g.number;


-- name: lock_score(response_id, model_id, prompt_version)$
-- Before record_score_once, in its transaction and as a statement of its own, so that the snapshot
-- of the next one is newer than the lock. One recording at a time of a response's score by a model
-- and a prompt version, until the transaction ends; no row is locked.
-- Returns whether the isolation level is safe: see lock_claim.
SELECT pg_catalog.current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')
FROM
    pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended(
            'assessments: score of ' || :response_id::bigint::text || ' by ' || :model_id::text
            || ', ' || :prompt_version::text,
            0::bigint
        )
    );


-- name: record_score_once(response_id, score_data, model_id, prompt_version)^
-- Appends one score, as record_score does, unless the response has one by this model and prompt
-- version. Returns one row: the score stored, or nulls and, of these two, which is true: the
-- response does not exist, or a score stood already.
-- Only after lock_score, in the same transaction. One probe of assessment_responses_pkey, one of
-- idx_assessment_scores_response_id.
WITH scored AS MATERIALIZED (
    SELECT r.response_id
    FROM assessment_responses AS r
    WHERE r.response_id = :response_id::bigint
    FOR KEY SHARE OF r
),

standing AS MATERIALIZED (
    SELECT s.score_id
    FROM assessment_scores AS s
    WHERE
        s.response_id = :response_id::bigint
        AND s.model_id = :model_id::text
        AND s.prompt_version = :prompt_version::text
),

stored AS (
    INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version)
    SELECT response_id, :score_data::varchar::jsonb, :model_id::text, :prompt_version::text
    FROM scored
    WHERE
        NOT EXISTS (
            SELECT 1
            FROM standing
        )
    RETURNING
        score_id, response_id, score_data::varchar AS score_data, model_id, prompt_version,
        created_at
)

SELECT
    s.score_id, s.response_id, s.score_data, s.model_id, s.prompt_version, s.created_at,
    left_out.unknown_response, left_out.already_scored
FROM (
    SELECT
        nullif(
            (
                SELECT pg_catalog.count(scored.response_id)
                FROM scored
            ) = 0, FALSE
        ) AS unknown_response,
        nullif(
            (
                SELECT pg_catalog.count(standing.score_id)
                FROM standing
            ) > 0, FALSE
        ) AS already_scored
) AS left_out
LEFT JOIN stored AS s ON TRUE;


-- name: get_scores(response_id, user_id, anonymous_token)
-- The scores of one response, newest first, if it belongs to either owner; otherwise no row.
-- One probe of assessment_responses_pkey, then idx_assessment_scores_response_id; only the rows
-- returned are sorted.
SELECT
    s.score_id, s.response_id, s.score_data::varchar AS score_data, s.model_id, s.prompt_version,
    s.created_at
FROM assessment_scores AS s
INNER JOIN assessment_responses AS r ON s.response_id = r.response_id
WHERE
    s.response_id = :response_id::bigint
    AND (r.user_id = :user_id::bigint OR r.anonymous_token = :anonymous_token::uuid)
ORDER BY s.created_at DESC, s.score_id DESC;


-- name: get_scores_of_any_owner(response_id)
-- The same for the service: whoever owns the response. Reads idx_assessment_scores_response_id;
-- only the rows returned are sorted.
SELECT
    score_id, response_id, score_data::varchar AS score_data, model_id, prompt_version, created_at
FROM assessment_scores
WHERE response_id = :response_id::bigint
ORDER BY created_at DESC, score_id DESC;
