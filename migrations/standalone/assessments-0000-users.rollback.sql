-- Loses data: every row of the stand-in users table.
-- Refused by PostgreSQL while assessment_responses still refers to it.

SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '60s';

DROP TABLE users;
