-- The service's own work on all responses: what to score, iteration for analysis and export, the
-- purge of unclaimed responses. Not for request handlers: no owner is checked here.
--
-- This text is what runs; the form is explained in submissions.sql and in sql/README.md.


-- name: get_unscored_responses(model_id, prompt_version, after_response_id, up_to_response_id, max_rows)
-- Responses without a score, oldest key first; with a model, a prompt version or both, responses
-- without a score by these; within a range of keys. The cursor is the key of the last row seen.
-- Scans the primary key from the cursor on and probes idx_assessment_scores_response_id for each
-- row until max_rows are found: scored rows cost nothing behind the cursor and one probe each
-- ahead of it.
WITH unscored AS (
    SELECT candidate.response_id
    FROM assessment_responses AS candidate
    WHERE
        candidate.response_id > coalesce(:after_response_id::bigint, 0)
        AND candidate.response_id <= coalesce(:up_to_response_id::bigint, 9223372036854775807)
        -- A count and not NOT EXISTS, which may be planned as a merge join with all scores.
        AND (
            SELECT pg_catalog.count(*)
            FROM assessment_scores AS s
            WHERE
                s.response_id = candidate.response_id
                AND (:model_id::text IS NULL OR s.model_id = :model_id::text)
                AND (:prompt_version::text IS NULL OR s.prompt_version = :prompt_version::text)
        ) = 0
    ORDER BY candidate.response_id
    LIMIT :max_rows::bigint
)

SELECT
    r.response_id, r.anonymous_token, r.user_id, r.question_id, r.module_slug,
    r.learning_outcome_id, r.content_id, r.answer_text,
    r.answer_metadata::varchar AS answer_metadata, r.created_at
FROM unscored AS u
INNER JOIN assessment_responses AS r ON u.response_id = r.response_id
ORDER BY r.response_id;


-- name: iter_responses(module_slug, question_id, since, until, after_response_id, max_rows)
-- One batch of an iteration over all responses, oldest key first; created_at from since
-- (inclusive) to until (exclusive). Scans the primary key from the cursor on until max_rows match,
-- so a whole iteration reads the table once.
SELECT
    response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
    content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
FROM assessment_responses
WHERE
    response_id > coalesce(:after_response_id::bigint, 0)
    AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
    AND (:question_id::text IS NULL OR question_id = :question_id::text)
    AND created_at >= coalesce(:since::timestamptz, '-infinity'::timestamptz)
    AND created_at < coalesce(:until::timestamptz, 'infinity'::timestamptz)
ORDER BY response_id
LIMIT :max_rows::bigint;


-- name: iter_owner_responses(user_id, anonymous_token, module_slug, question_id, since, until, after_response_id, max_rows)
-- One batch of the same iteration over the responses of either owner. A null owner matches nothing.
-- Each batch reads the owner's rows through idx_assessment_responses_user_id and
-- idx_assessment_responses_anon, and sorts those beyond the cursor.
(
    SELECT
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND response_id > coalesce(:after_response_id::bigint, 0)
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
        AND (:question_id::text IS NULL OR question_id = :question_id::text)
        AND created_at >= coalesce(:since::timestamptz, '-infinity'::timestamptz)
        AND created_at < coalesce(:until::timestamptz, 'infinity'::timestamptz)
    -- The sum keeps the planner from scanning the whole primary key in search of one owner.
    ORDER BY response_id + 0
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
        AND response_id > coalesce(:after_response_id::bigint, 0)
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
        AND (:question_id::text IS NULL OR question_id = :question_id::text)
        AND created_at >= coalesce(:since::timestamptz, '-infinity'::timestamptz)
        AND created_at < coalesce(:until::timestamptz, 'infinity'::timestamptz)
    ORDER BY response_id + 0
    LIMIT :max_rows::bigint
)
ORDER BY response_id
LIMIT :max_rows::bigint;


-- name: count_anonymous_responses(older_than, max_rows)$
-- How many responses purge_anonymous_responses would erase. Reads idx_assessment_responses_anon.
SELECT pg_catalog.count(*)
FROM (
    SELECT 1
    FROM assessment_responses
    WHERE
        anonymous_token IS NOT NULL
        AND created_at < pg_catalog.now() - :older_than::interval
    ORDER BY anonymous_token ASC, created_at DESC, response_id DESC
    LIMIT :max_rows::bigint
) AS expired;


-- name: purge_anonymous_responses(older_than, max_rows)!
-- Erases at most max_rows unclaimed responses older than the interval; the foreign key erases
-- their scores. Proceeds owner by owner, in the order of idx_assessment_responses_anon, which it
-- reads from its beginning and does not sort: past what is too young, index-only, until max_rows
-- are found. Waits for a claim in progress, and leaves what that has taken.
DELETE FROM assessment_responses
WHERE
    anonymous_token IS NOT NULL
    AND response_id = any((
        SELECT pg_catalog.array_agg(expired.response_id)
        FROM (
            SELECT response_id
            FROM assessment_responses
            WHERE
                anonymous_token IS NOT NULL
                AND created_at < pg_catalog.now() - :older_than::interval
            ORDER BY anonymous_token ASC, created_at DESC, response_id DESC
            LIMIT :max_rows::bigint
        ) AS expired
    )::bigint[]);
