"""Who waits for whom, as the table of locks in docs/reviewing.md says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import backoffice
from tests.helpers.rows import new_user, submit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

USER, TOKEN = 1, UUID(int=1)
KEY, STORED_KEY = uuid4(), uuid4()
ANONYMOUS, OWN = 1, 2  # the responses

ACTS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "read": lambda c: assessments.get_responses_with_latest_score(
        c, user_id=USER, anonymous_token=TOKEN
    ),
    "backlog": backoffice.get_unscored_responses,
    "submit": lambda c: submit(c, user_id=USER),
    "submit with a key": lambda c: submit(c, user_id=USER, submission_key=KEY),
    "sent again": lambda c: submit(c, anonymous_token=TOKEN, submission_key=STORED_KEY),
    "claim": lambda c: assessments.claim_assessment_responses(
        c, user_id=USER, anonymous_token=TOKEN
    ),
    "score the visitor's": lambda c: backoffice.record_score(
        c, response_id=ANONYMOUS, score_data={}
    ),
    "score the user's": lambda c: backoffice.record_score(c, response_id=OWN, score_data={}),
    "erase the visitor": lambda c: assessments.delete_responses(c, anonymous_token=TOKEN),
    "erase the user": lambda c: assessments.delete_responses(c, user_id=USER),
    "purge": lambda c: backoffice.purge_anonymous_responses(c, older_than=timedelta(days=90)),
    "change the user": lambda c: c.execute("UPDATE users SET user_id = user_id"),
    "delete the user": lambda c: c.execute("DELETE FROM users"),
}
ERASURES = {"erase the visitor", "purge"}
OF_THE_USER = {"submit", "submit with a key", "claim", "score the user's", "erase the user"}
WAITS_FOR = {
    "read": set(),
    "backlog": set(),
    "submit": {"delete the user"},
    "submit with a key": {"submit with a key", "delete the user"},
    "sent again": {"claim"} | ERASURES,
    "claim": {"claim", "delete the user"} | ERASURES,
    "score the visitor's": ERASURES,
    "score the user's": {"erase the user", "delete the user"},
    "erase the visitor": {"claim", "score the visitor's"} | ERASURES,
    "erase the user": {"score the user's", "erase the user", "delete the user"},
    "purge": {"claim", "score the visitor's"} | ERASURES,
    "change the user": {"change the user", "delete the user"},
    "delete the user": OF_THE_USER | {"change the user", "delete the user"},
}


@pytest.mark.parametrize("waiting", ACTS)
async def test_a_call_waits_for_these_and_for_no_other(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], waiting: str
) -> None:
    """Beside each open transaction a call goes on at once or waits, as the table says."""
    assert await new_user(conn) == USER
    await submit(conn, "q1", anonymous_token=TOKEN, submission_key=STORED_KEY)
    await submit(conn, "q2", user_id=USER)
    await conn.execute("UPDATE assessment_responses SET created_at = now() - interval '1 year'")
    await conn.execute("SET lock_timeout = '50ms'")
    waited = set()
    for name, act in ACTS.items():
        holding, tried = other.transaction(), conn.transaction()
        await holding.start()
        await act(other)
        await tried.start()
        try:
            await ACTS[waiting](conn)
        except asyncpg.LockNotAvailableError:
            waited.add(name)
        await tried.rollback()
        await holding.rollback()

    assert waited == WAITS_FOR[waiting]
