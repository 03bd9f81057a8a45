"""What a `BatchingWriter` acknowledged is stored once, whatever fails and whoever is cancelled."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from assessments import BatchingWriter, UnknownResponse, backoffice
from examples.retry import UNKNOWN, retried
from tests.helpers.cluster import PATIENCE
from tests.helpers.proxy import COMMITTED, REPLY, REQUEST, ROW, proxied
from tests.helpers.rows import new_response
from tests.helpers.storms import Storm, clients, count_leaked, storm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from random import Random

    from assessments import AssessmentResponse
    from tests.helpers.cluster import Cluster

CALLERS = 48
CALLS = 4_000
BIND = b"B\0"


@pytest.fixture(params=["kills", "cuts"], name="storm")
async def each_storm(
    request: pytest.FixtureRequest, cluster: Cluster, scale: int, chance: Random
) -> AsyncIterator[Storm]:
    """Return a storm of the kinds that break a batch in the middle, over empty tables."""
    await cluster.fetch("TRUNCATE assessment_responses, assessment_scores")
    async with storm(cluster, request.param, scale, chance) as each:
        yield each


async def test_an_acknowledged_call_of_a_burst_is_stored_once(
    cluster: Cluster, storm: Storm, chance: Random, figures: Callable[..., None]
) -> None:
    """Every row that returned is stored unchanged, with a key once, and nothing leaks."""
    acknowledged: list[AssessmentResponse] = []
    scored: list[Any] = []
    cancelled = 0
    tokens = [uuid4() for _ in range(CALLERS)]

    async def cancelled_at_times(call: Callable[[], Any]) -> Any:
        nonlocal cancelled
        if chance.random() > 0.1:
            return await call()
        try:
            return await asyncio.wait_for(call(), chance.uniform(0, 0.02))
        except asyncio.TimeoutError:
            cancelled += 1
            raise

    async with BatchingWriter(storm.pool, max_waiting=CALLERS // 2) as writer:

        async def work() -> None:
            text = uuid4().hex * chance.choice((1, 5, 400))
            new: Any = new_response(
                anonymous_token=chance.choice(tokens), answer_text=text, submission_key=uuid4()
            )
            submit = partial(cancelled_at_times, partial(writer.submit_response, **new))
            row = await retried(submit, seconds=PATIENCE)
            acknowledged.append(row)
            if chance.random() < 0.2:
                score: Any = {"response_id": row["response_id"], "score_data": {"of": text[:9]}}
                record = partial(cancelled_at_times, partial(writer.record_score, **score))
                scored.append(await retried(record, seconds=PATIENCE))

        await storm.strike(work, acknowledged, workers=CALLERS, calls=CALLS)

    stored = {row["response_id"]: row async for row in backoffice.iter_responses(storm.pool)}
    scores = [
        score
        async for row in backoffice.iter_responses_with_scores(storm.pool)
        for score in row["scores"]
    ]
    by_id = {score["score_id"]: score for score in scores}
    counts = {
        "lost": sum(stored.get(row["response_id"]) != row for row in acknowledged),
        "lost_scores": sum(by_id.get(each["score_id"]) != each for each in scored),
        "duplicated": len(stored) - len(acknowledged),
        "leaked": await count_leaked(cluster, storm.pool),
    }
    figures(
        "calls in batches",
        acknowledged=len(acknowledged) + len(scored),
        cancelled=cancelled,
        **storm.counts,
        **counts,
    )
    assert not any(counts.values()), counts


@pytest.mark.parametrize(
    ("way", "begins", "stored"),
    [
        pytest.param(REPLY, ROW, 9, id="reply lost, after the commit"),
        pytest.param(REQUEST, BIND, 0, id="request lost"),
    ],
)
async def test_the_callers_of_a_lost_batch_may_retry(
    cluster: Cluster, token: UUID, *, way: str, begins: bytes, stored: int
) -> None:
    """Each is told that the outcome is unknown, and with keys all are stored once by a retry."""
    keys = [uuid4() for _ in range(9)]
    new: list[Any] = [new_response(anonymous_token=token, submission_key=key) for key in keys]

    async def get_stored() -> list[Any]:
        rows = "SELECT FROM assessment_responses WHERE anonymous_token = $1"
        return await cluster.fetch(rows, token)

    async with (
        proxied(cluster.socket()) as proxy,
        clients(cluster.url, host=proxy.folder) as pool,
        BatchingWriter(pool, connections=1) as writer,
    ):
        first = asyncio.ensure_future(writer.record_score(response_id=10**9, score_data={}))
        await asyncio.sleep(0)
        calls = [asyncio.ensure_future(writer.submit_response(**each)) for each in new]
        with pytest.raises(UnknownResponse):
            await first
        cut = proxy.cut(way, begins, 0.5)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert [each for each in outcomes if not isinstance(each, UNKNOWN)] == []
        assert way == REQUEST or (await cut).endswith(COMMITTED)
        assert len(await get_stored()) == stored
        again = await asyncio.gather(*(writer.submit_response(**each) for each in new))

    assert len({row["response_id"] for row in again}) == len(await get_stored()) == 9
