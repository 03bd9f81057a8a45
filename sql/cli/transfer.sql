-- Moving responses with their scores from one database to another: assessments import, and what
-- assessments export adds to iter_responses_with_scores of backoffice.sql.
-- Not for request handlers: no owner is checked here.
--
-- This text is what runs; the form is explained in submissions.sql and in sql/README.md. Functions
-- are qualified, and both sides of an operator have one type, so that nothing on search_path is a
-- better match; only unnest of several arrays cannot be: PostgreSQL knows it by its bare name.


-- name: get_database_identity()$
-- The database's identity, as text: the server's system identifier, the database's oid, and that of
-- the schema in which the tables are. Another server, database or schema and a restored dump
-- differ; a physical copy of the server (a restored base backup, a promoted replica) does not.
-- Reads no table; every role may.
SELECT pg_catalog.concat_ws('/'::text, c.system_identifier, a.datid, t.relnamespace)
FROM pg_catalog.pg_control_system() AS c
CROSS JOIN pg_catalog.pg_stat_activity AS a
CROSS JOIN pg_catalog.pg_class AS t
WHERE
    a.pid = pg_catalog.pg_backend_pid()
    AND t.oid = pg_catalog.to_regclass('assessment_responses')::oid;


-- name: lock_import()$
-- Before import_responses, in its transaction and as a statement of its own, so that the snapshot
-- of the next one is newer than the lock. One import at a time in this database, until the
-- transaction ends; no row is locked.
SELECT
    pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('assessments: import'::text, 0::bigint)
    );


-- name: import_responses(skip_conflicts, submission_keys, response_ids, user_ids, anonymous_tokens, question_ids, module_slugs, learning_outcome_ids, content_ids, answer_texts, answer_metadatas, created_ats, score_numbers, score_datas, score_model_ids, score_prompt_versions, score_created_ats, score_occurrences)^
-- Stores those of a batch of exported responses and of their scores that are not stored yet, with
-- new keys in the order given: arrays of equal length, one element for each response and no
-- submission key twice, then such arrays for the scores; score_numbers says which response a score
-- belongs to, counted from 1. A row that is already stored stays as it is, whoever owns it now: a
-- row with the submission key, or else a row without one that is the very row exported.
-- Two scores of a response are equal where their times, models, prompt versions and the texts of
-- their data are. A score is stored unless as many equal ones are stored as its occurrence says.
-- Returns how many responses and scores it stored, how many scores it was to store, how many
-- responses were already stored, and the numbers of conflicts: of responses whose key is used by a
-- different answer. All or nothing: where a user_id of a new response is not in users, or, unless
-- conflicts are skipped, there is a conflict, it stores nothing and returns the number of the first
-- such response. A row that appears during this statement counts as neither.
-- For each response one probe of idx_assessment_responses_submission_key, of
-- assessment_responses_pkey and of the key of users; for each that is already stored, one of
-- idx_assessment_scores_response_id. As many rows written as counted.
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

given_scores AS MATERIALIZED (
    SELECT
        g.number, g.response_number, g.score_data::jsonb AS score_data, g.model_id,
        g.prompt_version, g.created_at, g.occurrence
    FROM unnest(
        :score_numbers::text[]::bigint[], :score_datas::text[], :score_model_ids::text[],
        :score_prompt_versions::text[], :score_created_ats::text[]::timestamptz[],
        :score_occurrences::text[]::bigint[]
    ) WITH ORDINALITY AS g (
        response_number, score_data, model_id, prompt_version, created_at, occurrence, number
    )
),

keyed AS MATERIALIZED (
    SELECT
        g.number, r.response_id,
        (r.question_id, r.module_slug, r.answer_text)
        <> (g.question_id, g.module_slug, g.answer_text) AS is_different
    FROM given AS g
    INNER JOIN assessment_responses AS r ON g.submission_key = r.submission_key
),

existing AS MATERIALIZED (
    SELECT number, response_id, is_different
    FROM keyed
    UNION ALL
    SELECT g.number, r.response_id, FALSE AS is_different
    FROM given AS g
    INNER JOIN assessment_responses AS r ON g.response_id = r.response_id
    WHERE
        r.submission_key IS NULL
        AND (r.created_at, r.question_id, r.module_slug, r.answer_text)
        = (g.created_at, g.question_id, g.module_slug, g.answer_text)
        AND NOT EXISTS (
            SELECT 1
            FROM keyed AS k
            WHERE k.number = g.number
        )
),

refused AS MATERIALIZED (
    SELECT
        (
            SELECT pg_catalog.min(number)
            FROM existing
            WHERE is_different AND NOT :skip_conflicts::boolean
        ) AS conflict_number,
        (
            SELECT pg_catalog.min(g.number)
            FROM given AS g
            WHERE
                g.user_id IS NOT NULL
                AND NOT EXISTS (
                    SELECT 1
                    FROM users AS u
                    WHERE u.user_id = g.user_id
                )
                AND NOT EXISTS (
                    SELECT 1
                    FROM existing AS e
                    WHERE e.number = g.number
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
            WHERE pg_catalog.num_nonnulls(conflict_number, unknown_user_number) = 0
        )
    ORDER BY number
    ON CONFLICT (submission_key) WHERE submission_key IS NOT NULL DO NOTHING
    RETURNING response_id, submission_key
),

existing_scores AS MATERIALIZED (
    SELECT
        e.number, s.created_at, s.model_id, s.prompt_version, s.score_data::text AS score_text,
        pg_catalog.count(s.score_id) AS times
    FROM existing AS e
    INNER JOIN LATERAL (
        -- Ordered, so that the planner keeps it a subquery: without statistics it could otherwise
        -- join the scores by their times first.
        SELECT own.score_id, own.created_at, own.model_id, own.prompt_version, own.score_data
        FROM assessment_scores AS own
        WHERE own.response_id = e.response_id
        ORDER BY own.score_id
    ) AS s ON TRUE
    WHERE
        NOT e.is_different
        AND EXISTS (
            SELECT 1
            FROM given_scores AS g
            WHERE g.response_number = e.number AND g.created_at = s.created_at
        )
    GROUP BY e.number, s.created_at, s.model_id, s.prompt_version, s.score_data::text
),

new_scores AS MATERIALIZED (
    SELECT s.number, r.response_id, s.score_data, s.model_id, s.prompt_version, s.created_at
    FROM given_scores AS s
    INNER JOIN given AS g ON s.response_number = g.number
    INNER JOIN stored AS r ON g.submission_key = r.submission_key
    UNION ALL
    SELECT s.number, e.response_id, s.score_data, s.model_id, s.prompt_version, s.created_at
    FROM given_scores AS s
    INNER JOIN existing AS e ON s.response_number = e.number
    INNER JOIN refused ON pg_catalog.num_nonnulls(conflict_number, unknown_user_number) = 0
    WHERE
        NOT e.is_different
        AND NOT EXISTS (
            SELECT 1
            FROM existing_scores AS x
            WHERE
                x.number = s.response_number
                AND x.created_at = s.created_at
                AND x.score_text = s.score_data::text
                AND x.model_id IS NOT DISTINCT FROM s.model_id
                AND x.prompt_version IS NOT DISTINCT FROM s.prompt_version
                AND x.times >= s.occurrence
        )
),

stored_scores AS (
    INSERT INTO assessment_scores (
        response_id, score_data, model_id, prompt_version, created_at
    )
    SELECT response_id, score_data, model_id, prompt_version, created_at
    FROM new_scores
    ORDER BY number
    RETURNING score_id
)

SELECT
    conflict_number,
    unknown_user_number,
    (
        SELECT
            pg_catalog.array_agg(
                number::text
                ORDER BY number
            )
        FROM existing
        WHERE is_different
    ) AS conflict_numbers,
    (
        SELECT pg_catalog.count(response_id)
        FROM stored
    ) AS responses,
    (
        SELECT pg_catalog.count(score_id)
        FROM stored_scores
    ) AS scores,
    (
        SELECT pg_catalog.count(number)
        FROM new_scores
    ) AS new_scores,
    (
        SELECT pg_catalog.count(number)
        FROM existing
        WHERE NOT is_different
    ) AS already_stored
FROM refused;
