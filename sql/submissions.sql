-- Submissions: new responses are stored, or returned if they were stored before.
--
-- This text is what runs. aiosql makes one async function of each query below; the first line
-- gives its name, its parameters and what it returns: ^ one row, $ one value, ! the number of rows
-- changed, nothing a list of rows. How to read, review and run it by hand: sql/README.md.


-- name: submit_response(submission_key, user_id, anonymous_token, question_id, module_slug, learning_outcome_id, content_id, answer_text, answer_metadata)^
-- Stores one response as a new row and returns it. Returns no row where user_id is not in users
-- (the EXISTS spares the caller's transaction the foreign key's error, which would abort it) or
-- where the submission key is taken, be it by this very response: get_submitted_responses then
-- finds it. A null key is never taken. Waits for a transaction in progress that has stored the key.
-- At most one row written; one probe of the key of users and one of
-- idx_assessment_responses_submission_key.
INSERT INTO assessment_responses (
    submission_key, user_id, anonymous_token, question_id, module_slug, learning_outcome_id,
    content_id, answer_text, answer_metadata
)
SELECT
    :submission_key::uuid, :user_id::bigint, :anonymous_token::uuid, :question_id::text,
    :module_slug::text, :learning_outcome_id::text, :content_id::uuid, :answer_text::text,
    :answer_metadata::varchar::jsonb
WHERE
    :user_id::bigint IS NULL
    OR EXISTS (
        SELECT 1
        FROM users AS u
        WHERE u.user_id = :user_id::bigint
    )
ON CONFLICT (submission_key) WHERE submission_key IS NOT NULL DO NOTHING
RETURNING
    response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
    content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at;


-- name: submit_responses(submission_keys, user_ids, anonymous_tokens, question_ids, module_slugs, learning_outcome_ids, content_ids, answer_texts, answer_metadatas)
-- As submit_response, for many: arrays of equal length, one element for each response. Returns one
-- row for each, in the order given: the row stored, or nulls. Where one user_id is not in users,
-- nothing is stored. Responses whose submission key is taken are left out: with keys, only in a
-- transaction in which get_submitted_responses then finds those left out, or else all is rolled
-- back. All or nothing: where a trigger of the host's drops some of the other rows, it fails.
-- At most as many rows written as given; for each response one probe of the key of users and one of
-- idx_assessment_responses_submission_key.
WITH given AS (
    SELECT
        g.number, g.submission_key, g.user_id, g.anonymous_token, g.question_id, g.module_slug,
        g.learning_outcome_id, g.content_id, g.answer_text, g.answer_metadata
    -- Text arrays: asyncpg would first look any other array type up in the catalogue.
    FROM unnest(
        :submission_keys::text[]::uuid[], :user_ids::text[]::bigint[],
        :anonymous_tokens::text[]::uuid[], :question_ids::text[], :module_slugs::text[],
        :learning_outcome_ids::text[], :content_ids::text[]::uuid[], :answer_texts::text[],
        :answer_metadatas::text[]
    ) WITH ORDINALITY AS g (
        submission_key, user_id, anonymous_token, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata, number
    )
),

-- Of a key given twice, only the first is tried: the row that it meets may be erased by the time
-- of the second, which would then be stored in its stead.
firsts AS (
    SELECT pg_catalog.min(number) AS number
    FROM given
    WHERE submission_key IS NOT NULL
    GROUP BY submission_key
),

stored AS (
    INSERT INTO assessment_responses (
        submission_key, user_id, anonymous_token, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata
    )
    SELECT
        submission_key, user_id, anonymous_token, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::jsonb
    FROM given
    WHERE
        (submission_key IS NULL OR number IN (SELECT f.number FROM firsts AS f))
        AND NOT EXISTS (
            SELECT 1
            FROM given AS g
            LEFT JOIN users AS u ON g.user_id = u.user_id
            WHERE g.user_id IS NOT NULL AND u.user_id IS NULL
        )
    ORDER BY number
    ON CONFLICT (submission_key) WHERE submission_key IS NOT NULL DO NOTHING
    RETURNING
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at,
        submission_key
),

-- The numbers of those stored. Identity values are assigned in the order of insertion, so the order
-- of response_id is the order of these.
placed AS (
    SELECT pg_catalog.array_agg(g.number ORDER BY g.number) AS kept
    FROM given AS g
    WHERE
        g.submission_key IS NULL
        OR (
            g.number IN (SELECT f.number FROM firsts AS f)
            AND g.submission_key IN (SELECT s.submission_key FROM stored AS s)
        )
),

numbered AS (
    SELECT
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata, created_at,
        CASE
            WHEN pg_catalog.count(*) OVER () = (SELECT pg_catalog.cardinality(kept) FROM placed)
                THEN (SELECT kept FROM placed)[pg_catalog.row_number() OVER (ORDER BY response_id)]
            -- Text that is no number: SQL's only way to fail, and so to store nothing.
            ELSE ('assessments: not all stored, not before ' || response_id::text)::bigint
        END AS number
    FROM stored
)

SELECT
    n.response_id, n.anonymous_token, n.user_id, n.question_id, n.module_slug,
    n.learning_outcome_id, n.content_id, n.answer_text, n.answer_metadata, n.created_at
FROM given AS g
LEFT JOIN numbered AS n ON g.number = n.number
ORDER BY g.number;


-- name: get_submitted_responses(submission_keys, user_ids, anonymous_tokens, question_ids, module_slugs, learning_outcome_ids, content_ids, answer_texts, answer_metadatas)
-- What a submit has left out: arrays of equal length, one element for each response. Returns one
-- row for each, in the order given: the row stored under its key, if owner and content are the
-- same, or else nulls and the reason: unknown_user is true where the user is not in users,
-- taken_key where the key is another's or was used with different content, or row-level security
-- may hide it.
-- For each response one probe of idx_assessment_responses_submission_key, of
-- assessment_responses_pkey and of the key of users.
SELECT
    r.response_id, r.anonymous_token, r.user_id, r.question_id, r.module_slug,
    r.learning_outcome_id, r.content_id, r.answer_text,
    r.answer_metadata::varchar AS answer_metadata, r.created_at,
    nullif(g.user_id IS NOT NULL AND u.user_id IS NULL, FALSE) AS unknown_user,
    nullif(
        r.response_id IS NULL AND (
            taken.response_id IS NOT NULL
            OR (
                g.submission_key IS NOT NULL
                AND pg_catalog.row_security_active('assessment_responses'::text)
            )
        ),
        FALSE
    ) AS taken_key
FROM
    unnest(
        :submission_keys::text[]::uuid[], :user_ids::text[]::bigint[],
        :anonymous_tokens::text[]::uuid[], :question_ids::text[], :module_slugs::text[],
        :learning_outcome_ids::text[], :content_ids::text[]::uuid[], :answer_texts::text[],
        :answer_metadatas::text[]
    ) WITH ORDINALITY AS g (
        submission_key, user_id, anonymous_token, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata, number
    )
LEFT JOIN users AS u ON g.user_id = u.user_id
LEFT JOIN assessment_responses AS taken ON g.submission_key = taken.submission_key
LEFT JOIN assessment_responses AS r
    ON
        taken.response_id = r.response_id
        AND (
            r.user_id, r.anonymous_token, r.question_id, r.module_slug, r.learning_outcome_id,
            r.content_id, r.answer_text, r.answer_metadata
        ) IS NOT DISTINCT FROM (
            g.user_id, g.anonymous_token, g.question_id, g.module_slug,
            g.learning_outcome_id, g.content_id, g.answer_text,
            g.answer_metadata::jsonb
        )
ORDER BY g.number;
