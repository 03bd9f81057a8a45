-- Adds submission_key to assessment_responses: a UUID that the client makes for a submit, so that
-- it can be sent again, and that an import gives each row, so that it can be run again.
--
-- Locks:    ACCESS EXCLUSIVE on assessment_responses for the moment of the catalogue change. It
--           gives up after 2 s of waiting (lock_timeout) and leaves nothing behind.
-- Duration: milliseconds; a nullable column without a default rewrites no row.
-- Undo:     the rollback drops the column, with every key in it; responses and scores stay.
-- Code from before this migration goes on working on the new schema.
-- depends: assessments-0002-scores

SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE assessment_responses ADD COLUMN submission_key uuid;

COMMENT ON COLUMN assessment_responses.submission_key IS
'Made by the client, one for each submit that may be sent again; null where none was sent.';
