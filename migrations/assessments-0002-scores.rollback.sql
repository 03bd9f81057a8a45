-- Loses data: every score.
--
-- Locks:    ACCESS EXCLUSIVE on assessment_scores and, for its foreign key, on
--           assessment_responses: for that moment reads and submits wait. It gives up after 2 s.

SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '60s';

DROP TABLE assessment_scores;
