-- What the migrations build, for reading. Nothing runs this file: `yoyo apply` runs migrations/.
-- Written by `make reference` from the catalogue, the same on PostgreSQL 15 and 18.
--
-- The host's users (user_id) is referenced, and not created here.

CREATE TABLE assessment_responses (
    response_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    user_id bigint,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    anonymous_token uuid,
    content_id uuid,
    question_id text NOT NULL,
    module_slug text NOT NULL,
    learning_outcome_id text,
    answer_text text NOT NULL,
    answer_metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    submission_key uuid,
    CONSTRAINT assessment_responses_pkey PRIMARY KEY (response_id),
    CONSTRAINT assessment_responses_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(user_id) ON DELETE CASCADE,
    CONSTRAINT assessment_responses_answer_metadata_is_object CHECK ((jsonb_typeof(answer_metadata) = 'object'::text)),
    CONSTRAINT assessment_responses_exactly_one_owner CHECK ((num_nonnulls(user_id, anonymous_token) = 1))
);

CREATE INDEX idx_assessment_responses_anon
ON assessment_responses (anonymous_token, created_at DESC, response_id DESC)
WHERE (anonymous_token IS NOT NULL);

CREATE INDEX idx_assessment_responses_anon_created
ON assessment_responses (created_at, response_id)
WHERE (user_id IS NULL);

CREATE INDEX idx_assessment_responses_anon_module
ON assessment_responses (anonymous_token, module_slug, created_at DESC, response_id DESC)
WHERE (anonymous_token IS NOT NULL);

CREATE INDEX idx_assessment_responses_anon_question
ON assessment_responses (anonymous_token, question_id, created_at DESC, response_id DESC)
WHERE (anonymous_token IS NOT NULL);

CREATE INDEX idx_assessment_responses_module
ON assessment_responses (module_slug);

CREATE INDEX idx_assessment_responses_question
ON assessment_responses (question_id);

CREATE UNIQUE INDEX idx_assessment_responses_submission_key
ON assessment_responses (submission_key)
WHERE (submission_key IS NOT NULL);

CREATE INDEX idx_assessment_responses_user_created
ON assessment_responses (created_at, response_id)
WHERE (anonymous_token IS NULL);

CREATE INDEX idx_assessment_responses_user_id
ON assessment_responses (user_id, created_at DESC, response_id DESC)
WHERE (user_id IS NOT NULL);

CREATE INDEX idx_assessment_responses_user_module
ON assessment_responses (user_id, module_slug, created_at DESC, response_id DESC)
WHERE (user_id IS NOT NULL);

CREATE INDEX idx_assessment_responses_user_question
ON assessment_responses (user_id, question_id, created_at DESC, response_id DESC)
WHERE (user_id IS NOT NULL);

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
COMMENT ON COLUMN assessment_responses.submission_key IS
'Made by the client, one for each submit that may be sent again; null where none was sent.';

CREATE TABLE assessment_scores (
    score_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    response_id bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    score_data jsonb NOT NULL,
    model_id text,
    prompt_version text,
    CONSTRAINT assessment_scores_pkey PRIMARY KEY (score_id),
    CONSTRAINT assessment_scores_response_id_fkey FOREIGN KEY (response_id) REFERENCES assessment_responses(response_id) ON DELETE CASCADE,
    CONSTRAINT assessment_scores_score_data_is_object CHECK ((jsonb_typeof(score_data) = 'object'::text))
);

CREATE INDEX idx_assessment_scores_response_id
ON assessment_scores (response_id);

COMMENT ON TABLE assessment_scores IS
'What an AI or a person made of a response. Append-only: the newest row is the current score, the others its history.';
COMMENT ON COLUMN assessment_scores.score_id IS
'Key. Ascending in order of insertion, with gaps.';
COMMENT ON COLUMN assessment_scores.response_id IS
'The response scored. Deleting it deletes its scores.';
COMMENT ON COLUMN assessment_scores.created_at IS
'Start of the transaction that stored the score.';
COMMENT ON COLUMN assessment_scores.score_data IS
'JSON object of the scorer''s own: points, rubric, feedback and the like. Personal data.';
COMMENT ON COLUMN assessment_scores.model_id IS
'What scored: a model''s name and version, or null for a person.';
COMMENT ON COLUMN assessment_scores.prompt_version IS
'The prompt or rubric that it scored by.';
