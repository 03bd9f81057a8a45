-- Responses, in the order of a response's life: submitted, read, claimed.
--
-- This text is what runs. aiosql makes one async function of each query below; the first line
-- gives its name, its parameters and what it returns: ^ one row, ! the number of rows changed,
-- nothing a list of rows. How to read, review and run it by hand: sql/README.md.


-- name: submit_response(user_id, anonymous_token, question_id, module_slug, learning_outcome_id, content_id, answer_text, answer_metadata)^
-- Stores one attempt as a new row and returns it. Returns no row when user_id is not in users:
-- the EXISTS spares the caller's transaction the foreign key's error, which would abort it.
-- One row written; one probe of the key of users.
INSERT INTO assessment_responses (
    user_id,
    anonymous_token,
    question_id,
    module_slug,
    learning_outcome_id,
    content_id,
    answer_text,
    answer_metadata
)
SELECT
    :user_id::bigint,
    :anonymous_token::uuid,
    :question_id::text,
    :module_slug::text,
    :learning_outcome_id::text,
    :content_id::uuid,
    :answer_text::text,
    :answer_metadata::text::jsonb
WHERE
    :user_id::bigint IS NULL
    OR EXISTS (
        SELECT 1
        FROM users AS u
        WHERE u.user_id = :user_id::bigint
    )
RETURNING
    response_id,
    anonymous_token,
    user_id,
    question_id,
    module_slug,
    learning_outcome_id,
    content_id,
    answer_text,
    answer_metadata::text AS answer_metadata,
    created_at;


-- name: get_responses(user_id, anonymous_token, module_slug, question_id, before_created_at, before_response_id, max_rows)
-- The responses of either owner, newest first. A null owner matches nothing; a null module,
-- question, cursor or max_rows asks for all. The cursor is the last row of the page before.
-- Two ordered scans, of idx_assessment_responses_user_id and idx_assessment_responses_anon,
-- merged without a sort; each reads no more than max_rows rows that match.
(
    SELECT
        response_id,
        anonymous_token,
        user_id,
        question_id,
        module_slug,
        learning_outcome_id,
        content_id,
        answer_text,
        answer_metadata::text AS answer_metadata,
        created_at
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
        response_id,
        anonymous_token,
        user_id,
        question_id,
        module_slug,
        learning_outcome_id,
        content_id,
        answer_text,
        answer_metadata::text AS answer_metadata,
        created_at
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


-- name: get_responses_for_question(user_id, anonymous_token, question_id)
-- Every attempt of either owner at one question, newest first. A null owner matches nothing.
-- idx_assessment_responses_question finds the user's, idx_assessment_responses_anon the
-- visitor's; what is sorted is what is returned.
SELECT
    response_id,
    anonymous_token,
    user_id,
    question_id,
    module_slug,
    learning_outcome_id,
    content_id,
    answer_text,
    answer_metadata::text AS answer_metadata,
    created_at
FROM assessment_responses
WHERE
    user_id = :user_id::bigint
    AND question_id = :question_id::text
UNION ALL
SELECT
    response_id,
    anonymous_token,
    user_id,
    question_id,
    module_slug,
    learning_outcome_id,
    content_id,
    answer_text,
    answer_metadata::text AS answer_metadata,
    created_at
FROM assessment_responses
WHERE
    anonymous_token = :anonymous_token::uuid
    AND question_id = :question_id::text
ORDER BY created_at DESC, response_id DESC;


-- name: lock_claim(anonymous_token, user_id)^
-- Before a claim, in its transaction and as a statement of its own, so that the claim after it
-- sees what earlier claims committed. One claim at a time for a token and for a user; both locks
-- end with the transaction, the token's is always taken first, and no row is locked.
-- Returns whether the user is there and the isolation level: at REPEATABLE READ the claim would
-- see no earlier claim, so the caller must refuse.
SELECT
    pg_advisory_xact_lock(
        hashtextextended('assessments: claim of token ' || :anonymous_token::uuid::text, 0)
    ) AS token_lock,
    pg_advisory_xact_lock(
        hashtextextended('assessments: claim for user ' || :user_id::bigint::text, 0)
    ) AS user_lock,
    exists(
        SELECT 1
        FROM users AS u
        WHERE u.user_id = :user_id::bigint
    ) AS user_exists,
    current_setting('transaction_isolation') AS transaction_isolation;


-- name: claim_assessment_responses(anonymous_token, user_id, skip_answered)!
-- Moves the token's responses to the user, and with skip_answered leaves those to a question
-- that the user has already answered. All attempts at a question move or stay together.
-- Changes the token's rows, found through idx_assessment_responses_anon; each is probed once
-- in idx_assessment_responses_question. Only after lock_claim, in the same transaction.
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
    anonymous_token = :anonymous_token::uuid
    AND NOT EXISTS (
        SELECT 1
        FROM answered
        WHERE answered.question_id = assessment_responses.question_id
    );
