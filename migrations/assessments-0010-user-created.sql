-- squawk-disable-assume-in-transaction
-- Signed-in users' responses by age, for a purge of all owners'.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses while it builds: reads and writes go on.
-- Duration: two scans of the table, and a wait for the transactions that were open before. Waiting
--           holds nobody up, so the timeouts are long. Only signed-in users' rows are in the index.
-- If it stops half-way it leaves an invalid index behind. Apply again: the first statement drops it.
-- Undo:     the rollback drops the index.
-- depends: assessments-0009-question
-- transactional: false

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_user_created;

-- squawk-ignore prefer-robust-stmts
CREATE INDEX CONCURRENTLY idx_assessment_responses_user_created
ON assessment_responses (created_at, response_id)
WHERE user_id IS NOT NULL;
