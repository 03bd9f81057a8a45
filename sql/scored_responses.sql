-- Each of an owner's responses with its latest score, newest response first.
--
-- This text is what runs; the form is explained in submissions.sql and in sql/README.md.


-- name: get_responses_with_latest_score(user_id, anonymous_token, before_created_at, before_response_id, max_rows, human_first)
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


-- name: get_scored_responses_for_module(user_id, anonymous_token, module_slug, before_created_at, before_response_id, max_rows, human_first)
-- The same for the rows of get_responses_for_module: by idx_assessment_responses_user_module and
-- idx_assessment_responses_anon_module, then idx_assessment_scores_response_id.
WITH page AS (
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


-- name: get_scored_responses_for_question(user_id, anonymous_token, module_slug, question_id, before_created_at, before_response_id, max_rows, human_first)
-- The same for the rows of get_responses_for_question: by idx_assessment_responses_user_question
-- and idx_assessment_responses_anon_question, then idx_assessment_scores_response_id.
WITH page AS (
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


-- name: get_latest_responses_with_latest_score(user_id, anonymous_token, module_slug, question_ids, human_first)
-- The same rows in the same order as get_latest_responses, each with the score that
-- get_responses_with_latest_score would show.
-- Reads as get_latest_responses does, through idx_assessment_responses_user_question,
-- idx_assessment_responses_anon_question, idx_assessment_responses_user_module and
-- idx_assessment_responses_anon_module, and idx_assessment_scores_response_id once for each row
-- returned.
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
    r.learning_outcome_id, r.content_id, r.answer_text, r.answer_metadata, r.created_at,
    s.score_id, s.score_data, s.model_id, s.prompt_version, s.created_at AS scored_at
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
LEFT JOIN LATERAL (
    SELECT
        n.score_id, n.score_data::varchar AS score_data, n.model_id, n.prompt_version, n.created_at
    FROM assessment_scores AS n
    WHERE n.response_id = r.response_id
    ORDER BY (:human_first::boolean AND n.model_id IS NULL) DESC, n.created_at DESC, n.score_id DESC
    LIMIT 1
) AS s ON TRUE
ORDER BY r.created_at DESC, r.response_id DESC;
