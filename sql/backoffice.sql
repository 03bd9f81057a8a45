-- The service's own work on all responses: what to score, iteration for analysis and export, the
-- purges. Not for request handlers: no owner is checked here.
--
-- This text is what runs; the form is explained in submissions.sql and in sql/README.md.


-- name: get_responses_by_id(response_ids)
-- These responses, in the order of their keys, without those that do not exist. One probe of
-- assessment_responses_pkey for each.
SELECT
    response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
    content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
FROM assessment_responses
WHERE response_id = any(:response_ids::text[]::bigint[])
ORDER BY response_id;


-- name: get_unscored_responses(model_id, prompt_version, module_slug, question_id, latest_attempts_only, skip_human_scored, after_response_id, up_to_response_id, max_rows)
-- Responses without a score, oldest key first; with a model, a prompt version or both, responses
-- without a score by these; within the module, the question and a range of keys. With
-- latest_attempts_only, none that its owner has followed by a newer one to the same question; with
-- skip_human_scored, none with a score without a model, a person's. The cursor is the key of the
-- last row seen.
-- Merges two ordered scans from the cursor on, of assessment_responses_pkey, index-only, and of
-- idx_assessment_scores_response_id, until max_rows are found: scored rows cost nothing behind the
-- cursor, and ahead of it their keys and scores are read once. What is unscored is looked at
-- through assessment_responses_pkey, and with latest_attempts_only through
-- idx_assessment_responses_user_question or idx_assessment_responses_anon_question.
WITH unscored AS (
    SELECT k.response_id
    FROM assessment_responses AS k
    LEFT JOIN assessment_scores AS s
        ON
            k.response_id = s.response_id
            -- The same range: no score before the cursor is read.
            AND s.response_id > coalesce(:after_response_id::bigint, 0)
            AND s.response_id <= coalesce(:up_to_response_id::bigint, 9223372036854775807)
            -- The CASE names both tables, so that the join looks at the score: a scan that did would
            -- read on through all scores where none is by the model.
            AND CASE
                WHEN k.response_id = s.response_id
                    THEN (
                        (:model_id::text IS NULL OR s.model_id = :model_id::text)
                        AND (
                            :prompt_version::text IS NULL
                            OR s.prompt_version = :prompt_version::text
                        )
                    )
                    OR (:skip_human_scored::boolean AND s.model_id IS NULL)
            END
    WHERE
        k.response_id > coalesce(:after_response_id::bigint, 0)
        AND k.response_id <= coalesce(:up_to_response_id::bigint, 9223372036854775807)
        AND s.response_id IS NULL
        AND (
            -- The coalesce names both tables, so that responses are looked at after their scores.
            SELECT
                (:module_slug::text IS NULL OR candidate.module_slug = :module_slug::text)
                AND (:question_id::text IS NULL OR candidate.question_id = :question_id::text)
                AND (
                    :latest_attempts_only::boolean IS NOT TRUE
                    OR NOT EXISTS (
                        SELECT 1
                        FROM assessment_responses AS newer
                        WHERE
                            newer.user_id = candidate.user_id
                            AND newer.question_id = candidate.question_id
                            AND (newer.created_at, newer.response_id)
                            > (candidate.created_at, candidate.response_id)
                        UNION ALL
                        SELECT 1
                        FROM assessment_responses AS newer
                        WHERE
                            newer.anonymous_token = candidate.anonymous_token
                            AND newer.question_id = candidate.question_id
                            AND (newer.created_at, newer.response_id)
                            > (candidate.created_at, candidate.response_id)
                    )
                )
            FROM assessment_responses AS candidate
            WHERE candidate.response_id = coalesce(s.response_id, k.response_id)
        )
    ORDER BY k.response_id
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
-- (inclusive) to until (exclusive). Scans assessment_responses_pkey from the cursor on until
-- max_rows match, so a whole iteration reads the table once.
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


-- name: iter_owner_responses(user_id, anonymous_token, module_slug, question_id, since, until, after_created_at, after_response_id, max_rows)
-- One batch of an iteration over the responses of either owner, oldest first: by created_at, then
-- key. A null owner matches nothing.
-- Two ordered scans from the cursor on, of idx_assessment_responses_user_id and
-- idx_assessment_responses_anon, merged without a sort, until max_rows match: a whole iteration
-- reads the owner's rows once.
(
    SELECT
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND (created_at, response_id) > (
            coalesce(:after_created_at::timestamptz, '-infinity'::timestamptz),
            coalesce(:after_response_id::bigint, 0)
        )
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
        AND (:question_id::text IS NULL OR question_id = :question_id::text)
        AND created_at >= coalesce(:since::timestamptz, '-infinity'::timestamptz)
        AND created_at < coalesce(:until::timestamptz, 'infinity'::timestamptz)
    ORDER BY created_at, response_id
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
        AND (created_at, response_id) > (
            coalesce(:after_created_at::timestamptz, '-infinity'::timestamptz),
            coalesce(:after_response_id::bigint, 0)
        )
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
        AND (:question_id::text IS NULL OR question_id = :question_id::text)
        AND created_at >= coalesce(:since::timestamptz, '-infinity'::timestamptz)
        AND created_at < coalesce(:until::timestamptz, 'infinity'::timestamptz)
    ORDER BY created_at, response_id
    LIMIT :max_rows::bigint
)
ORDER BY created_at, response_id
LIMIT :max_rows::bigint;


-- name: iter_responses_with_scores(module_slug, question_id, since, until, after_response_id, after_scored_at, after_score_id, max_rows)
-- One batch of the iteration of iter_responses, with the submission key and the scores: a row for
-- each score, oldest first within the response, or one with nulls in the score's columns. The
-- cursor is the last row seen, so that the scores of one response can be in several batches.
-- Scans assessment_responses_pkey from the cursor on until max_rows + 1 responses match (nothing
-- may be left of the cursor's own), and probes idx_assessment_scores_response_id once for each.
-- Only the data of the max_rows returned is read.
WITH page AS (
    SELECT
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata, created_at, submission_key
    FROM assessment_responses
    WHERE
        response_id >= coalesce(:after_response_id::bigint, 0)
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
        AND (:question_id::text IS NULL OR question_id = :question_id::text)
        AND created_at >= coalesce(:since::timestamptz, '-infinity'::timestamptz)
        AND created_at < coalesce(:until::timestamptz, 'infinity'::timestamptz)
    ORDER BY response_id
    LIMIT :max_rows::bigint + 1
)

SELECT
    b.response_id, b.anonymous_token, b.user_id, b.question_id, b.module_slug,
    b.learning_outcome_id, b.content_id, b.answer_text,
    b.answer_metadata::varchar AS answer_metadata, b.created_at, b.submission_key,
    b.score_id, b.score_data::varchar AS score_data, b.model_id, b.prompt_version, b.scored_at
FROM (
    SELECT
        r.response_id, r.anonymous_token, r.user_id, r.question_id, r.module_slug,
        r.learning_outcome_id, r.content_id, r.answer_text, r.answer_metadata, r.created_at,
        r.submission_key, s.score_id, s.score_data, s.model_id, s.prompt_version,
        s.created_at AS scored_at
    FROM page AS r
    LEFT JOIN LATERAL (
        SELECT
            own.score_id, own.score_data, own.model_id, own.prompt_version, own.created_at
        FROM assessment_scores AS own
        WHERE own.response_id = r.response_id
        ORDER BY own.created_at, own.score_id
    ) AS s ON TRUE
    WHERE
        r.response_id > coalesce(:after_response_id::bigint, 0)
        OR (s.created_at, s.score_id) > (:after_scored_at::timestamptz, :after_score_id::bigint)
    ORDER BY r.response_id, s.created_at, s.score_id
    LIMIT :max_rows::bigint
) AS b
ORDER BY b.response_id, b.scored_at, b.score_id;


-- name: iter_owner_responses_with_scores(user_id, anonymous_token, module_slug, question_id, since, until, after_created_at, after_response_id, after_scored_at, after_score_id, max_rows)
-- One batch of the iteration of iter_owner_responses, with the submission key and the scores, as
-- iter_responses_with_scores has them.
-- The scans of idx_assessment_responses_user_id and idx_assessment_responses_anon, until
-- max_rows + 1 responses match, and one probe of idx_assessment_scores_response_id for each.
WITH page AS (
    (
        SELECT
            response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
            content_id, answer_text, answer_metadata, created_at, submission_key
        FROM assessment_responses
        WHERE
            user_id = :user_id::bigint
            AND (created_at, response_id) >= (
                coalesce(:after_created_at::timestamptz, '-infinity'::timestamptz),
                coalesce(:after_response_id::bigint, 0)
            )
            AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
            AND (:question_id::text IS NULL OR question_id = :question_id::text)
            AND created_at >= coalesce(:since::timestamptz, '-infinity'::timestamptz)
            AND created_at < coalesce(:until::timestamptz, 'infinity'::timestamptz)
        ORDER BY created_at, response_id
        LIMIT :max_rows::bigint + 1
    )
    UNION ALL
    (
        SELECT
            response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
            content_id, answer_text, answer_metadata, created_at, submission_key
        FROM assessment_responses
        WHERE
            anonymous_token = :anonymous_token::uuid
            AND (created_at, response_id) >= (
                coalesce(:after_created_at::timestamptz, '-infinity'::timestamptz),
                coalesce(:after_response_id::bigint, 0)
            )
            AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
            AND (:question_id::text IS NULL OR question_id = :question_id::text)
            AND created_at >= coalesce(:since::timestamptz, '-infinity'::timestamptz)
            AND created_at < coalesce(:until::timestamptz, 'infinity'::timestamptz)
        ORDER BY created_at, response_id
        LIMIT :max_rows::bigint + 1
    )
    ORDER BY created_at, response_id
    LIMIT :max_rows::bigint + 1
)

SELECT
    b.response_id, b.anonymous_token, b.user_id, b.question_id, b.module_slug,
    b.learning_outcome_id, b.content_id, b.answer_text,
    b.answer_metadata::varchar AS answer_metadata, b.created_at, b.submission_key,
    b.score_id, b.score_data::varchar AS score_data, b.model_id, b.prompt_version, b.scored_at
FROM (
    SELECT
        r.response_id, r.anonymous_token, r.user_id, r.question_id, r.module_slug,
        r.learning_outcome_id, r.content_id, r.answer_text, r.answer_metadata, r.created_at,
        r.submission_key, s.score_id, s.score_data, s.model_id, s.prompt_version,
        s.created_at AS scored_at
    FROM page AS r
    LEFT JOIN LATERAL (
        SELECT
            own.score_id, own.score_data, own.model_id, own.prompt_version, own.created_at
        FROM assessment_scores AS own
        WHERE own.response_id = r.response_id
        ORDER BY own.created_at, own.score_id
    ) AS s ON TRUE
    WHERE
        r.response_id <> coalesce(:after_response_id::bigint, 0)
        OR (s.created_at, s.score_id) > (:after_scored_at::timestamptz, :after_score_id::bigint)
    ORDER BY r.created_at, r.response_id, s.created_at, s.score_id
    LIMIT :max_rows::bigint
) AS b
ORDER BY b.created_at, b.response_id, b.scored_at, b.score_id;


-- name: count_anonymous_responses(older_than, max_rows)$
-- How many responses purge_anonymous_responses would erase. Reads as many entries of
-- idx_assessment_responses_anon_created.
SELECT pg_catalog.count(*)
FROM (
    SELECT 1
    FROM assessment_responses
    WHERE
        user_id IS NULL
        AND created_at < pg_catalog.now() - :older_than::interval
    ORDER BY created_at, response_id
    LIMIT :max_rows::bigint
) AS expired;


-- name: purge_anonymous_responses(older_than, max_rows)!
-- Erases at most max_rows unclaimed responses older than the interval; the foreign key erases
-- their scores. Oldest first: reads as many entries of idx_assessment_responses_anon_created.
-- Deletes by assessment_responses_pkey. Waits for a claim in progress, and leaves what that has
-- taken.
DELETE FROM assessment_responses
WHERE
    user_id IS NULL
    AND response_id = any((
        SELECT pg_catalog.array_agg(expired.response_id)
        FROM (
            SELECT response_id
            FROM assessment_responses
            WHERE
                user_id IS NULL
                AND created_at < pg_catalog.now() - :older_than::interval
            ORDER BY created_at, response_id
            LIMIT :max_rows::bigint
        ) AS expired
    )::bigint[]);


-- name: count_responses(older_than, max_rows)$
-- How many responses purge_responses would erase. Reads as many entries of
-- idx_assessment_responses_user_created, then of idx_assessment_responses_anon_created.
SELECT pg_catalog.count(*)
FROM (
    (
        SELECT 1
        FROM assessment_responses
        WHERE
            anonymous_token IS NULL
            AND created_at < pg_catalog.now() - :older_than::interval
        ORDER BY created_at, response_id
        LIMIT :max_rows::bigint
    )
    UNION ALL
    (
        SELECT 1
        FROM assessment_responses
        WHERE
            user_id IS NULL
            AND created_at < pg_catalog.now() - :older_than::interval
        ORDER BY created_at, response_id
        LIMIT :max_rows::bigint
    )
    LIMIT :max_rows::bigint
) AS expired;


-- name: purge_responses(older_than, max_rows)!
-- Erases at most max_rows responses of all owners older than the interval; the foreign key erases
-- their scores. Proceeds as purge_anonymous_responses does: through the users' in the order of
-- idx_assessment_responses_user_created, then, if these are fewer than max_rows, through the
-- anonymous owners' in that of idx_assessment_responses_anon_created. Deletes by
-- assessment_responses_pkey. Waits for a claim in progress, and erases what that has taken.
DELETE FROM assessment_responses
WHERE response_id = any((
    SELECT pg_catalog.array_agg(expired.response_id)
    FROM (
        (
            SELECT response_id
            FROM assessment_responses
            WHERE
                anonymous_token IS NULL
                AND created_at < pg_catalog.now() - :older_than::interval
            ORDER BY created_at, response_id
            LIMIT :max_rows::bigint
        )
        UNION ALL
        (
            SELECT response_id
            FROM assessment_responses
            WHERE
                user_id IS NULL
                AND created_at < pg_catalog.now() - :older_than::interval
            ORDER BY created_at, response_id
            LIMIT :max_rows::bigint
        )
        LIMIT :max_rows::bigint
    ) AS expired
)::bigint[]);
