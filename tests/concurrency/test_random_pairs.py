"""Any two concurrent calls end as if one had come after the other."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.helpers.calls import ERASURES, Call
from tests.helpers.histories import OLD, TWO_USERS, Draw
from tests.helpers.model import Model, is_serial, perform
from tests.helpers.transactions import ENDS, Connection, open_transaction, outcome, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

FUNCTIONS = (
    *("submit_response", "submit_responses", "claim_assessment_responses"),
    *(
        "record_score_once",
        "record_scores",
        "delete_responses",
        "purge_anonymous_responses",
        "purge_responses",
        "delete_user",
    ),
    "get_responses",
)
MOVING = ERASURES | {"claim_assessment_responses"}
DEADLOCKING = {"record_scores", "delete_responses"}


async def store_some(conn: Connection, chance: Random) -> Model:
    """Store a few responses, some of them keyed, scored or old, and return what is stored."""
    await conn.execute(TWO_USERS)
    draw = Draw(chance, await Model.load(conn))
    for _ in range(chance.randint(2, 20)):
        call = draw.call("submit_response", "submit_response", "record_score", "backdate")
        assert draw.model.agrees(call, await outcome(perform(conn, call)))
    return draw.model


def draw_pair(chance: Random, model: Model) -> list[Call]:
    """Return two random calls; a purge has no limit, which would count what it then skips."""
    draw = Draw(chance, model)
    pair = [draw.call(*FUNCTIONS) for _ in range(2)]
    return [
        Call(call.function, {"older_than": OLD}) if "older_than" in call.arguments else call
        for call in pair
    ]


def is_excepted(pair: list[Call], end: str) -> bool:
    """Return whether less is promised of the pair.

    A claim beside the user's own erasure and a retry beside an erasure of its row have tests of
    their own. A batch may find a retry's row before a claim or erasure, and store the rest after.
    The deletion of a user may deadlock, as its foreign key chooses the order of locks.
    """
    for call, beside in (pair, pair[::-1]):
        given, other = call.arguments, beside.arguments
        batch = given.get("responses", [given])
        has_key = any(response.get("submission_key") for response in batch)
        skips_user = given.get("skip_answered") and other.get("user_id") == given["user_id"]
        keeps_token = other.get("anonymous_token") != given.get("anonymous_token")
        if skips_user and keeps_token and beside.function == "delete_responses":
            return True
        if has_key and len(batch) > 1 and beside.function in MOVING:
            return True
        if end == "each alone" and (
            (has_key and beside.function in ERASURES)
            or (call.function == "delete_user" and beside.function in DEADLOCKING)
        ):
            return True
    return False


async def attempt(conn: Connection, call: Call) -> Any:
    """Return what *call* ends as; a deadlock, which PostgreSQL resolves, is to be retried."""
    try:
        return await outcome(perform(conn, call))
    except asyncpg.DeadlockDetectedError as error:
        return error


async def run(conn: Connection, other: Connection, pair: list[Call], end: str) -> list[Any]:
    """Return both results: of calls on their own, or of the second beside the first's *end*."""
    one, another = pair
    if end == "each alone":
        return list(await asyncio.gather(attempt(conn, one), attempt(other, another)))
    async with open_transaction(conn, end):
        first = await attempt(conn, one)
        task, _ = await started(attempt(other, another), by=conn, on=other)
    return [first, await task]


async def test_any_two_concurrent_calls_end_as_in_one_serial_order(
    conn: Connection,
    other: Connection,
    chance: Random,
    figures: Callable[..., None],
    scale: int,
) -> None:
    """What two random calls return and leave is what one of their two serial orders gives."""
    races: Counter[str] = Counter()
    anomalies = []
    while races.total() < 500 * scale:
        before = await store_some(conn, chance)
        pair = draw_pair(chance, before)
        end = chance.choice((*ENDS, "each alone", "each alone"))
        if is_excepted(pair, end):
            continue
        races[end] += 1
        results = await run(conn, other, pair, end)
        if any(isinstance(result, asyncpg.DeadlockDetectedError) for result in results):
            continue
        after = await Model.load(conn)
        calls = list(zip(pair, results, strict=True))
        if not is_serial(before, calls[1:] if end == "rollback" else calls, after):
            anomalies.append((calls, end))

    figures(
        "any two concurrent calls",
        races=races.total(),
        in_a_transaction_held_open=races["commit"] + races["rollback"],
        anomalies=len(anomalies),
    )
    assert anomalies == []
