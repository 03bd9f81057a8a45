-- squawk-disable-assume-in-transaction
-- A user's responses to one question, newest first: pages, attempts, the newest of each question, and
-- the claim's look at what the user has answered.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses while it builds: reads and writes go on.
-- Duration: two scans of the table, and a wait for the transactions that were open before. Waiting
--           holds nobody up, so the timeouts are long. Only signed-in users' rows are in the index.
-- If it stops half-way it leaves an invalid index behind. Apply again: the first statement drops it.
-- Undo:     the rollback drops the index.
-- depends: assessments-0004-submission-key-index
-- transactional: false

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_user_question;

-- squawk-ignore prefer-robust-stmts
CREATE INDEX CONCURRENTLY idx_assessment_responses_user_question
ON assessment_responses (user_id, question_id, created_at DESC, response_id DESC)
WHERE user_id IS NOT NULL;
