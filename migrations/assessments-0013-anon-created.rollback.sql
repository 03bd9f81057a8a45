-- squawk-disable-assume-in-transaction
-- Loses no data. Builds the index as it was before.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses: reads and writes go on.

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_anon_created;

-- squawk-ignore prefer-robust-stmts
CREATE INDEX CONCURRENTLY idx_assessment_responses_anon_created
ON assessment_responses (created_at, response_id)
WHERE anonymous_token IS NOT NULL;
