-- Creates assessment_scores: what an AI or a person made of a response. Rows are appended and
-- never changed, so the scores of a response are its history.
--
-- Locks:    SHARE ROW EXCLUSIVE on assessment_responses for the foreign key: submits wait until
--           this migration commits. It gives up after 2 s of waiting and leaves nothing behind.
-- Duration: milliseconds; the table is new.
-- Undo:     the rollback drops the table, with every score in it.
-- depends: assessments-0001-responses

SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '60s';

CREATE TABLE assessment_scores (
    score_id bigint GENERATED ALWAYS AS IDENTITY,
    response_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    score_data jsonb NOT NULL,
    model_id text,
    prompt_version text,
    CONSTRAINT assessment_scores_pkey PRIMARY KEY (score_id),
    CONSTRAINT assessment_scores_response_id_fkey
    FOREIGN KEY (response_id) REFERENCES assessment_responses (response_id) ON DELETE CASCADE,
    CONSTRAINT assessment_scores_score_data_is_object
    CHECK (jsonb_typeof(score_data) = 'object')
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
