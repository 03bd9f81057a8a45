-- Loses data: every submission key. Responses and scores stay.
--
-- Locks:    ACCESS EXCLUSIVE on assessment_responses for the moment of the catalogue change. It
--           gives up after 2 s of waiting.

SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE assessment_responses DROP COLUMN submission_key;
