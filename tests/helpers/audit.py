"""What may never be found in the tables, and a record of their changes that the tables keep."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg

# The host's own record of claims and erasures, kept by the transactions themselves.
AUDIT = """
CREATE TABLE claimed AS
SELECT pg_current_xact_id() AS claim, response_id, anonymous_token, user_id, question_id
FROM assessment_responses;
CREATE TABLE erased AS
SELECT response_id, anonymous_token, user_id, interval '0' AS age FROM assessment_responses;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_op = 'UPDATE' THEN
        INSERT INTO claimed VALUES (
            pg_current_xact_id(), old.response_id, old.anonymous_token, new.user_id, old.question_id
        );
    ELSE
        INSERT INTO erased VALUES (
            old.response_id, old.anonymous_token, old.user_id, now() - old.created_at
        );
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE OR DELETE ON assessment_responses
FOR EACH ROW EXECUTE FUNCTION audit();
"""

# Queries that may never find a row, not even while the calls run. The first finds a question of a
# user's at which responses of two claims are stored: the later claim should have skipped it.
NEVER = {
    "questions_fed_by_two_claims": """
        SELECT FROM claimed AS c INNER JOIN assessment_responses AS r USING (response_id)
        GROUP BY c.user_id, c.question_id
        HAVING count(DISTINCT (c.claim, c.anonymous_token)) > 1
    """,
    "claimed_twice": "SELECT FROM claimed GROUP BY response_id HAVING count(*) > 1",
    "stored_twice": "SELECT FROM assessment_responses GROUP BY answer_text HAVING count(*) > 1",
    "without_one_owner": """
        SELECT FROM assessment_responses WHERE num_nonnulls(user_id, anonymous_token) <> 1
    """,
    "users_missing": """
        SELECT FROM assessment_responses AS r LEFT JOIN users AS u USING (user_id)
        WHERE r.user_id IS NOT NULL AND u.user_id IS NULL
    """,
    "scores_without_response": """
        SELECT FROM assessment_scores AS s LEFT JOIN assessment_responses AS r USING (response_id)
        WHERE r.response_id IS NULL
    """,
}
LEFT_BEHIND = {
    "transactions_left_open": """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'
    """,
    "advisory_locks_left": "SELECT FROM pg_locks WHERE locktype = 'advisory'",
}


async def count_found(conn: asyncpg.Connection[Any], queries: dict[str, str]) -> Counter[str]:
    """Return how many rows each of *queries* finds."""
    return Counter({name: len(await conn.fetch(query)) for name, query in queries.items()})
