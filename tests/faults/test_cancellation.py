"""A cancelled call is carried out or not, and leaves nothing else behind."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

import assessments
from tests.helpers.calls import Subject, catalogue
from tests.helpers.proxy import proxied
from tests.helpers.rows import ids, new_user, submit
from tests.helpers.storms import CLIENTS, clients, count_leaked, run_together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from random import Random

    from tests.helpers.cluster import Cluster

CANCELLATIONS = 500


async def cancel_after(call: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """Return what *call* returns, or cancel its task and raise TimeoutError."""
    task = asyncio.create_task(call)
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


class CancellingCaller:
    """A caller that cancels its calls at random moments, and counts how often."""

    def __init__(self, chance: Random) -> None:
        self.cancelled = 0
        self._chance = chance
        self._usual = 0.01  # seconds that a call takes

    async def retry(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Return what *call* returns the first time that it is not cancelled."""
        while True:
            began, limit = time.monotonic(), self._chance.uniform(0, 2 * self._usual)
            way = self._chance.choice((asyncio.wait_for, cancel_after))
            try:
                result = await way(call(), limit)
            except asyncio.TimeoutError:
                self.cancelled += 1
                self._usual *= 1.02
                continue
            self._usual += (time.monotonic() - began - self._usual) / 10
            return result


@pytest.mark.parametrize("in_a_transaction", [False, True])
async def test_retries_of_cancelled_calls_store_once_and_leak_nothing(
    cluster: Cluster,
    scale: int,
    chance: Random,
    figures: Callable[..., None],
    *,
    in_a_transaction: bool,
) -> None:
    """Submissions and claims cancelled at random and retried until they return happen once."""
    await cluster.fetch("TRUNCATE assessment_responses, assessment_scores")
    caller = CancellingCaller(chance)
    counts = Counter(lost=0, duplicated=0, half_claimed_or_missing=0)
    submitted = 0

    async def work(pool: Any) -> None:
        async def run(function: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
            if not in_a_transaction:
                return await function(pool, **arguments)
            async with pool.acquire() as connection, connection.transaction():
                return await function(connection, **arguments)

        def retry(function: Callable[..., Awaitable[Any]], **arguments: Any) -> Awaitable[Any]:
            return caller.retry(partial(run, function, **arguments))

        nonlocal submitted
        while caller.cancelled < CANCELLATIONS * scale:
            owner = {"anonymous_token": uuid4()}
            user_id = await new_user(pool)
            rows = [
                await retry(submit, question_id=f"q{n // 2}", submission_key=uuid4(), **owner)
                for n in range(4)
            ]
            claimed = await retry(assessments.claim_assessment_responses, user_id=user_id, **owner)
            owned = await assessments.get_responses(pool, user_id=user_id)
            counts["lost"] += len(set(ids(rows)) - set(ids(owned)))
            counts["half_claimed_or_missing"] += claimed not in (0, 4)
            counts["half_claimed_or_missing"] += sorted(ids(owned)) != sorted(ids(rows))
            submitted += len(owned)

    async with clients(cluster.url) as pool:
        await run_together(*(work(pool) for _ in range(CLIENTS)), minutes=3 * scale)
        ((stored,),) = await cluster.fetch("SELECT count(*) FROM assessment_responses")
        counts["duplicated"] = stored - submitted
        counts["leaked"] = await count_leaked(cluster, pool)
    title = f"calls {'in a transaction' if in_a_transaction else 'on a pool'}"
    figures(title, cancelled=caller.cancelled, submitted=submitted, **counts)
    assert not any(counts.values()), counts


@pytest.mark.parametrize("pooler", [None, "transaction"])
@pytest.mark.parametrize("name", ["claim_assessment_responses", "submit_responses with keys"])
async def test_a_call_cancelled_at_its_begin_leaves_no_transaction_open(
    cluster: Cluster, token: UUID, name: str, pooler: Any
) -> None:
    """What the same connection submits afterwards is committed."""
    call = catalogue(Subject(anonymous_token=token, writer={"anonymous_token": token}))[name]
    async with (
        proxied(cluster.socket()) as proxy,
        clients(cluster.url, host=proxy.folder, pooler=pooler) as pool,
        pool.acquire() as conn,
    ):
        proxy.stop_at = b"BEGIN"
        calling = asyncio.create_task(call(conn))
        while proxy.passing.is_set() and not calling.done():
            await asyncio.sleep(0.001)
        calling.cancel()
        proxy.passing.set()
        await asyncio.wait([calling])
        assert calling.cancelled()
        await submit(conn, anonymous_token=token)

        stored = "SELECT FROM assessment_responses WHERE anonymous_token = $1"
        assert len(await cluster.fetch(stored, token)) == 1
