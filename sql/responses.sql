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


-- name: get_responses(user_id, anonymous_token, before_created_at, before_response_id, max_rows)
-- The responses of either owner, newest first. A null owner matches nothing; a null cursor or
-- max_rows does not restrict. The cursor is the last row of the page before.
-- Two ordered scans, of idx_assessment_responses_user_id and idx_assessment_responses_anon,
-- merged without a sort; each reads no more than max_rows rows.
(
    SELECT
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
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
        AND (created_at, response_id) < (
            coalesce(:before_created_at::timestamptz, 'infinity'::timestamptz),
            coalesce(:before_response_id::bigint, 9223372036854775807)
        )
    ORDER BY created_at DESC, response_id DESC
    LIMIT :max_rows::bigint
)
ORDER BY created_at DESC, response_id DESC
LIMIT :max_rows::bigint;


-- name: get_responses_for_module(user_id, anonymous_token, module_slug, before_created_at, before_response_id, max_rows)
-- The same within a module: a query of its own, so that PostgreSQL's one plan for all arguments is
-- by idx_assessment_responses_user_module and idx_assessment_responses_anon_module.
(
    SELECT
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND module_slug = :module_slug::text
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
        AND module_slug = :module_slug::text
        AND (created_at, response_id) < (
            coalesce(:before_created_at::timestamptz, 'infinity'::timestamptz),
            coalesce(:before_response_id::bigint, 9223372036854775807)
        )
    ORDER BY created_at DESC, response_id DESC
    LIMIT :max_rows::bigint
)
ORDER BY created_at DESC, response_id DESC
LIMIT :max_rows::bigint;


-- name: get_responses_for_question(user_id, anonymous_token, module_slug, question_id, before_created_at, before_response_id, max_rows)
-- The same for one question: by idx_assessment_responses_user_question and
-- idx_assessment_responses_anon_question. A null module does not restrict.
(
    SELECT
        response_id, anonymous_token, user_id, question_id, module_slug, learning_outcome_id,
        content_id, answer_text, answer_metadata::varchar AS answer_metadata, created_at
    FROM assessment_responses
    WHERE
        user_id = :user_id::bigint
        AND question_id = :question_id::text
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
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
        AND question_id = :question_id::text
        AND (:module_slug::text IS NULL OR module_slug = :module_slug::text)
        AND (created_at, response_id) < (
            coalesce(:before_created_at::timestamptz, 'infinity'::timestamptz),
            coalesce(:before_response_id::bigint, 9223372036854775807)
        )
    ORDER BY created_at DESC, response_id DESC
    LIMIT :max_rows::bigint
)
ORDER BY created_at DESC, response_id DESC
LIMIT :max_rows::bigint;


-- name: get_latest_responses(user_id, anonymous_token, module_slug, question_ids)
-- The newest response of either owner to each question, newest first: to these questions, or to
-- all that the owner has answered if question_ids is null; within the module, if one is given. A
-- null owner matches nothing.
-- Finds an owner's questions one after the other, each by one probe, in
-- idx_assessment_responses_user_question or idx_assessment_responses_anon_question, and the newest
-- response to each by one more. With a module it reads all of the owner's responses in it, through
-- idx_assessment_responses_user_module or idx_assessment_responses_anon_module.
-- The owners are subqueries so that one plan serves all calls: to PostgreSQL a plan without the owner
-- that is null would seem cheaper, and it would plan each call anew, for longer than the call takes.
WITH RECURSIVE user_questions AS (
    SELECT pg_catalog.min(f.question_id) AS question_id
    FROM assessment_responses AS f
    WHERE
        f.user_id = (SELECT :user_id::bigint)
        AND :question_ids::text[] IS NULL
        AND :module_slug::text IS NULL
    UNION ALL
    SELECT (
        SELECT pg_catalog.min(n.question_id)
        FROM assessment_responses AS n
        WHERE n.user_id = (SELECT :user_id::bigint) AND n.question_id > seen.question_id
    )
    FROM user_questions AS seen
    WHERE seen.question_id IS NOT NULL
),

anonymous_questions AS (
    SELECT pg_catalog.min(f.question_id) AS question_id
    FROM assessment_responses AS f
    WHERE
        f.anonymous_token = (SELECT :anonymous_token::uuid)
        AND :question_ids::text[] IS NULL
        AND :module_slug::text IS NULL
    UNION ALL
    SELECT (
        SELECT pg_catalog.min(n.question_id)
        FROM assessment_responses AS n
        WHERE
            n.anonymous_token = (SELECT :anonymous_token::uuid)
            AND n.question_id > seen.question_id
    )
    FROM anonymous_questions AS seen
    WHERE seen.question_id IS NOT NULL
),

asked AS (
    SELECT question_id
    FROM user_questions
    UNION
    SELECT question_id
    FROM anonymous_questions
    UNION
    SELECT m.question_id
    FROM assessment_responses AS m
    WHERE
        m.user_id = (SELECT :user_id::bigint)
        AND m.module_slug = :module_slug::text
        AND :question_ids::text[] IS NULL
    UNION
    SELECT m.question_id
    FROM assessment_responses AS m
    WHERE
        m.anonymous_token = (SELECT :anonymous_token::uuid)
        AND m.module_slug = :module_slug::text
        AND :question_ids::text[] IS NULL
    UNION
    SELECT g.question_id
    FROM pg_catalog.unnest(:question_ids::text[]) AS g (question_id)
)

SELECT
    r.response_id, r.anonymous_token, r.user_id, r.question_id, r.module_slug,
    r.learning_outcome_id, r.content_id, r.answer_text, r.answer_metadata, r.created_at
FROM asked AS a
INNER JOIN LATERAL (
    (
        SELECT
            n.response_id, n.anonymous_token, n.user_id, n.question_id, n.module_slug,
            n.learning_outcome_id, n.content_id, n.answer_text,
            n.answer_metadata::varchar AS answer_metadata, n.created_at
        FROM assessment_responses AS n
        WHERE
            n.user_id = (SELECT :user_id::bigint)
            AND n.question_id = a.question_id
            AND (:module_slug::text IS NULL OR n.module_slug = :module_slug::text)
        ORDER BY n.created_at DESC, n.response_id DESC
        LIMIT 1
    )
    UNION ALL
    (
        SELECT
            n.response_id, n.anonymous_token, n.user_id, n.question_id, n.module_slug,
            n.learning_outcome_id, n.content_id, n.answer_text,
            n.answer_metadata::varchar AS answer_metadata, n.created_at
        FROM assessment_responses AS n
        WHERE
            n.anonymous_token = (SELECT :anonymous_token::uuid)
            AND n.question_id = a.question_id
            AND (:module_slug::text IS NULL OR n.module_slug = :module_slug::text)
        ORDER BY n.created_at DESC, n.response_id DESC
        LIMIT 1
    )
    ORDER BY created_at DESC, response_id DESC
    LIMIT 1
) AS r ON TRUE
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
-- Finds the token's rows through idx_assessment_responses_anon_question, probes each once in
-- idx_assessment_responses_user_question and updates them by assessment_responses_pkey, as
-- erasures, the purge and scoring do: where the table holds the rows in the order of their keys,
-- these do not deadlock. Only after lock_claim, in the same transaction.
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
        FROM (
            -- The order chooses among the indexes that begin with the token.
            SELECT response_id, question_id
            FROM assessment_responses
            WHERE anonymous_token = :anonymous_token::uuid
            ORDER BY question_id ASC, created_at DESC, response_id DESC
        ) AS unclaimed
        WHERE
            -- OFFSET 0 keeps it a probe: a merge would read all that the user has answered.
            NOT EXISTS (
                SELECT 1
                FROM answered
                WHERE answered.question_id = unclaimed.question_id
                OFFSET 0 -- noqa: AM09
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
        FROM (
            -- The order chooses among the indexes that begin with the owner.
            (
                SELECT response_id
                FROM assessment_responses
                WHERE user_id = :user_id::bigint
                ORDER BY created_at DESC, response_id DESC
            )
            UNION ALL
            (
                SELECT response_id
                FROM assessment_responses
                WHERE anonymous_token = :anonymous_token::uuid
                ORDER BY created_at DESC, response_id DESC
            )
        ) AS candidate
    )::bigint[])
    AND (user_id = :user_id::bigint OR anonymous_token = :anonymous_token::uuid) IS TRUE;
