"""In the caller's transaction a call that needs two statements runs in a savepoint of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from assessments import UnknownUser, claim_assessment_responses
from tests.helpers.rows import submit
from tests.helpers.transactions import Connection, open_transaction, outcome

if TYPE_CHECKING:
    from uuid import UUID


@pytest.mark.parametrize("fails", [True, False])
async def test_a_call_leaves_no_savepoint_in_the_caller_s_transaction(
    conn: Connection, user_id: int, token: UUID, *, fails: bool
) -> None:
    """Whether a claim fails or not, its savepoint is released before it returns."""
    await submit(conn, anonymous_token=token)
    claimant = user_id + 1 if fails else user_id

    async with open_transaction(conn, "rollback"):
        claim = claim_assessment_responses(conn, anonymous_token=token, user_id=claimant)
        assert await outcome(claim) == ((UnknownUser, None) if fails else 1)
        with pytest.raises(asyncpg.InvalidSavepointSpecificationError):
            await conn.execute("RELEASE SAVEPOINT assessments")
