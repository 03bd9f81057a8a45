-- squawk-disable-assume-in-transaction
-- Everybody's responses to one question. What a user has answered is found in the index of 0005: so
-- the user need not be in this one, a fifth of the size without.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses while it drops the index and builds it
--           anew under its name: reads and writes go on, in between without it.
-- Duration: two scans of the table, and waits for the transactions that were open before. Waiting
--           holds nobody up, so the timeouts are long.
-- If it stops half-way the index is missing or invalid. Apply again: the first statement drops it.
-- Undo:     the rollback builds the index on (question_id, user_id) again.
-- depends: assessments-0008-anon-module
-- transactional: false

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_question;

-- squawk-ignore prefer-robust-stmts
CREATE INDEX CONCURRENTLY idx_assessment_responses_question
ON assessment_responses (question_id);
