-- Loses data: every response.
--
-- Locks:    ACCESS EXCLUSIVE on assessment_responses and, for its foreign key, on users: for
--           that moment even reads of users wait. It gives up after 2 s of waiting.
-- Refused by PostgreSQL while assessment_scores still refers to it: roll 0002 back first.

SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '60s';

DROP TABLE assessment_responses;
