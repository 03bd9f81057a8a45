-- Creates assessment_responses: one row for every attempt at a question, owned by exactly one
-- of a signed-in user and an anonymous visitor.
--
-- Needs:    the host's table users with an integer key user_id, found through search_path, and
--           REFERENCES on it. Nothing of the host is created, altered or dropped here.
-- Locks:    SHARE ROW EXCLUSIVE on users for the foreign key: writers to users wait until this
--           migration commits, readers do not. It gives up after 2 s of waiting (lock_timeout)
--           and leaves nothing behind: apply it again.
-- Duration: milliseconds; the table is new, so its indexes are built empty.
-- Undo:     the rollback drops the table, with every answer in it.
--
-- Columns stand in the order of their alignment (8-byte, 16-byte, variable), so that no row
-- carries padding. The two owner indexes begin with the owner, end with the list order, and
-- are partial: a row is in one of them only. They also serve the foreign key's cascade.
-- depends:

SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '60s';

DO $$
BEGIN
    IF to_regclass('users') IS NULL THEN
        RAISE EXCEPTION 'assessments needs the host''s table users (user_id), and there is none'
        USING ERRCODE = 'undefined_table',
        HINT = 'Create the host''s users table first, or put its schema on the search_path of '
        'this role. A service without users of its own applies migrations/standalone first.';
    END IF;
    IF NOT EXISTS (
        SELECT 1
        FROM pg_catalog.pg_attribute AS a
        INNER JOIN pg_catalog.pg_index AS i ON i.indrelid = a.attrelid
        WHERE
            a.attrelid = to_regclass('users')
            AND a.attname = 'user_id'
            AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
            AND i.indisunique
            AND i.indimmediate
            AND i.indisvalid
            AND i.indpred IS NULL
            AND i.indexprs IS NULL
            AND i.indnkeyatts = 1
            AND i.indkey[0] = a.attnum
    ) THEN
        RAISE EXCEPTION 'assessments needs users.user_id to be an integer PRIMARY KEY or UNIQUE'
        USING ERRCODE = 'datatype_mismatch',
        HINT = 'responses refer to users (user_id): smallint, integer or bigint, with a unique '
        'key of that one column. A host with another key keeps a small users table beside it.';
    END IF;
END
$$;

CREATE TABLE assessment_responses (
    response_id bigint GENERATED ALWAYS AS IDENTITY,
    user_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    anonymous_token uuid,
    content_id uuid,
    question_id text NOT NULL,
    module_slug text NOT NULL,
    learning_outcome_id text,
    answer_text text NOT NULL,
    answer_metadata jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT assessment_responses_pkey PRIMARY KEY (response_id),
    CONSTRAINT assessment_responses_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES users (user_id) ON DELETE CASCADE,
    CONSTRAINT assessment_responses_exactly_one_owner
    CHECK (num_nonnulls(user_id, anonymous_token) = 1),
    CONSTRAINT assessment_responses_answer_metadata_is_object
    CHECK (jsonb_typeof(answer_metadata) = 'object')
);

CREATE INDEX idx_assessment_responses_user_id
ON assessment_responses (user_id, created_at DESC, response_id DESC)
WHERE user_id IS NOT NULL;

CREATE INDEX idx_assessment_responses_anon
ON assessment_responses (anonymous_token, created_at DESC, response_id DESC)
WHERE anonymous_token IS NOT NULL;

CREATE INDEX idx_assessment_responses_question
ON assessment_responses (question_id, user_id);

CREATE INDEX idx_assessment_responses_module
ON assessment_responses (module_slug);

COMMENT ON TABLE assessment_responses IS
'Students'' free-text answers: one row for every attempt, owned by exactly one of user_id and anonymous_token.';
COMMENT ON COLUMN assessment_responses.response_id IS
'Key. Ascending in order of insertion, with gaps.';
COMMENT ON COLUMN assessment_responses.user_id IS
'Owner, once signed in. Deleting the user deletes the response.';
COMMENT ON COLUMN assessment_responses.created_at IS
'Start of the transaction that stored the response.';
COMMENT ON COLUMN assessment_responses.anonymous_token IS
'Owner, while anonymous: the random token in the visitor''s browser. A credential; do not log it.';
COMMENT ON COLUMN assessment_responses.content_id IS
'The piece of content that the question stood in, where the host keeps such ids.';
COMMENT ON COLUMN assessment_responses.question_id IS
'The question answered, in the host''s own naming.';
COMMENT ON COLUMN assessment_responses.module_slug IS
'The module that the question belongs to, in the host''s own naming.';
COMMENT ON COLUMN assessment_responses.learning_outcome_id IS
'The learning outcome that the question assesses, where there is one.';
COMMENT ON COLUMN assessment_responses.answer_text IS
'The answer exactly as given; blank is an answer. Personal data.';
COMMENT ON COLUMN assessment_responses.answer_metadata IS
'JSON object of the host''s own: locale, seconds taken, client version and the like.';
