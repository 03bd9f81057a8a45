-- squawk-disable-assume-in-transaction
-- Makes submission keys unique: one row for each, whoever owns it.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses while it builds: reads and writes go on.
-- Duration: two scans of the table, and a wait for the transactions that were open before. Waiting
--           holds nobody up, so the timeouts are long. Only rows with a key are in the index.
-- If it stops half-way it leaves an invalid index behind. Apply again: the first statement drops it.
-- Undo:     the rollback drops the index.
-- depends: assessments-0003-submission-key
-- transactional: false

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_submission_key;

-- squawk-ignore prefer-robust-stmts
CREATE UNIQUE INDEX CONCURRENTLY idx_assessment_responses_submission_key
ON assessment_responses (submission_key)
WHERE submission_key IS NOT NULL;
