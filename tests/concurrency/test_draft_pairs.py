"""Any two concurrent calls of the example of drafts end as if one had come after the other."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import permutations
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg

from examples.drafts import drafts
from tests.helpers.drafts import Model, call
from tests.helpers.histories import TWO_USERS
from tests.helpers.transactions import ENDS, Connection, open_transaction, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Drawn = tuple[str, dict[str, Any]]

USERS = (1, 2)
TOKENS = (UUID(int=1), UUID(int=2))
QUESTIONS = ("q1", "q2", "q3")
FUNCTIONS = ("open_draft", "save_draft", "finish", "claim", "erase")
WEIGHTS = (3, 3, 4, 4, 1)


def draw_owners(chance: Random, *, both: bool = True) -> dict[str, Any]:
    """Return a user, a token or both."""
    user, token = {"user_id": chance.choice(USERS)}, {"anonymous_token": chance.choice(TOKENS)}
    return chance.choice([user, token, user | token] if both else [user, token])


def draw(chance: Random, model: Model, function: str = "") -> Drawn:
    """Return a random call, of *function* if it is named; most keys are those of drafts."""
    function = function or chance.choices(FUNCTIONS, WEIGHTS)[0]
    keys = [*model.drafts, *model.drafts, *model.responses] or [uuid4()]
    key = chance.choice(keys)
    about = model.drafts.get(key) or model.responses.get(key)
    owners = draw_owners(chance)
    if about and chance.random() < 0.6:
        owners = {"user_id" if isinstance(about.owner, int) else "anonymous_token": about.owner}
    question = about.question_id if about else "q1"
    text = about.answer_text if about and chance.random() < 0.5 else f"text {chance.random()}"
    if function == "open_draft":
        return function, {
            "question_id": chance.choice(QUESTIONS),
            **draw_owners(chance, both=False),
        }
    if function == "save_draft":
        revision = {"revision": chance.randint(1, 4), "answer_metadata": "{}"}
        return function, {"draft_key": key, "answer_text": text, **revision, **owners}
    if function == "finish":
        answer = {"question_id": question, "module_slug": "m1", "answer_text": text}
        return function, {"draft_key": key, **answer, **owners}
    if function == "claim":
        return function, {"user_id": chance.choice(USERS), "anonymous_token": chance.choice(TOKENS)}
    return function, draw_owners(chance)


async def store_some(conn: Connection, chance: Random) -> Model:
    """Store a few drafts and responses and return what is stored."""
    await conn.execute(f"TRUNCATE answer_drafts; {TWO_USERS}")
    model = Model()
    for _ in range(chance.randint(2, 12)):
        function, arguments = draw(chance, model, chance.choice(("open_draft", *FUNCTIONS[:4])))
        result = await call(conn, function, **arguments)
        assert model.agrees(function, arguments, result), (function, arguments)
    assert model == await Model.load(conn)
    return model


def is_excepted(pair: list[Drawn]) -> bool:
    """Return whether less is promised: a claim beside an erasure of the user without the token."""
    for (function, given), (beside, other) in (pair, pair[::-1]):
        if function == "claim" and beside == "erase" and other.get("user_id") == given["user_id"]:
            return bool(other.get("anonymous_token") != given["anonymous_token"])
    return False


async def attempt(conn: Connection, drawn: Drawn) -> Any:
    """Return what the call ends as."""
    function, arguments = drawn
    try:
        return await call(conn, function, **arguments)
    except asyncpg.PostgresError as error:
        return error


async def run(conn: Connection, other: Connection, pair: list[Drawn], end: str) -> list[Any]:
    """Return both results: of calls on their own, or of the second beside the first's *end*."""
    one, another = pair
    if end == "each alone":
        return list(await asyncio.gather(attempt(conn, one), attempt(other, another)))
    async with open_transaction(conn, end):
        first = await attempt(conn, one)
        task, _ = await started(attempt(other, another), by=conn, on=other)
    return [first, await task]


def is_serial(before: Model, calls: list[tuple[Drawn, Any]], after: Model) -> bool:
    """Return whether some order of *calls* gives their results and leaves *after*."""
    for order in permutations(calls):
        model = before.copy()
        if all(model.agrees(*drawn, result) for drawn, result in order) and model == after:
            return True
    return False


async def test_any_two_concurrent_calls_on_drafts_end_as_in_one_serial_order(
    conn: Connection,
    other: Connection,
    chance: Random,
    figures: Callable[..., None],
    scale: int,
) -> None:
    """What two random calls return and leave is what one of their orders gives; none deadlocks."""
    await drafts.create_drafts(conn)
    races: Counter[str] = Counter()
    anomalies = []
    while races.total() < 500 * scale:
        before = await store_some(conn, chance)
        pair = [draw(chance, before) for _ in range(2)]
        end = chance.choice((*ENDS, "each alone", "each alone"))
        if is_excepted(pair):
            continue
        races[end] += 1
        results = await run(conn, other, pair, end)
        after = await Model.load(conn)
        calls = list(zip(pair, results, strict=True))
        errors = [result for result in results if isinstance(result, asyncpg.PostgresError)]
        serial = is_serial(before, calls[1:] if end == "rollback" else calls, after)
        if errors or not serial:
            anomalies.append((before, calls, after, end))

    figures(
        "any two concurrent calls on drafts",
        races=races.total(),
        in_a_transaction_held_open=races["commit"] + races["rollback"],
        anomalies=len(anomalies),
    )
    assert anomalies == []
