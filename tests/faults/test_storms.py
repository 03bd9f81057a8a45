"""What was acknowledged is there once, whatever breaks between the client and the disk."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import pytest

import assessments
from assessments import backoffice
from examples.retry import UNDONE, UNKNOWN, retried
from examples.worker import By, store_once
from tests.helpers.cluster import PATIENCE
from tests.helpers.rows import ids, new_user
from tests.helpers.storms import CLIENTS, STORMS, Storm, leaked, together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from assessments import AssessmentResponse
    from tests.helpers.cluster import Cluster

SUBMITS = 2_600  # in each of the storms
VISITORS_CALLS = 1_000


@pytest.fixture(params=STORMS)
async def storm(
    request: pytest.FixtureRequest, cluster: Cluster, scale: int
) -> AsyncIterator[Storm]:
    """Return each of the storms in turn, over empty tables."""
    await cluster.ask("TRUNCATE assessment_responses, assessment_scores")
    async with STORMS[request.param](cluster, scale) as storm:
        yield storm


def answer(**changes: Any) -> Any:
    """Return an attempt like no other, short or longer than one piece of a reply."""
    return {
        "question_id": f"q{random.randrange(20)}",
        "module_slug": "m1",
        "answer_text": uuid4().hex * random.choice((1, 5, 400)),
        "answer_metadata": {"seconds": random.randrange(600), "locale": "日本"},
        **changes,
    }


async def submitting(pool: Any, acknowledged: list[Any], stop: asyncio.Event) -> None:
    """Submit one answer after the other, each until it is acknowledged."""
    visitor = uuid4()
    while not stop.is_set():
        given = answer(anonymous_token=visitor, submission_key=uuid4())
        submit = partial(assessments.submit_response, pool, **given)
        acknowledged.append(await retried(submit, seconds=PATIENCE))


async def test_an_acknowledged_submit_is_stored_once(
    cluster: Cluster, storm: Storm, scale: int, figures: Callable[..., None]
) -> None:
    """Every submit that returned is there, equal and once, and the clients are whole."""
    acknowledged: list[AssessmentResponse] = []
    stop = asyncio.Event()

    async def rage() -> None:
        await storm.rage(lambda: len(acknowledged), SUBMITS * scale)
        stop.set()

    workers = [submitting(storm.clients, acknowledged, stop) for _ in range(CLIENTS)]
    await together(rage(), *workers, minutes=3 * scale)

    stored = {row["response_id"]: row async for row in backoffice.iter_responses(storm.clients)}
    counts = {
        "lost": sum(stored.get(row["response_id"]) != row for row in acknowledged),
        "duplicated": len(stored) - len(acknowledged),
        "leaked": await leaked(cluster, storm.clients),
    }
    figures("submits", acknowledged=len(acknowledged), **{storm.faults: storm.times}, **counts)
    assert not any(counts.values()), counts


class Visit(NamedTuple):
    """What one visitor, and two users who want to be that visitor, have done."""

    token: UUID
    users: list[int]
    rows: list[AssessmentResponse]
    claimed: list[int]
    unkeyed: UUID
    erased: bool


BATCH = 6
OF_THREE, ONCE = By("batch", "p1"), By("once", "p1")


async def visit(pool: Any, acknowledged: list[None]) -> Visit:
    """Answer, claim, score and perhaps erase, each until it is acknowledged."""

    async def through(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        result = await retried(partial(function, *arguments, **named), seconds=PATIENCE)
        acknowledged.append(None)
        return result

    async def claim_in_a_transaction(user: int) -> int:
        async with pool.acquire() as connection, connection.transaction():
            return await assessments.claim_assessment_responses(
                connection, anonymous_token=token, user_id=user
            )

    async def score_in_a_transaction(response_id: int) -> bool:
        async with pool.acquire() as connection, connection.transaction():
            return await store_once(connection, response_id, {"points": 5}, ONCE)

    token, unkeyed = uuid4(), uuid4()
    users = [await through(new_user, pool), await through(new_user, pool)]
    given = [
        answer(anonymous_token=token, question_id=f"q{n // 2}", submission_key=uuid4())
        for n in range(BATCH)
    ]
    rows = await through(assessments.submit_responses, pool, given)
    assert [row["answer_text"] for row in rows] == [each["answer_text"] for each in given]
    # What has no key is sent once, come what may.
    with suppress(*UNDONE, *UNKNOWN):
        await assessments.submit_responses(pool, [answer(anonymous_token=unkeyed)] * BATCH)
    scores: Any = [
        {"response_id": row["response_id"], "score_data": {}, **OF_THREE._asdict()}
        for row in rows[:3]
    ]
    with suppress(*UNDONE, *UNKNOWN):
        await backoffice.record_scores(pool, scores)
    claimed: Any = await asyncio.gather(
        through(
            assessments.claim_assessment_responses, pool, anonymous_token=token, user_id=users[0]
        ),
        through(claim_in_a_transaction, users[1]),
    )
    await through(score_in_a_transaction, rows[0]["response_id"])
    if erased := random.random() < 0.3:
        for user in users:
            await through(assessments.delete_responses, pool, user_id=user, anonymous_token=token)
    return Visit(token, users, rows, claimed, unkeyed, erased)


async def owned(pool: Any, visit: Visit) -> list[AssessmentResponse]:
    """Return the visit's rows, by whoever owns them, oldest first."""
    of_first, of_second = [
        await assessments.get_responses(pool, user_id=user, anonymous_token=visit.token)
        for user in visit.users
    ]
    both = {row["response_id"]: row for row in of_first + of_second}
    return [both[key] for key in sorted(both)]


async def faults_of(pool: Any, visit: Visit) -> dict[str, int]:
    """Return how often the visit breaks each promise."""
    now = await owned(pool, visit)
    owners = {(row["user_id"], row["anonymous_token"]) for row in now}
    scored = [
        await pool.fetchval(
            "SELECT count(*) FROM assessment_scores WHERE response_id = any($1) AND model_id = $2",
            ids(visit.rows),
            by.model_id,
        )
        for by in (OF_THREE, ONCE)
    ]
    unkeyed = await assessments.get_responses(pool, anonymous_token=visit.unkeyed)
    again = [
        await assessments.claim_assessment_responses(
            pool, anonymous_token=visit.token, user_id=user
        )
        for user in visit.users
    ]
    left: Any = {} if visit.erased else {"user_id": None, "anonymous_token": None}
    expected = [] if visit.erased else [{**row, **left} for row in visit.rows]
    return {
        "lost or changed": [{**row, **left} for row in now] != expected,
        "split between owners": len(owners) > 1 or any(user is None for user, _ in owners),
        "half claimed": not set(visit.claimed) <= {0, BATCH} or sum(visit.claimed) > BATCH,
        "half batches": len(unkeyed) not in (0, BATCH),
        "half score batches": scored[0] not in ((0,) if visit.erased else (0, 3)),
        "scores lost or twice": scored[1] != (0 if visit.erased else 1),
        "claimed again": sum(again) or now != await owned(pool, visit),
    }


async def test_claims_batches_scores_and_erasures_happen_whole_or_not_at_all(
    cluster: Cluster, storm: Storm, scale: int, figures: Callable[..., None]
) -> None:
    """Nothing is half there, and a repeated claim, score or erasure changes nothing more."""
    acknowledged: list[None] = []
    visits: list[Visit] = []
    stop = asyncio.Event()

    async def rage() -> None:
        await storm.rage(lambda: len(acknowledged), VISITORS_CALLS * scale)
        stop.set()

    async def visiting() -> None:
        while not stop.is_set():
            visits.append(await visit(storm.clients, acknowledged))

    await together(rage(), *(visiting() for _ in range(CLIENTS // 2)), minutes=3 * scale)

    counts = {"leaked": await leaked(cluster, storm.clients)}
    for each in visits:
        for fault, count in (await faults_of(storm.clients, each)).items():
            counts[fault] = counts.get(fault, 0) + count
    ((stored,),) = await cluster.ask("SELECT count(*) FROM assessment_responses")
    seen = sum(
        [
            len(await assessments.get_responses(storm.clients, anonymous_token=each.unkeyed))
            + (0 if each.erased else BATCH)
            for each in visits
        ]
    )
    counts["duplicated"] = stored - seen
    figures("visits", acknowledged=len(acknowledged), **{storm.faults: storm.times}, **counts)
    assert not any(counts.values()), counts
