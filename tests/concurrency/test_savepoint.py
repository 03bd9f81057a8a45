"""In the caller's transaction a call that needs two statements runs in a savepoint of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from assessments import claim_assessment_responses
from tests.helpers.rows import submit
from tests.helpers.transactions import Connection, outcome

if TYPE_CHECKING:
    from uuid import UUID


@pytest.mark.parametrize("fails", [True, False])
async def test_a_call_leaves_no_savepoint_in_the_caller_s_transaction(
    conn: Connection, user_id: int, token: UUID, *, fails: bool
) -> None:
    """Whether a claim fails or not, its savepoint is released before it returns."""
    await submit(conn, anonymous_token=token)

    async with conn.transaction():
        claimant = user_id + 1 if fails else user_id
        await outcome(claim_assessment_responses(conn, anonymous_token=token, user_id=claimant))
        with pytest.raises(asyncpg.InvalidSavepointSpecificationError):
            async with conn.transaction():
                await conn.execute("RELEASE SAVEPOINT assessments")

    stored = await conn.fetchval("SELECT user_id FROM assessment_responses")
    assert stored == (None if fails else user_id)
