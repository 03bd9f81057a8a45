-- squawk-disable-assume-in-transaction
-- Everybody's responses of one module, in the order of their keys.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses while it drops the index and builds it
--           anew under its name: reads and writes go on, in between without it.
-- Duration: two scans of the table, and waits for the transactions that were open before. Waiting
--           holds nobody up, so the timeouts are long.
-- If it stops half-way the index is missing or invalid. Apply again: the first statement drops it.
-- Undo:     the rollback builds the index on (module_slug) again.
-- depends: assessments-0009-question
-- transactional: false

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_module;

-- squawk-ignore prefer-robust-stmts
CREATE INDEX CONCURRENTLY idx_assessment_responses_module
ON assessment_responses (module_slug, response_id);
