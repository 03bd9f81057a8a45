"""What was acknowledged is stored once, whatever breaks between the client and the disk."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import suppress
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import pytest

import assessments
from assessments import backoffice
from examples.jobs import By
from examples.retry import UNDONE, UNKNOWN, retried
from tests.helpers.cluster import PATIENCE
from tests.helpers.rows import ids, new_user
from tests.helpers.storms import CLIENTS, STORMS, Storm, count_leaked, storm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from random import Random

    from assessments import AssessmentResponse
    from tests.helpers.cluster import Cluster

BATCH = 6
IN_A_BATCH, ONCE = By("batch", "p1"), By("once", "p1")


@pytest.fixture(params=STORMS, name="storm")
async def each_storm(
    request: pytest.FixtureRequest, cluster: Cluster, scale: int, chance: Random
) -> AsyncIterator[Storm]:
    """Return a storm of each kind in turn, over empty tables."""
    await cluster.fetch("TRUNCATE assessment_responses, assessment_scores")
    async with storm(cluster, request.param, scale, chance) as each:
        yield each


def new_response(chance: Random, **changes: Any) -> Any:
    """Return a response with a unique text, which may be longer than one read of a reply."""
    return {
        "question_id": f"q{chance.randrange(20)}",
        "module_slug": "m1",
        "answer_text": uuid4().hex * chance.choice((1, 5, 400)),
        "answer_metadata": {"seconds": chance.randrange(600), "locale": "日本"},
        **changes,
    }


async def test_an_acknowledged_submission_is_stored_once(
    cluster: Cluster, storm: Storm, chance: Random, figures: Callable[..., None]
) -> None:
    """Every submission that returned is stored once and unchanged, and no connection leaks."""
    acknowledged: list[AssessmentResponse] = []
    tokens = [uuid4() for _ in range(CLIENTS)]

    async def submit() -> None:
        token = chance.choice(tokens)
        new = new_response(chance, anonymous_token=token, submission_key=uuid4())
        call = partial(assessments.submit_response, storm.pool, **new)
        acknowledged.append(await retried(call, seconds=PATIENCE))

    await storm.strike(submit, acknowledged, workers=CLIENTS, calls=2_600)

    stored = {row["response_id"]: row async for row in backoffice.iter_responses(storm.pool)}
    counts = {
        "lost": sum(stored.get(row["response_id"]) != row for row in acknowledged),
        "duplicated": len(stored) - len(acknowledged),
        "leaked": await count_leaked(cluster, storm.pool),
    }
    figures("submits", acknowledged=len(acknowledged), **storm.counts, **counts)
    assert not any(counts.values()), counts


class Visit(NamedTuple):
    """What was acknowledged to an anonymous owner and to the two users who claim its responses."""

    token: UUID
    users: list[int]
    rows: list[AssessmentResponse]
    claimed: tuple[int, int]
    unkeyed: UUID
    erased: bool


async def visit(pool: Any, acknowledged: list[None], chance: Random) -> Visit:
    """Submit, claim, score and perhaps erase, with retries until each call is acknowledged."""

    async def retry(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        result = await retried(partial(function, *arguments, **named), seconds=PATIENCE)
        acknowledged.append(None)
        return result

    async def in_transaction(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        async with pool.acquire() as connection, connection.transaction():
            return await function(connection, *arguments, **named)

    token, unkeyed = uuid4(), uuid4()
    users = [await retry(new_user, pool), await retry(new_user, pool)]
    new = [
        new_response(
            chance, anonymous_token=token, question_id=f"q{n // 2}", submission_key=uuid4()
        )
        for n in range(BATCH)
    ]
    rows = await retry(assessments.submit_responses, pool, new)
    assert [row["answer_text"] for row in rows] == [each["answer_text"] for each in new]
    scores: Any = [
        {"response_id": row["response_id"], "score_data": {}, **IN_A_BATCH._asdict()}
        for row in rows[:3]
    ]
    with suppress(*UNDONE, *UNKNOWN):  # has no key: not to be retried
        once = new_response(chance, anonymous_token=unkeyed)
        await assessments.submit_responses(pool, [once] * BATCH)
    with suppress(*UNDONE, *UNKNOWN):
        await backoffice.record_scores(pool, scores)
    claim = assessments.claim_assessment_responses
    claimed = await asyncio.gather(
        retry(claim, pool, anonymous_token=token, user_id=users[0]),
        retry(in_transaction, claim, anonymous_token=token, user_id=users[1]),
    )
    score: Any = {"response_id": rows[0]["response_id"], "score_data": {}, **ONCE._asdict()}
    await retry(in_transaction, backoffice.record_score_once, **score)
    if erased := chance.random() < 0.3:
        for user in users:
            await retry(assessments.delete_responses, pool, user_id=user, anonymous_token=token)
    return Visit(token, users, rows, claimed, unkeyed, erased)


def count_faults(
    visit: Visit, stored: dict[Any, list[Any]], scores: Counter[tuple[int, str]]
) -> dict[str, int]:
    """Return how often the visit breaks each promise, by all rows by owner and all scores."""
    owners = [owner for owner in (visit.token, *visit.users) if stored[owner]]
    rows = sorted((row for each in owners for row in stored[each]), key=itemgetter("response_id"))
    no_owner: Any = {"user_id": None, "anonymous_token": None}
    expected = [] if visit.erased else [row | no_owner for row in visit.rows]
    unkeyed = len(stored[visit.unkeyed])
    batch_scores, single_scores = (
        sum(scores[key, by.model_id] for key in ids(visit.rows)) for by in (IN_A_BATCH, ONCE)
    )
    return {
        "lost or changed": [row | no_owner for row in rows] != expected,
        "split between owners": len(owners) > 1 or visit.token in owners,
        "half claimed": not set(visit.claimed) <= {0, BATCH} or sum(visit.claimed) > BATCH,
        "half batches": unkeyed not in (0, BATCH),
        "half score batches": batch_scores not in ((0,) if visit.erased else (0, 3)),
        "scores lost or twice": single_scores != (0 if visit.erased else 1),
        "expected rows": len(expected) + unkeyed,
    }


async def test_claims_batches_scores_and_erasures_are_atomic(
    cluster: Cluster, storm: Storm, chance: Random, figures: Callable[..., None]
) -> None:
    """Each is carried out as a whole or not at all, and a retry of it changes nothing more."""
    acknowledged: list[None] = []
    visits: list[Visit] = []

    async def work() -> None:
        visits.append(await visit(storm.pool, acknowledged, chance))

    await storm.strike(work, acknowledged, workers=CLIENTS // 2, calls=1_000)

    counts = Counter(leaked=await count_leaked(cluster, storm.pool))
    stored = [row async for row in backoffice.iter_responses(storm.pool)]
    by_owner: defaultdict[Any, list[Any]] = defaultdict(list)
    for row in stored:
        by_owner[row["user_id"] or row["anonymous_token"]].append(row)
    scores = await storm.pool.fetch("SELECT response_id, model_id FROM assessment_scores")
    scored_by = Counter((score["response_id"], score["model_id"]) for score in scores)
    for each in visits:
        counts.update(count_faults(each, by_owner, scored_by))
    counts["duplicated"] = len(stored) - counts.pop("expected rows")
    for token, user_id in ((each.token, user) for each in visits for user in each.users):
        counts["claimed again"] += await assessments.claim_assessment_responses(
            storm.pool, anonymous_token=token, user_id=user_id
        )
    counts["claimed again"] += stored != [
        row async for row in backoffice.iter_responses(storm.pool)
    ]
    figures("visits", acknowledged=len(acknowledged), **storm.counts, **counts)
    assert not any(counts.values()), counts
