-- squawk-disable-assume-in-transaction
-- Loses no data. Builds the index as it was before.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses: reads and writes go on.

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_user_created;

-- squawk-ignore prefer-robust-stmts
CREATE INDEX CONCURRENTLY idx_assessment_responses_user_created
ON assessment_responses (created_at, response_id)
WHERE user_id IS NOT NULL;
