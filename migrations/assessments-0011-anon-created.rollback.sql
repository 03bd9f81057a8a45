-- Loses no data; a purge reads past what is too young.
--
-- Locks:    SHARE UPDATE EXCLUSIVE on assessment_responses: reads and writes go on.

SET lock_timeout = '600s';
SET statement_timeout = '3600s';

DROP INDEX CONCURRENTLY IF EXISTS idx_assessment_responses_anon_created;
