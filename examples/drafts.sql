-- Drafts: the host's own table beside the library's, for an answer box that saves as one types.
--
-- A response is never edited, so text in progress stays here until Finish, which deletes the draft
-- and submits a response with the draft's key as its submission key, in one transaction. aiosql
-- reads this file; drafts.py has the calls that need more than one statement.
--
-- Locks: whatever touches both tables takes the drafts first, then the responses, and several
-- drafts in the order of their keys. At READ COMMITTED.


-- name: create_drafts#
-- For the host's migrations. One draft for each owner and question: the constraint's index also
-- finds an owner's drafts and serves the foreign key's cascade. No other index, so that an autosave
-- changes none.
CREATE TABLE answer_drafts (
    draft_key uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    user_id bigint,
    anonymous_token uuid,
    revision bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    question_id text NOT NULL,
    answer_text text NOT NULL DEFAULT '',
    answer_metadata jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT answer_drafts_pkey PRIMARY KEY (draft_key),
    CONSTRAINT answer_drafts_one_per_owner_and_question
    UNIQUE NULLS NOT DISTINCT (user_id, anonymous_token, question_id),
    CONSTRAINT answer_drafts_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES users (user_id) ON DELETE CASCADE,
    CONSTRAINT answer_drafts_exactly_one_owner
    CHECK (pg_catalog.num_nonnulls(user_id, anonymous_token) = 1)
);


-- name: open_draft(user_id, anonymous_token, question_id)^
-- Returns the owner's draft for the question, a new and empty one if there is none. Only this query
-- creates drafts and only the database creates their keys, so nothing that arrives late brings a
-- finished draft back. The update changes nothing: DO NOTHING would return no row. For a user it
-- waits for a claim in progress; a null user locks nothing.
WITH turn AS MATERIALIZED (
    SELECT
        pg_catalog.pg_advisory_xact_lock(
            pg_catalog.hashtextextended('drafts of user ' || :user_id::bigint::text, 0::bigint)
        ) AS is_taken
)

INSERT INTO answer_drafts (user_id, anonymous_token, question_id)
SELECT
    :user_id::bigint, :anonymous_token::uuid, :question_id::text
FROM turn
ON CONFLICT ON CONSTRAINT answer_drafts_one_per_owner_and_question
DO UPDATE SET question_id = excluded.question_id
RETURNING
    draft_key, revision, updated_at, question_id, answer_text,
    answer_metadata::varchar AS answer_metadata;


-- name: save_draft(draft_key, user_id, anonymous_token, revision, answer_text, answer_metadata)$
-- The autosave. Returns the revision, or nothing if nothing was saved: the draft is finished,
-- another owner's or gone, or it has this revision or a higher one already, from another tab or
-- from a save that overtook this one.
UPDATE answer_drafts
SET
    revision = :revision::bigint,
    updated_at = pg_catalog.now(),
    answer_text = :answer_text::text,
    answer_metadata = :answer_metadata::varchar::jsonb
WHERE
    draft_key = :draft_key::uuid
    AND (user_id = :user_id::bigint OR anonymous_token = :anonymous_token::uuid)
    AND revision < :revision::bigint
RETURNING revision;


-- name: get_drafts(user_id, anonymous_token)
-- The drafts of either owner, the last saved first.
SELECT
    draft_key, revision, updated_at, question_id, answer_text,
    answer_metadata::varchar AS answer_metadata
FROM answer_drafts
WHERE user_id = :user_id::bigint AND anonymous_token IS NULL
UNION ALL
SELECT
    draft_key, revision, updated_at, question_id, answer_text,
    answer_metadata::varchar AS answer_metadata
FROM answer_drafts
WHERE user_id IS NULL AND anonymous_token = :anonymous_token::uuid
ORDER BY updated_at DESC, draft_key ASC;


-- name: take_draft(draft_key, user_id, anonymous_token)$
-- Deletes the draft of either owner and returns its key, or nothing: it is taken, or another's.
DELETE FROM answer_drafts
WHERE
    draft_key = :draft_key::uuid
    AND (user_id = :user_id::bigint OR anonymous_token = :anonymous_token::uuid)
RETURNING draft_key;


-- name: draft_exists(draft_key)$
-- After take_draft returned nothing: whether the draft is another owner's.
SELECT
    exists(
        SELECT 1
        FROM answer_drafts
        WHERE draft_key = :draft_key::uuid
    ) AS draft_exists;


-- name: lock_claim_of_drafts(user_id)$
-- Before a claim, in its transaction and as a statement of its own, so that the claim sees what was
-- committed while this waited. Until the transaction ends no other claim for the user runs, and the
-- user opens no draft.
SELECT
    pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('drafts of user ' || :user_id::bigint::text, 0::bigint)
    ) AS user_lock;


-- name: claim_drafts(anonymous_token, user_id)!
-- Moves the token's drafts to the user. Where the user has a draft for the question, the token's
-- stays with the token: no text is merged or overwritten. Waits for a save or Finish in progress.
-- Only after lock_claim_of_drafts, in the same transaction.
WITH unclaimed AS MATERIALIZED (
    SELECT draft_key
    FROM answer_drafts
    WHERE user_id IS NULL AND anonymous_token = :anonymous_token::uuid
    ORDER BY draft_key ASC
    FOR UPDATE
)

UPDATE answer_drafts
SET
    user_id = :user_id::bigint,
    anonymous_token = NULL
WHERE
    draft_key = any((SELECT pg_catalog.array_agg(u.draft_key) FROM unclaimed AS u)::uuid[])
    AND (
        question_id = any((
            SELECT pg_catalog.array_agg(own.question_id)
            FROM answer_drafts AS own
            WHERE own.user_id = :user_id::bigint
        )::text[])
    ) IS NOT TRUE;


-- name: delete_drafts(user_id, anonymous_token)!
-- Erases the drafts of either owner.
WITH owned AS MATERIALIZED (
    SELECT draft_key
    FROM answer_drafts
    WHERE
        (user_id = :user_id::bigint AND anonymous_token IS NULL)
        OR (user_id IS NULL AND anonymous_token = :anonymous_token::uuid)
    ORDER BY draft_key ASC
    FOR UPDATE
)

DELETE FROM answer_drafts
WHERE draft_key = any((SELECT pg_catalog.array_agg(o.draft_key) FROM owned AS o)::uuid[]);


-- name: purge_drafts(older_than, max_rows)!
-- Purges at most max_rows drafts that were last saved longer ago. Reads the whole table; skips
-- drafts that are in use.
WITH old AS MATERIALIZED (
    SELECT draft_key
    FROM answer_drafts
    WHERE updated_at < pg_catalog.now() - :older_than::interval
    ORDER BY updated_at ASC, draft_key ASC
    LIMIT :max_rows::bigint
    FOR UPDATE SKIP LOCKED
)

DELETE FROM answer_drafts
WHERE draft_key = any((SELECT pg_catalog.array_agg(o.draft_key) FROM old AS o)::uuid[]);
