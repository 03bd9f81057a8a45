"""A database of some size, on which a plan is a choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import asyncpg


@pytest.fixture
async def many(conn: asyncpg.Connection[Any]) -> asyncpg.Connection[Any]:
    """Return a connection to a table of 60,000 rows, a third of them one user's."""
    await conn.execute(
        """
        INSERT INTO users SELECT FROM generate_series(1, 2000);
        INSERT INTO assessment_responses
            (user_id, anonymous_token, question_id, module_slug, answer_text, created_at)
        SELECT
            CASE WHEN n % 3 = 0 THEN 1 WHEN n % 3 = 1 THEN 2 + n % 1999 END,
            CASE WHEN n % 3 = 2 THEN md5((n % 5000)::text)::uuid END,
            'q' || n % 500, 'm' || n % 50, 'Because.', now() - n * interval '1 minute'
        FROM generate_series(1, 60000) AS n;
        INSERT INTO assessment_scores (response_id, score_data)
        SELECT response_id, '{}' FROM assessment_responses;
        """
    )
    await conn.execute("VACUUM ANALYZE assessment_responses, assessment_scores, users")
    return conn
