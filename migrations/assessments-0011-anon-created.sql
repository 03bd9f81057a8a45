-- squawk-disable-assume-in-transaction
-- Unclaimed responses by age, for a purge.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses while it builds: reads and writes go on.
-- Duration: two scans of the table, and a wait for the transactions that were open before. Waiting
--           holds nobody up, so the timeouts are long. Only anonymous owners' rows are in the index.
-- If it stops half-way it leaves an invalid index behind. Apply again: the first statement drops it.
-- Undo:     the rollback drops the index.
-- depends: assessments-0010-user-created
-- transactional: false

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_anon_created;

-- squawk-ignore prefer-robust-stmts
CREATE INDEX CONCURRENTLY idx_assessment_responses_anon_created
ON assessment_responses (created_at, response_id)
WHERE anonymous_token IS NOT NULL;
