-- The figures of assessments report, for the service's own people: sums over all responses and
-- scores, of everybody. Each query reads all of what its filters leave, by design, and returns a
-- bounded number of rows. A report runs all of them in one REPEATABLE READ, READ ONLY transaction,
-- so that its figures agree.
--
-- This text is what runs; the form is explained in submissions.sql and in sql/README.md. Filters
-- that are null leave everything: responses created from since (inclusive) to until (exclusive),
-- and those of a module. A scorer is a model_id, null for a person, with a prompt_version; of a
-- scorer's scores of one response the newest counts. Points are the number at points_path in
-- score_data; with of_path, divided by the number there. What is no number, or beyond 1e12, is
-- without points. A bucket is a step of the scale that begins at low; points beyond either end
-- are in the bucket there. Responses are joined to scores by LEFT JOIN, though each score has one,
-- so that PostgreSQL leaves the join out where no filter needs it.


-- name: report_totals(since, until, module_slug)^
-- How many responses there are, by owner, and from when to when. Reads all of
-- assessment_responses.
SELECT
    pg_catalog.count(*) AS responses,
    pg_catalog.count(user_id) AS signed_in,
    pg_catalog.count(anonymous_token) AS anonymous,
    pg_catalog.min(created_at) AS first_at,
    pg_catalog.max(created_at) AS last_at,
    pg_catalog.now() AS made_at,
    pg_catalog.current_database()::text AS database_name
FROM assessment_responses
WHERE
    (:module_slug::text IS NULL OR module_slug = :module_slug::text)
    AND (:since::timestamptz IS NULL OR created_at >= :since::timestamptz)
    AND (:until::timestamptz IS NULL OR created_at < :until::timestamptz);


-- name: report_updates()^
-- How many rows of assessment_responses PostgreSQL's statistics count as updated, and since when:
-- null for since the database was created. The claim is this library's only update of the table.
-- Reads statistics only.
SELECT
    t.n_tup_upd AS updates,
    (
        SELECT d.stats_reset
        FROM pg_catalog.pg_stat_database AS d
        WHERE d.datname = pg_catalog.current_database()
    ) AS counted_since
FROM pg_catalog.pg_stat_user_tables AS t
WHERE t.relid = pg_catalog.to_regclass('assessment_responses')::oid;


-- name: report_periods(unit, since, until, module_slug)
-- Responses by owner in each day, week, month or year (unit) of UTC, oldest first, without gaps.
-- Reads all of assessment_responses.
WITH counted AS (
    SELECT
        pg_catalog.date_trunc(:unit::text, created_at AT TIME ZONE 'UTC') AS started_at,
        pg_catalog.count(user_id) AS signed_in,
        pg_catalog.count(anonymous_token) AS anonymous
    FROM assessment_responses
    WHERE
        (:module_slug::text IS NULL OR module_slug = :module_slug::text)
        AND (:since::timestamptz IS NULL OR created_at >= :since::timestamptz)
        AND (:until::timestamptz IS NULL OR created_at < :until::timestamptz)
    GROUP BY started_at
),

ends AS (
    SELECT
        pg_catalog.min(started_at) AS first_at,
        pg_catalog.max(started_at) AS last_at
    FROM counted
)

SELECT
    p.number,
    p.started_at::date AS started_on,
    coalesce(c.signed_in, 0) AS signed_in,
    coalesce(c.anonymous, 0) AS anonymous
FROM ends AS e
CROSS JOIN
    LATERAL pg_catalog.generate_series(
        e.first_at, e.last_at, pg_catalog.concat('1 '::text, :unit::text)::interval
    ) WITH ORDINALITY AS p (started_at, number)
LEFT JOIN counted AS c ON p.started_at = c.started_at
ORDER BY p.number;


-- name: report_modules(since, until, module_slug)
-- Responses by owner, and those without a score, of the 20 modules with the most, largest first;
-- then the rest in one row with a null name; modules counts those in a row. Reads all of
-- assessment_responses, and the keys of all scores.
WITH counted AS (
    SELECT
        r.module_slug AS module_name,
        pg_catalog.count(*) AS responses,
        pg_catalog.count(r.user_id) AS signed_in,
        pg_catalog.count(r.anonymous_token) AS anonymous,
        pg_catalog.count(*) FILTER (
            WHERE NOT EXISTS (
                SELECT 1
                FROM assessment_scores AS s
                WHERE s.response_id = r.response_id
            )
        ) AS unscored
    FROM assessment_responses AS r
    WHERE
        (:module_slug::text IS NULL OR r.module_slug = :module_slug::text)
        AND (:since::timestamptz IS NULL OR r.created_at >= :since::timestamptz)
        AND (:until::timestamptz IS NULL OR r.created_at < :until::timestamptz)
    GROUP BY r.module_slug
),

ranked AS (
    SELECT
        module_name, signed_in, anonymous, unscored,
        least(pg_catalog.row_number() OVER (ORDER BY responses DESC, module_name ASC), 21) AS number
    FROM counted
)

SELECT
    CASE WHEN number < 21 THEN pg_catalog.min(module_name) END AS module_slug,
    pg_catalog.sum(signed_in)::bigint AS signed_in,
    pg_catalog.sum(anonymous)::bigint AS anonymous,
    pg_catalog.sum(unscored)::bigint AS unscored,
    pg_catalog.count(*) AS modules
FROM ranked
GROUP BY number
ORDER BY number;


-- name: report_backlog(since, until, module_slug)^
-- Responses without any score: how many, the oldest, and their ages. Reads all of
-- assessment_responses, and the keys of all scores.
SELECT
    pg_catalog.count(*) AS responses,
    pg_catalog.min(r.created_at) AS oldest_at,
    pg_catalog.count(*) FILTER (
        WHERE r.created_at > pg_catalog.now() - '1 hour'::interval
    ) AS within_hour,
    pg_catalog.count(*) FILTER (
        WHERE
        r.created_at <= pg_catalog.now() - '1 hour'::interval
        AND r.created_at > pg_catalog.now() - '1 day'::interval
    ) AS within_day,
    pg_catalog.count(*) FILTER (
        WHERE
        r.created_at <= pg_catalog.now() - '1 day'::interval
        AND r.created_at > pg_catalog.now() - '7 days'::interval
    ) AS within_week,
    pg_catalog.count(*) FILTER (
        WHERE r.created_at <= pg_catalog.now() - '7 days'::interval
    ) AS older
FROM assessment_responses AS r
WHERE
    (:module_slug::text IS NULL OR r.module_slug = :module_slug::text)
    AND (:since::timestamptz IS NULL OR r.created_at >= :since::timestamptz)
    AND (:until::timestamptz IS NULL OR r.created_at < :until::timestamptz)
    AND NOT EXISTS (
        SELECT 1
        FROM assessment_scores AS s
        WHERE s.response_id = r.response_id
    );


-- name: report_delays(since, until, module_slug)^
-- The seconds from a response to its first score: percentiles, and how many are in each bucket.
-- A score dated before its response counts as 0 seconds. Reads all of both tables.
WITH first_scores AS (
    SELECT
        response_id,
        pg_catalog.min(created_at) AS scored_at
    FROM assessment_scores
    GROUP BY response_id
),

delays AS (
    SELECT
        greatest(
            pg_catalog.date_part('epoch'::text, f.scored_at - r.created_at), 0::double precision
        ) AS seconds
    FROM first_scores AS f
    INNER JOIN assessment_responses AS r ON f.response_id = r.response_id
    WHERE
        (:module_slug::text IS NULL OR r.module_slug = :module_slug::text)
        AND (:since::timestamptz IS NULL OR r.created_at >= :since::timestamptz)
        AND (:until::timestamptz IS NULL OR r.created_at < :until::timestamptz)
)

SELECT
    pg_catalog.count(*) AS responses,
    pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median,
    pg_catalog.percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds) AS p90,
    pg_catalog.percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds) AS p99,
    pg_catalog.count(*) FILTER (WHERE seconds < 1) AS within_1s,
    pg_catalog.count(*) FILTER (WHERE seconds >= 1 AND seconds < 10) AS within_10s,
    pg_catalog.count(*) FILTER (WHERE seconds >= 10 AND seconds < 60) AS within_1m,
    pg_catalog.count(*) FILTER (WHERE seconds >= 60 AND seconds < 600) AS within_10m,
    pg_catalog.count(*) FILTER (WHERE seconds >= 600 AND seconds < 3600) AS within_1h,
    pg_catalog.count(*) FILTER (WHERE seconds >= 3600 AND seconds < 21600) AS within_6h,
    pg_catalog.count(*) FILTER (WHERE seconds >= 21600 AND seconds < 86400) AS within_1d,
    pg_catalog.count(*) FILTER (WHERE seconds >= 86400 AND seconds < 604800) AS within_1w,
    pg_catalog.count(*) FILTER (WHERE seconds >= 604800) AS longer
FROM delays;


-- name: report_points(since, until, module_slug, points_path, of_path)^
-- What the scale of the points is chosen by: how many scores there are, by persons and with points,
-- the ends of the points, and whether all are whole and of one number. Reads all of both tables.
WITH numbers AS (
    SELECT
        s.model_id IS NULL AS is_person,
        s.score_data #> :points_path::text[] AS earned,
        s.score_data #> :of_path::text[] AS possible,
        pg_catalog.count(*) AS scores
    FROM assessment_scores AS s
    LEFT JOIN assessment_responses AS r ON s.response_id = r.response_id
    WHERE
        (:module_slug::text IS NULL OR r.module_slug = :module_slug::text)
        AND (:since::timestamptz IS NULL OR r.created_at >= :since::timestamptz)
        AND (:until::timestamptz IS NULL OR r.created_at < :until::timestamptz)
    GROUP BY is_person, earned, possible
),

parsed AS MATERIALIZED (
    SELECT
        is_person, scores,
        CASE WHEN pg_catalog.jsonb_typeof(earned) = 'number' THEN earned::numeric END AS earned,
        CASE
            WHEN pg_catalog.jsonb_typeof(possible) = 'number' THEN possible::numeric
        END AS possible
    FROM numbers
),

valued AS MATERIALIZED (
    SELECT
        is_person, scores, earned, possible,
        CASE
            WHEN :of_path::text[] IS NULL THEN pg_catalog.round(earned, 9)
            WHEN possible > 0 THEN pg_catalog.round(earned / possible, 9)
        END AS points
    FROM parsed
)

SELECT
    coalesce(pg_catalog.sum(scores), 0)::bigint AS scores,
    coalesce(pg_catalog.sum(scores) FILTER (WHERE is_person), 0)::bigint AS by_person,
    coalesce(
        pg_catalog.sum(scores) FILTER (WHERE pg_catalog.abs(points) <= 1e12), 0
    )::bigint AS with_points,
    pg_catalog.min(points) FILTER (
        WHERE pg_catalog.abs(points) <= 1e12
    )::double precision AS lowest,
    pg_catalog.max(points) FILTER (
        WHERE pg_catalog.abs(points) <= 1e12
    )::double precision AS highest,
    pg_catalog.bool_and(earned = pg_catalog.trunc(earned)) FILTER (
        WHERE pg_catalog.abs(points) <= 1e12
    ) AS are_whole,
    -- What all points are of, where that is one whole number up to 20.
    CASE
        WHEN
            pg_catalog.min(possible) = pg_catalog.max(possible)
            AND pg_catalog.min(possible) = pg_catalog.trunc(pg_catalog.min(possible))
            AND pg_catalog.min(possible) BETWEEN 1 AND 20
            THEN pg_catalog.min(possible)::integer
    END AS possible
FROM valued;


-- name: report_scorers(since, until, module_slug, points_path, of_path, low, step, buckets)
-- The 12 scorers with the most responses, largest first, with a row for each bucket that holds any
-- and a null one for responses without points. Reads all of both tables, the scores in the order of
-- their responses.
WITH newest AS (
    SELECT DISTINCT ON (s.response_id, s.model_id, s.prompt_version)
        s.response_id, s.model_id, s.prompt_version, s.score_data
    FROM assessment_scores AS s
    LEFT JOIN assessment_responses AS r ON s.response_id = r.response_id
    WHERE
        (:module_slug::text IS NULL OR r.module_slug = :module_slug::text)
        AND (:since::timestamptz IS NULL OR r.created_at >= :since::timestamptz)
        AND (:until::timestamptz IS NULL OR r.created_at < :until::timestamptz)
    ORDER BY
        s.response_id ASC, s.model_id ASC, s.prompt_version ASC, s.created_at DESC, s.score_id DESC
),

numbers AS (
    SELECT
        model_id, prompt_version,
        score_data #> :points_path::text[] AS earned,
        score_data #> :of_path::text[] AS possible,
        pg_catalog.count(*) AS responses
    FROM newest
    GROUP BY model_id, prompt_version, earned, possible
),

shares AS MATERIALIZED (
    SELECT
        model_id, prompt_version, responses,
        CASE
            WHEN pg_catalog.jsonb_typeof(earned) <> 'number' THEN NULL
            WHEN :of_path::text[] IS NULL THEN pg_catalog.round(earned::numeric, 9)
            WHEN pg_catalog.jsonb_typeof(possible) <> 'number' THEN NULL
            WHEN possible::numeric > 0
                THEN pg_catalog.round(earned::numeric / possible::numeric, 9)
        END AS points
    FROM numbers
),

valued AS (
    SELECT
        model_id, prompt_version, responses,
        CASE WHEN pg_catalog.abs(points) <= 1e12 THEN points::double precision END AS points
    FROM shares
),

cells AS (
    SELECT
        model_id, prompt_version,
        -- In a scale of shares a step may be a rounded one: 1/3.
        CASE
            WHEN points IS NOT NULL
                THEN
                    least(
                        greatest(
                            pg_catalog.floor(
                                (points - :low::double precision) / :step::double precision
                                + 1e-6::double precision
                            ),
                            0::double precision
                        ),
                        (:buckets::bigint - 1)::double precision
                    )::bigint
        END AS bucket,
        pg_catalog.sum(responses)::bigint AS responses,
        pg_catalog.sum(points * responses::double precision) AS earned
    FROM valued
    GROUP BY model_id, prompt_version, bucket
),

summed AS (
    SELECT
        model_id, prompt_version, bucket, responses,
        pg_catalog.sum(responses) OVER (
            PARTITION BY model_id, prompt_version
        )::bigint AS all_responses,
        pg_catalog.sum(responses) FILTER (WHERE bucket IS NOT NULL) OVER (
            PARTITION BY model_id, prompt_version
        )::bigint AS with_points,
        pg_catalog.sum(earned) OVER (
            PARTITION BY model_id, prompt_version
        ) AS all_points
    FROM cells
),

ranked AS (
    SELECT
        model_id, prompt_version, bucket, responses, all_responses, with_points, all_points,
        pg_catalog.dense_rank() OVER (
            ORDER BY all_responses DESC, model_id ASC, prompt_version ASC
        ) AS number
    FROM summed
)

SELECT
    number, model_id, prompt_version, all_responses, bucket, responses,
    coalesce(with_points, 0) AS with_points,
    all_points / with_points::double precision AS mean
FROM ranked
WHERE number <= 12
ORDER BY bucket NULLS FIRST, number;


-- name: report_pairs(since, until, module_slug, points_path, of_path, low, step, buckets)
-- How pairs of scorers scored the same responses: first a person and a model, then two prompt
-- versions of one model, then others; of each kind those with the most responses in common before
-- the rest. 6 pairs, each with a row for each pair of buckets that holds any. kappa is Cohen's with
-- quadratic weights, null where all points are the same. Reads all of both tables, as
-- report_scorers does.
WITH newest AS (
    SELECT DISTINCT ON (s.response_id, s.model_id, s.prompt_version)
        s.response_id, s.model_id, s.prompt_version, s.score_data
    FROM assessment_scores AS s
    LEFT JOIN assessment_responses AS r ON s.response_id = r.response_id
    WHERE
        (:module_slug::text IS NULL OR r.module_slug = :module_slug::text)
        AND (:since::timestamptz IS NULL OR r.created_at >= :since::timestamptz)
        AND (:until::timestamptz IS NULL OR r.created_at < :until::timestamptz)
    ORDER BY
        s.response_id ASC, s.model_id ASC, s.prompt_version ASC, s.created_at DESC, s.score_id DESC
),

numbers AS (
    SELECT
        response_id, model_id, prompt_version,
        score_data #> :points_path::text[] AS earned,
        score_data #> :of_path::text[] AS possible,
        pg_catalog.count(*) OVER (PARTITION BY response_id) AS scorers
    FROM newest
),

shares AS MATERIALIZED (
    SELECT
        response_id, model_id, prompt_version,
        CASE
            WHEN pg_catalog.jsonb_typeof(earned) <> 'number' THEN NULL
            WHEN :of_path::text[] IS NULL THEN pg_catalog.round(earned::numeric, 9)
            WHEN pg_catalog.jsonb_typeof(possible) <> 'number' THEN NULL
            WHEN possible::numeric > 0
                THEN pg_catalog.round(earned::numeric / possible::numeric, 9)
        END AS points
    FROM numbers
    WHERE scorers > 1
),

valued AS MATERIALIZED (
    SELECT
        response_id, model_id, prompt_version,
        points::double precision AS points,
        least(
            greatest(
                pg_catalog.floor(
                    (points::double precision - :low::double precision)
                    / :step::double precision + 1e-6::double precision
                ),
                0::double precision
            ),
            (:buckets::bigint - 1)::double precision
        )::bigint AS bucket
    FROM shares
    WHERE pg_catalog.abs(points) <= 1e12
),

paired AS MATERIALIZED (
    SELECT
        a.model_id AS a_model, a.prompt_version AS a_prompt, a.points AS a_points,
        a.bucket AS a_bucket, b.model_id AS b_model, b.prompt_version AS b_prompt,
        b.points AS b_points, b.bucket AS b_bucket, b.points - a.points AS difference
    FROM valued AS a
    INNER JOIN valued AS b ON a.response_id = b.response_id
    WHERE
        -- A person goes before a model.
        (
            a.model_id IS NOT NULL, coalesce(a.model_id, ''),
            a.prompt_version IS NOT NULL, coalesce(a.prompt_version, '')
        ) < (
            b.model_id IS NOT NULL, coalesce(b.model_id, ''),
            b.prompt_version IS NOT NULL, coalesce(b.prompt_version, '')
        )
),

moments AS (
    SELECT
        a_model, a_prompt, b_model, b_prompt,
        CASE
            WHEN a_model IS NULL AND b_model IS NOT NULL THEN 1
            WHEN a_model = b_model THEN 2
            ELSE 3
        END AS kind,
        pg_catalog.count(*) AS responses,
        pg_catalog.count(*) FILTER (
            WHERE pg_catalog.abs(difference) < 1e-6::double precision
        ) AS agreeing,
        pg_catalog.count(*) FILTER (
            WHERE
            pg_catalog.abs(difference) < :step::double precision + 1e-6::double precision
        ) AS near,
        pg_catalog.avg(difference) AS mean_difference,
        pg_catalog.var_pop(difference)
        + pg_catalog.power(pg_catalog.avg(difference), 2::double precision) AS observed,
        pg_catalog.var_pop(a_points) + pg_catalog.var_pop(b_points)
        + pg_catalog.power(
            pg_catalog.avg(a_points) - pg_catalog.avg(b_points), 2::double precision
        ) AS expected
    FROM paired
    GROUP BY a_model, a_prompt, b_model, b_prompt
),

ranked AS (
    SELECT
        a_model, a_prompt, b_model, b_prompt, responses, agreeing, near,
        mean_difference,
        CASE
            WHEN expected > 1e-12::double precision THEN 1::double precision - observed / expected
        END AS kappa,
        pg_catalog.row_number() OVER (
            ORDER BY
                kind ASC, responses DESC, a_model ASC, a_prompt ASC, b_model ASC, b_prompt ASC
        ) AS number
    FROM moments
),

cells AS (
    SELECT
        a_model, a_prompt, b_model, b_prompt, a_bucket, b_bucket,
        pg_catalog.count(*) AS responses
    FROM paired
    GROUP BY a_model, a_prompt, b_model, b_prompt, a_bucket, b_bucket
)

SELECT
    k.number, k.a_model, k.a_prompt, k.b_model, k.b_prompt,
    k.responses AS all_responses, k.agreeing, k.near, k.mean_difference, k.kappa, c.a_bucket,
    c.b_bucket, c.responses
FROM ranked AS k
INNER JOIN cells AS c
    ON
        k.a_model IS NOT DISTINCT FROM c.a_model
        AND k.a_prompt IS NOT DISTINCT FROM c.a_prompt
        AND k.b_model IS NOT DISTINCT FROM c.b_model
        AND k.b_prompt IS NOT DISTINCT FROM c.b_prompt
WHERE k.number <= 6
ORDER BY c.a_bucket, c.b_bucket, k.number;


-- name: report_differences(since, until, module_slug, points_path, of_path, a_models, a_prompts, b_models, b_prompts, with_answers)
-- For each pair of scorers the 10 responses whose points by the two differ most, the most first,
-- with the answer's text only if it is asked for. number is the pair's in the arrays. Reads all of
-- both tables, as report_pairs does.
WITH newest AS (
    SELECT DISTINCT ON (s.response_id, s.model_id, s.prompt_version)
        s.response_id, s.model_id, s.prompt_version, s.score_data
    FROM assessment_scores AS s
    LEFT JOIN assessment_responses AS r ON s.response_id = r.response_id
    WHERE
        (:module_slug::text IS NULL OR r.module_slug = :module_slug::text)
        AND (:since::timestamptz IS NULL OR r.created_at >= :since::timestamptz)
        AND (:until::timestamptz IS NULL OR r.created_at < :until::timestamptz)
    ORDER BY
        s.response_id ASC, s.model_id ASC, s.prompt_version ASC, s.created_at DESC, s.score_id DESC
),

numbers AS (
    SELECT
        response_id, model_id, prompt_version,
        score_data #> :points_path::text[] AS earned,
        score_data #> :of_path::text[] AS possible,
        pg_catalog.count(*) OVER (PARTITION BY response_id) AS scorers
    FROM newest
),

shares AS MATERIALIZED (
    SELECT
        response_id, model_id, prompt_version,
        CASE
            WHEN pg_catalog.jsonb_typeof(earned) <> 'number' THEN NULL
            WHEN :of_path::text[] IS NULL THEN pg_catalog.round(earned::numeric, 9)
            WHEN pg_catalog.jsonb_typeof(possible) <> 'number' THEN NULL
            WHEN possible::numeric > 0
                THEN pg_catalog.round(earned::numeric / possible::numeric, 9)
        END AS points
    FROM numbers
    WHERE scorers > 1
),

valued AS MATERIALIZED (
    SELECT response_id, model_id, prompt_version, points
    FROM shares
    WHERE pg_catalog.abs(points) <= 1e12
),

pairs AS (
    SELECT number, a_model, a_prompt, b_model, b_prompt
    FROM
        unnest(
            :a_models::text[], :a_prompts::text[], :b_models::text[], :b_prompts::text[]
        ) WITH ORDINALITY AS p (a_model, a_prompt, b_model, b_prompt, number)
),

compared AS (
    SELECT
        p.number, a.response_id, a.points AS a_points, b.points AS b_points,
        pg_catalog.row_number() OVER (
            PARTITION BY p.number
            ORDER BY pg_catalog.abs(b.points - a.points) DESC, a.response_id ASC
        ) AS place
    FROM valued AS a
    INNER JOIN pairs AS p
        ON
            a.model_id IS NOT DISTINCT FROM p.a_model
            AND a.prompt_version IS NOT DISTINCT FROM p.a_prompt
    INNER JOIN valued AS b
        ON
            a.response_id = b.response_id
            AND p.b_model IS NOT DISTINCT FROM b.model_id
            AND p.b_prompt IS NOT DISTINCT FROM b.prompt_version
    WHERE pg_catalog.abs(b.points - a.points) >= 1e-6
)

SELECT
    c.number, r.question_id, r.response_id,
    c.a_points::double precision AS a_points,
    c.b_points::double precision AS b_points,
    CASE WHEN :with_answers::boolean THEN r.answer_text END AS answer_text
FROM compared AS c
INNER JOIN assessment_responses AS r ON c.response_id = r.response_id
WHERE c.place <= 10
ORDER BY c.place, c.number;
