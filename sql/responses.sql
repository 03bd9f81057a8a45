-- An owner's responses, in the order of a response's life: read, claimed, erased.
--
-- This text is what runs; the form is explained in submissions.sql and in sql/README.md.


-- name: get_response(response_id, user_id, anonymous_token)^
-- One response, if it belongs to either owner; otherwise no row. A null owner matches nothing.
-- One probe of assessment_responses_pkey.
SELECT
    response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
    content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
FROM assessment_responses
WHERE
    response_id = :response_id::bigint
    AND (user_id = :user_id::bigint OR anonymous_token = :anonymous_token::uuid);


-- name: get_responses(user_id, anonymous_token, module_slug, question_id, before_created_at, before_response_id, max_rows)
-- The responses of either owner, newest first. A null owner matches nothing; a null module,
-- question, cursor or max_rows does not restrict. The cursor is the last row of the page before.
-- Two ordered scans, of idx_assessment_responses_user_id and idx_assessment_responses_anon,
-- merged without a sort; each reads no more than max_rows rows that match.
(
    SELECT
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
        AND (:question_id::text IS NULL OR question_id = :question_id::text)
        AND (created_at, response_id) < (
            coalesce(:before_created_at::timestamptz, 'infinity'::timestamptz),
            coalesce(:before_response_id::bigint, 9223372036854775807)
        )
    ORDER BY created_at DESC, response_id DESC
    LIMIT :max_rows::bigint
)
UNION ALL
(
    SELECT
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
    FROM assessment_responses
    WHERE
        anonymous_token = :anonymous_token::uuid
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
        AND (:question_id::text IS NULL OR question_id = :question_id::text)
        AND (created_at, response_id) < (
            coalesce(:before_created_at::timestamptz, 'infinity'::timestamptz),
            coalesce(:before_response_id::bigint, 9223372036854775807)
        )
    ORDER BY created_at DESC, response_id DESC
    LIMIT :max_rows::bigint
)
ORDER BY created_at DESC, response_id DESC
LIMIT :max_rows::bigint;


-- name: get_responses_with_latest_score(user_id, anonymous_token, module_slug, question_id, before_created_at, before_response_id, max_rows, human_first)
-- The same rows in the same order as get_responses, each with its newest score, or nulls in the
-- score's columns. With human_first a score without a model, a person's, goes before every model's.
-- The same scans of idx_assessment_responses_user_id and idx_assessment_responses_anon, and one
-- probe of idx_assessment_scores_response_id for each row returned.
WITH page AS (
    (
        SELECT
            response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
            content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
        FROM assessment_responses
        WHERE
            user_id = :user_id::bigint
            AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
            AND (:question_id::text IS NULL OR question_id = :question_id::text)
            AND (created_at, response_id) < (
                coalesce(:before_created_at::timestamptz, 'infinity'::timestamptz),
                coalesce(:before_response_id::bigint, 9223372036854775807)
            )
        ORDER BY created_at DESC, response_id DESC
        LIMIT :max_rows::bigint
    )
    UNION ALL
    (
        SELECT
            response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
            content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
        FROM assessment_responses
        WHERE
            anonymous_token = :anonymous_token::uuid
            AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
            AND (:question_id::text IS NULL OR question_id = :question_id::text)
            AND (created_at, response_id) < (
                coalesce(:before_created_at::timestamptz, 'infinity'::timestamptz),
                coalesce(:before_response_id::bigint, 9223372036854775807)
            )
        ORDER BY created_at DESC, response_id DESC
        LIMIT :max_rows::bigint
    )
    ORDER BY created_at DESC, response_id DESC
    LIMIT :max_rows::bigint
)

SELECT
    p.response_id, p.anonymous_token, p.user_id, p.question_id, p.module_slug,
    p.learning_outcome_id, p.content_id, p.answer_text, p.answer_metadata, p.created_at,
    s.score_id, s.score_data, s.model_id, s.prompt_version, s.created_at AS scored_at
FROM page AS p
LEFT JOIN LATERAL (
    SELECT
        n.score_id, n.score_data::varchar AS score_data, n.model_id, n.prompt_version, n.created_at
    FROM assessment_scores AS n
    WHERE n.response_id = p.response_id
    ORDER BY (:human_first::boolean AND n.model_id IS NULL) DESC, n.created_at DESC, n.score_id DESC
    LIMIT 1
) AS s ON TRUE
ORDER BY p.created_at DESC, p.response_id DESC;


-- name: get_responses_for_question(user_id, anonymous_token, question_id)
-- Every response of either owner to one question, newest first. A null owner matches nothing.
-- idx_assessment_responses_question finds the user's, idx_assessment_responses_anon the anonymous
-- owner's; only the rows returned are sorted.
SELECT
    response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
    content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
FROM assessment_responses
WHERE
    user_id = :user_id::bigint
    AND question_id = :question_id::text
UNION ALL
SELECT
    response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
    content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
FROM assessment_responses
WHERE
    anonymous_token = :anonymous_token::uuid
    AND question_id = :question_id::text
ORDER BY created_at DESC, response_id DESC;


-- name: get_latest_responses(user_id, anonymous_token, module_slug, question_ids)
-- The newest response of either owner to each question, newest first: to these questions, or to
-- all that the owner has answered if question_ids is null; within the module, if one is given. A
-- null owner matches nothing.
-- Reads the keys of the owner's responses: through idx_assessment_responses_question where
-- questions are given, else through idx_assessment_responses_user_id; the anonymous owner's through
-- idx_assessment_responses_anon. Sorts those keys, then fetches what it returns through
-- assessment_responses_pkey.
WITH candidates AS (
    SELECT response_id, question_id, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND question_id = any(:question_ids::text[])
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
    UNION ALL
    SELECT response_id, question_id, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND :question_ids::text[] IS NULL
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
    UNION ALL
    SELECT response_id, question_id, created_at
    FROM assessment_responses
    WHERE
        anonymous_token = :anonymous_token::uuid
        AND (:question_ids::text[] IS NULL OR question_id = any(:question_ids::text[]))
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
),

latest AS (
    SELECT DISTINCT ON (question_id) response_id
    FROM candidates
    ORDER BY question_id ASC, created_at DESC, response_id DESC
)

SELECT
    r.response_id, r.anonymous_token, r.user_id, r.question_id, r.module_slug,
    r.learning_outcome_id, r.content_id, r.answer_text,
    r.answer_metadata::varchar AS answer_metadata, r.created_at
FROM latest AS l
INNER JOIN assessment_responses AS r ON l.response_id = r.response_id
ORDER BY r.created_at DESC, r.response_id DESC;


-- name: get_latest_responses_with_latest_score(user_id, anonymous_token, module_slug, question_ids, human_first)
-- The same rows in the same order as get_latest_responses, each with the score that
-- get_responses_with_latest_score would show.
-- Reads as get_latest_responses does, through idx_assessment_responses_question,
-- idx_assessment_responses_user_id, idx_assessment_responses_anon and assessment_responses_pkey,
-- and idx_assessment_scores_response_id once for each row returned.
WITH candidates AS (
    SELECT response_id, question_id, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND question_id = any(:question_ids::text[])
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
    UNION ALL
    SELECT response_id, question_id, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND :question_ids::text[] IS NULL
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
    UNION ALL
    SELECT response_id, question_id, created_at
    FROM assessment_responses
    WHERE
        anonymous_token = :anonymous_token::uuid
        AND (:question_ids::text[] IS NULL OR question_id = any(:question_ids::text[]))
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
),

latest AS (
    SELECT DISTINCT ON (question_id) response_id
    FROM candidates
    ORDER BY question_id ASC, created_at DESC, response_id DESC
)

SELECT
    r.response_id, r.anonymous_token, r.user_id, r.question_id, r.module_slug,
    r.learning_outcome_id, r.content_id, r.answer_text,
    r.answer_metadata::varchar AS answer_metadata, r.created_at,
    s.score_id, s.score_data, s.model_id, s.prompt_version, s.created_at AS scored_at
FROM latest AS l
INNER JOIN assessment_responses AS r ON l.response_id = r.response_id
LEFT JOIN LATERAL (
    SELECT
        n.score_id, n.score_data::varchar AS score_data, n.model_id, n.prompt_version, n.created_at
    FROM assessment_scores AS n
    WHERE n.response_id = r.response_id
    ORDER BY (:human_first::boolean AND n.model_id IS NULL) DESC, n.created_at DESC, n.score_id DESC
    LIMIT 1
) AS s ON TRUE
ORDER BY r.created_at DESC, r.response_id DESC;


-- name: lock_claim(anonymous_token, user_id)^
-- Before a claim, in its transaction and as a statement of its own: inside the UPDATE the snapshot
-- would be older than the lock, and the claim would not see what earlier claims committed. One
-- claim at a time for a token and for a user; both locks last until the transaction ends, the
-- token's is always taken first, and no row is locked.
-- Returns whether the user exists and whether the isolation level is safe: at REPEATABLE READ and
-- SERIALIZABLE the claim would not see what was committed while it waited, so the caller refuses.
-- One probe of the key of users.
SELECT
    pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended(
            'assessments: claim of token ' || :anonymous_token::uuid::text, 0::bigint
        )
    ) AS token_lock,
    pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended(
            'assessments: claim for user ' || :user_id::bigint::text, 0::bigint
        )
    ) AS user_lock,
    exists(
        SELECT 1
        FROM users AS u
        WHERE u.user_id = :user_id::bigint
    ) AS user_exists,
    pg_catalog.current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')
        AS is_safe_isolation;


-- name: claim_assessment_responses(anonymous_token, user_id, skip_answered)!
-- Moves the token's responses to the user, and with skip_answered leaves those to a question
-- that the user has already answered. All responses to a question move or stay together.
-- Finds the token's rows through idx_assessment_responses_anon, probes each once in
-- idx_assessment_responses_question and updates them by assessment_responses_pkey, as erasures, the
-- purge and scoring do: where the table holds the rows in the order of their keys, these do not
-- deadlock. Only after lock_claim, in the same transaction.
WITH answered AS (
    SELECT question_id
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND :skip_answered::boolean
)

UPDATE assessment_responses
SET
    user_id = :user_id::bigint,
    anonymous_token = NULL
WHERE
    response_id = any((
        SELECT pg_catalog.array_agg(unclaimed.response_id)
        FROM assessment_responses AS unclaimed
        WHERE
            unclaimed.anonymous_token = :anonymous_token::uuid
            AND NOT EXISTS (
                SELECT 1
                FROM answered
                WHERE answered.question_id = unclaimed.question_id
            )
    )::bigint[])
    -- Checked again, for a row changed in the meantime. IS TRUE keeps the planner on the primary
    -- key, which sets the order of locks.
    AND (anonymous_token = :anonymous_token::uuid) IS TRUE;


-- name: delete_responses(user_id, anonymous_token)!
-- Erases every response of either owner; the foreign key erases their scores, which it finds by the
-- index on their response_id. A null owner matches nothing. idx_assessment_responses_user_id and
-- idx_assessment_responses_anon find the rows. Deletes by assessment_responses_pkey, for the order
-- of locks: see the claim.
DELETE FROM assessment_responses
WHERE
    response_id = any((
        SELECT pg_catalog.array_agg(candidate.response_id)
        FROM assessment_responses AS candidate
        WHERE
            candidate.user_id = :user_id::bigint
            OR candidate.anonymous_token = :anonymous_token::uuid
    )::bigint[])
    AND (user_id = :user_id::bigint OR anonymous_token = :anonymous_token::uuid) IS TRUE;
