-- squawk-disable-assume-in-transaction
-- Unclaimed responses by age, with a predicate that names the other owner's column: it holds for
-- the same rows, and no read by owner implies it. Where statistics know one owner only, as in a new
-- service, such reads took the index of 0011, past every other owner's newer rows.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses while it drops the index and builds it
--           anew under its name: reads and writes go on. A purge sorts what it erases until then,
--           and where its code is older than this migration.
-- Duration: two scans of the table, and waits for the transactions that were open before. Waiting
--           holds nobody up, so the timeouts are long. Only anonymous owners' rows are in it.
-- If it stops half-way the index is missing or invalid. Apply again: the first statement drops it.
-- Undo:     the rollback builds the index of 0011 again.
-- depends: assessments-0012-user-created
-- transactional: false

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_anon_created;

-- squawk-ignore prefer-robust-stmts
CREATE INDEX CONCURRENTLY idx_assessment_responses_anon_created
ON assessment_responses (created_at, response_id)
WHERE user_id IS NULL;
