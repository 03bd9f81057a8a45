"""Which calls wait for which, as docs/reviewing.md tabulates, and that none of them deadlock."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import combinations_with_replacement, permutations, product
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.helpers.calls import Call
from tests.helpers.model import Model, perform
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import new_user
from tests.helpers.transactions import ENDS, Connection, open_transaction, outcome, started

USER, OTHER_USER = 1, 2
TOKEN, OTHER_TOKEN = UUID(int=1), UUID(int=2)
KEY, STORED_KEY = uuid4(), uuid4()
ANSWER = {"question_id": "q1", "module_slug": "m1", "answer_text": ""}

ONCE = {"response_id": 1000001, "score_data": {}, "model_id": "m", "prompt_version": "p"}

STORED = f"""
    DELETE FROM users;
    DELETE FROM assessment_responses;
    INSERT INTO users VALUES ({USER}), ({OTHER_USER});
    INSERT INTO assessment_responses (
        response_id, user_id, anonymous_token, question_id, module_slug, answer_text,
        submission_key, created_at
    ) OVERRIDING SYSTEM VALUE VALUES
        (1000001, NULL, '{TOKEN}', 'q1', 'm1', '', '{STORED_KEY}', now() - interval '1 year'),
        (1000002, NULL, '{TOKEN}', 'q2', 'm1', '', NULL, now() - interval '1 year'),
        (1000003, {USER}, NULL, 'q3', 'm1', '', NULL, now() - interval '1 year'),
        (1000004, NULL, '{OTHER_TOKEN}', 'q1', 'm1', '', NULL, now()),
        (1000005, NULL, '{OTHER_TOKEN}', 'q4', 'm1', '', NULL, now())
"""  # noqa: S608 - constants


def submits(**changes: Any) -> list[Call]:
    """Return a submission on its own and in a batch."""
    response = ANSWER | changes
    return [
        Call("submit_response", response),
        Call("submit_responses", {"responses": [response]}),
    ]


def claim(token: UUID, user_id: int, *, skip_answered: bool = True) -> Call:
    """Return a claim."""
    arguments = {"anonymous_token": token, "user_id": user_id, "skip_answered": skip_answered}
    return Call("claim_assessment_responses", arguments)


def scores(*response_ids: int) -> list[Call]:
    """Return a score of the first response, and a batch of scores of all."""
    batch = [{"response_id": key, "score_data": {}} for key in response_ids]
    return [Call("record_score", batch[0]), Call("record_scores", {"scores": batch})]


def erasure(**owner: Any) -> list[Call]:
    """Return an erasure."""
    return [Call("delete_responses", owner)]


CALLS: dict[str, list[Call]] = {
    "read": [
        Call("get_responses_with_latest_score", {"user_id": USER, "anonymous_token": TOKEN}),
        Call("get_unscored_responses", {}),
    ],
    "submit for the token": submits(anonymous_token=TOKEN),
    "submit for the user": submits(user_id=USER),
    "submit with a key": [
        *submits(user_id=USER, submission_key=KEY),
        *submits(user_id=USER, submission_key=KEY, answer_text="Another."),
    ],
    "retry": [
        *submits(anonymous_token=TOKEN, submission_key=STORED_KEY),
        *submits(user_id=USER, submission_key=STORED_KEY),
    ],
    "claim": [claim(TOKEN, USER), claim(TOKEN, USER, skip_answered=False)],
    "claim for another user": [claim(TOKEN, OTHER_USER)],
    "claim of another token": [claim(OTHER_TOKEN, USER)],
    "score the token's": scores(1000001, 1000002),
    "score the user's": scores(1000003),
    "score the token's once": [Call("record_score_once", ONCE)],
    "erase the token": erasure(anonymous_token=TOKEN),
    "erase the user": erasure(user_id=USER),
    "erase both": erasure(user_id=USER, anonymous_token=TOKEN),
    "purge": [Call("purge_anonymous_responses", {"older_than": timedelta(days=90)})],
    "purge all": [Call("purge_responses", {"older_than": timedelta(days=90)})],
    "update the user": [Call("update_user", {"user_id": USER})],
    "delete the user": [Call("delete_user", {"user_id": USER})],
}
CLAIMS_OF_TOKEN = {"claim", "claim for another user"}
ERASURES_OF_TOKEN = {"erase the token", "erase both", "purge", "purge all"}
SCORES_OF_TOKEN = {"score the token's", "score the token's once"}
ERASURES_OF_USER = {"erase the user", "erase both", "purge all", "delete the user"}
OF_ALL = CLAIMS_OF_TOKEN | SCORES_OF_TOKEN | {"score the user's"} | ERASURES_OF_TOKEN
OF_USER = {"submit for the user", "submit with a key", "claim", "claim of another token"}
WAITS_FOR = {
    "read": set(),
    "submit for the token": set(),
    "submit for the user": {"delete the user"},
    "submit with a key": {"submit with a key", "delete the user"},
    "retry": CLAIMS_OF_TOKEN | ERASURES_OF_TOKEN,
    "claim": CLAIMS_OF_TOKEN | {"claim of another token", "delete the user"} | ERASURES_OF_TOKEN,
    "claim for another user": CLAIMS_OF_TOKEN | ERASURES_OF_TOKEN,
    "claim of another token": {"claim", "claim of another token", "delete the user"},
    "score the token's": ERASURES_OF_TOKEN,
    "score the token's once": {"score the token's once"} | ERASURES_OF_TOKEN,
    "score the user's": ERASURES_OF_USER,
    "erase the token": CLAIMS_OF_TOKEN | SCORES_OF_TOKEN | ERASURES_OF_TOKEN,
    "erase the user": {"score the user's"} | ERASURES_OF_USER,
    "erase both": OF_ALL | ERASURES_OF_USER,
    "purge": CLAIMS_OF_TOKEN | SCORES_OF_TOKEN | ERASURES_OF_TOKEN,
    "purge all": OF_ALL | ERASURES_OF_USER,
    "update the user": {"update the user", "delete the user"},
    "delete the user": OF_USER | {"score the user's", "update the user"} | ERASURES_OF_USER,
}


async def in_transaction(conn: Connection, call: Call, beside: str) -> Any:
    """Make *call* in a transaction that goes on after it, whatever the call raises."""
    if beside == "delete the user" and call.function.startswith("submit"):
        return await outcome(perform(conn, call))  # the foreign key's error aborts a transaction
    async with open_transaction(conn):
        result = await outcome(perform(conn, call))
        assert await conn.fetchval("SELECT true")
    return result


@pytest.mark.parametrize("kind", CALLS)
async def test_a_call_waits_for_these_calls_only_and_the_two_end_as_if_serial(
    conn: Connection, other: Connection, kind: str
) -> None:
    """Beside an open transaction a call waits as tabulated, and both end as in one serial order."""
    for beside, end in product(CALLS, ENDS):
        for first, second in product(CALLS[beside], CALLS[kind]):
            await conn.execute(STORED)
            before = await Model.load(conn)

            async with open_transaction(conn, end):
                result = await outcome(perform(conn, first))
                task, waits = await started(in_transaction(other, second, beside), conn, other)
            calls = [(first, result), (second, await task)]

            assert waits is (beside in WAITS_FOR[kind]), (calls, end)
            ended = calls[1:] if end == "rollback" else calls
            orders = [ended] if waits else permutations(ended)
            after = await Model.load(conn)
            assert any(before.leads_to(after, order) for order in orders), (calls, end)


ASCENDING = "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_seqscan = off"
DESCENDING = "SET enable_bitmapscan = off; SET enable_seqscan = off"
PLANS = {
    "opposed": (ASCENDING, DESCENDING),
    "opposed otherwise": (DESCENDING, ASCENDING),
    "the planner's own": ("RESET ALL", "RESET ALL"),
}


def calls_on(token: UUID, user_id: int, keys: list[int]) -> dict[str, Call]:
    """Return the calls that lock the rows of these keys, which are the token's."""
    return {
        "claim": claim(token, user_id),
        "erase token": erasure(anonymous_token=token)[0],
        "erase both": erasure(anonymous_token=token, user_id=user_id)[0],
        "purge": CALLS["purge"][0],
        "purge all": CALLS["purge all"][0],
        "score": scores(*reversed(keys))[1],
    }


INSERT = """
    INSERT INTO assessment_responses
        (anonymous_token, question_id, module_slug, answer_text, created_at)
    SELECT {owner}, 'q' || n % 100, 'm', '', now() - {days} * interval '1 day'
    FROM generate_series(1, {rows}) AS n ORDER BY n RETURNING response_id
"""
OTHERS = INSERT.format(owner="gen_random_uuid()", days=0, rows=5000)
ROWS = INSERT.format(owner="$1", days="(200 - n)", rows=100)


@pytest.mark.parametrize("plans", PLANS)
async def test_calls_with_different_plans_lock_rows_in_one_order(
    conn: Connection, other: Connection, database: str, plans: str
) -> None:
    """Two calls on the same 100 rows do not deadlock, where the table holds them in key order.

    Index scans may run either way; a bitmap scan locks in the order of the table.
    """
    third = await asyncpg.connect(database)
    # Anonymous owners with one response each, as the planner assumes until it has statistics.
    await third.execute(OTHERS)
    # In what a vacuum has freed, the table would not hold the next rows in key order.
    await third.execute("ALTER TABLE assessment_responses SET (autovacuum_enabled = off)")
    await third.execute("ANALYZE assessment_responses")
    await conn.execute(PLANS[plans][0])
    await other.execute(PLANS[plans][1])

    deadlocks = []
    for pair in combinations_with_replacement(calls_on(TOKEN, USER, [0]), 2):
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
                calls.append(asyncio.ensure_future(calls_on(token, user_id, keys)[name](on)))
                await until_waiting_for_lock(third, on.get_server_pid())
        results = await asyncio.gather(*calls, return_exceptions=True)
        deadlocks += [pair for end in results if isinstance(end, asyncpg.DeadlockDetectedError)]
        await calls_on(token, 0, keys)["erase token"](third)
    await third.close()

    assert deadlocks == []
