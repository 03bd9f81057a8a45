"""Calls on the same rows lock them in one order, so that they do not deadlock."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import delete_responses
from assessments.backoffice import purge_anonymous_responses, record_scores
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import new_user
from tests.helpers.transactions import Connection, open_transaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ASCENDING = "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_seqscan = off"
DESCENDING = "SET enable_bitmapscan = off; SET enable_seqscan = off"
PLANS = {
    "opposed": (ASCENDING, DESCENDING),
    "opposed otherwise": (DESCENDING, ASCENDING),
    "the planner's own": ("RESET ALL", "RESET ALL"),
}
CALLS: dict[str, Callable[[Any, UUID, int, list[int]], Awaitable[Any]]] = {
    "claim": lambda on, token, user, _: assessments.claim_assessment_responses(
        on, anonymous_token=token, user_id=user
    ),
    "erase token": lambda on, token, *_: delete_responses(on, anonymous_token=token),
    "erase both": lambda on, token, user, _: delete_responses(
        on, anonymous_token=token, user_id=user
    ),
    "purge": lambda on, *_: purge_anonymous_responses(on, older_than=timedelta(days=90)),
    "score": lambda on, _, __, keys: record_scores(
        on, [{"response_id": key, "score_data": {}} for key in reversed(keys)]
    ),
}
PAIRS = [
    *(("claim", second) for second in CALLS),
    *(("erase token", second) for second in ("erase token", "erase both", "purge", "score")),
    *(("purge", second) for second in ("purge", "score")),
]
INSERT = """
    INSERT INTO assessment_responses
        (anonymous_token, question_id, module_slug, answer_text, created_at)
"""
# Anonymous owners with one response each, as the planner assumes until it has statistics.
OTHERS = INSERT + "SELECT gen_random_uuid(), 'q', 'm', '', now() FROM generate_series(1, 5000)"
ROWS = (
    INSERT
    + """
    SELECT $1, 'q' || n, 'm', '', now() - interval '200 days' + n * interval '1 day'
    FROM generate_series(1, 100) AS n ORDER BY n RETURNING response_id
"""
)


@pytest.mark.parametrize("plans", PLANS)
async def test_calls_with_different_plans_lock_rows_in_one_order(
    conn: Connection, other: Connection, database: str, plans: str
) -> None:
    """Two calls on the same 100 rows do not deadlock, where the table holds them in key order.

    Index scans may run either way; a bitmap scan locks in the order of the table.
    """
    third = await asyncpg.connect(database)
    await third.execute(OTHERS + "; ANALYZE assessment_responses")
    await conn.execute(PLANS[plans][0])
    await other.execute(PLANS[plans][1])

    deadlocks = []
    for pair in PAIRS:
        token, users = uuid4(), [await new_user(third), await new_user(third)]
        keys: list[int] = [key for (key,) in await third.fetch(ROWS, token)]
        if plans != "the planner's own":
            await third.execute("ANALYZE assessment_responses")
        async with open_transaction(third):
            await third.execute(  # blocks both half-way
                "SELECT FROM assessment_responses WHERE response_id = $1 FOR UPDATE", keys[50]
            )
            calls = []
            for name, on, user_id in zip(pair, (conn, other), users, strict=True):
                calls.append(asyncio.ensure_future(CALLS[name](on, token, user_id, keys)))
                await until_waiting_for_lock(third, on.get_server_pid())
        results = await asyncio.gather(*calls, return_exceptions=True)
        deadlocks += [pair for end in results if isinstance(end, asyncpg.DeadlockDetectedError)]
        await delete_responses(third, anonymous_token=token)
    await third.close()

    assert deadlocks == []
