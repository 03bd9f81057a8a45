-- What assessments explain --analyze takes its arguments from, with get_responses.
-- Not for request handlers: no owner is checked here.
--
-- This text is what runs; the form is explained in submissions.sql and in sql/README.md.


-- name: get_sample_owners()
-- Of the users, and of the anonymous owners, the one with the most responses and then the one in
-- the middle, of whom as many have more as have fewer: once, where that is the same. An id is a
-- user_id or an anonymous_token, as text. Counts everybody's responses.
WITH counted AS (
    SELECT
        TRUE AS is_user, user_id::text AS owner_id, pg_catalog.count(*) AS responses
    FROM assessment_responses
    WHERE user_id IS NOT NULL
    GROUP BY user_id
    UNION ALL
    SELECT
        FALSE AS is_user, anonymous_token::text AS owner_id, pg_catalog.count(*) AS responses
    FROM assessment_responses
    WHERE anonymous_token IS NOT NULL
    GROUP BY anonymous_token
),

placed AS (
    SELECT
        is_user, owner_id, responses,
        pg_catalog.row_number()
            OVER (PARTITION BY is_user ORDER BY responses DESC, owner_id ASC)
            AS place,
        pg_catalog.count(*) OVER (PARTITION BY is_user) AS owners
    FROM counted
)

SELECT is_user, owner_id, responses
FROM placed
WHERE place IN (1, (owners + 1) / 2)
ORDER BY is_user DESC, place ASC, owner_id ASC;
