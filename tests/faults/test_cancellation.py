"""A cancelled call may have been carried out or not; it leaves nothing else behind."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

import assessments
from tests.helpers.proxy import proxied
from tests.helpers.rows import ids, new_user, submit
from tests.helpers.storms import CLIENTS, clients, leaked, together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from tests.helpers.cluster import Cluster

CANCELLED = 500  # in each of two ways to call


async def cancelled_after(call: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """Return what *call* returns, or cancel its task and raise TimeoutError."""
    task = asyncio.create_task(call)
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


class Impatient:
    """A caller that cancels at random moments, and counts."""

    def __init__(self) -> None:
        self.cancelled = 0
        self._usual = 0.01  # seconds that a call takes

    async def until_through(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Return what *call* returns the first time that it is not cancelled."""
        while True:
            began, patience = time.monotonic(), random.uniform(0, 2 * self._usual)
            way = random.choice((asyncio.wait_for, cancelled_after))
            try:
                result = await way(call(), patience)
            except asyncio.TimeoutError:
                self.cancelled += 1
                self._usual *= 1.02
                continue
            self._usual += (time.monotonic() - began - self._usual) / 10
            return result


@pytest.mark.parametrize("in_a_transaction", [False, True])
async def test_calls_cancelled_at_random_leave_nothing_behind(
    cluster: Cluster, scale: int, figures: Callable[..., None], *, in_a_transaction: bool
) -> None:
    """Submits and claims made again until they are through are there once; all is idle and free."""
    await cluster.ask("TRUNCATE assessment_responses, assessment_scores")
    caller = Impatient()
    through: list[Any] = []
    lost = wrong = 0

    async def work(pool: Any) -> None:
        async def run(function: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
            if not in_a_transaction:
                return await function(pool, **arguments)
            async with pool.acquire() as connection, connection.transaction():
                return await function(connection, **arguments)

        nonlocal lost, wrong
        while caller.cancelled < CANCELLED * scale:
            token, user = uuid4(), await new_user(pool)
            rows = [
                await caller.until_through(
                    partial(
                        run,
                        submit,
                        question_id=f"q{n // 2}",
                        anonymous_token=token,
                        submission_key=uuid4(),
                    )
                )
                for n in range(4)
            ]
            claim = partial(run, assessments.claim_assessment_responses)
            claimed = await caller.until_through(
                partial(claim, anonymous_token=token, user_id=user)
            )
            owned = await assessments.get_responses(pool, user_id=user)
            lost += len(set(ids(rows)) - set(ids(owned)))
            wrong += claimed not in (0, 4)
            wrong += sorted(ids(owned)) != sorted(ids(rows))
            through.extend(owned)

    async with clients(cluster.url) as pool:
        await together(*(work(pool) for _ in range(CLIENTS)), minutes=3 * scale)
        ((stored,),) = await cluster.ask("SELECT count(*) FROM assessment_responses")
        counts = {
            "lost": lost,
            "duplicated": stored - len(through),
            "half_claimed_or_missing": wrong,
            "leaked": await leaked(cluster, pool),
        }
    title = f"calls {'in a transaction' if in_a_transaction else 'on a pool'}"
    figures(title, cancelled=caller.cancelled, submitted=len(through), **counts)
    assert not any(counts.values()), counts


CALLS: dict[str, Callable[[Any, Any], Coroutine[Any, Any, Any]]] = {
    "claim": lambda conn, new: assessments.claim_assessment_responses(
        conn, anonymous_token=new["anonymous_token"], user_id=1
    ),
    "batch with a key": lambda conn, new: assessments.submit_responses(
        conn, [new | {"submission_key": uuid4()}]
    ),
    "first batch": lambda conn, new: assessments.submit_responses(conn, [new]),
}


@pytest.mark.parametrize(
    ("name", "pooler"),
    [
        ("claim", None),
        ("claim", "transaction"),
        ("batch with a key", None),
        ("batch with a key", "transaction"),
        ("first batch", "transaction"),  # asks for the types of arrays
    ],
)
async def test_a_call_cancelled_at_its_begin_leaves_no_transaction_open(
    cluster: Cluster, name: str, pooler: Any
) -> None:
    """What is submitted afterwards on the same connection is committed, and not part of it."""
    new: Any = {"question_id": "q1", "module_slug": "m1", "answer_text": "Because."}
    new["anonymous_token"] = uuid4()
    async with (
        proxied(cluster.socket()) as proxy,
        clients(cluster.url, host=proxy.folder, pooler=pooler) as pool,
        pool.acquire() as conn,
    ):
        proxy.stop_at = b"BEGIN"
        calling = asyncio.create_task(CALLS[name](conn, new))
        while proxy.passing.is_set() and not calling.done():
            await asyncio.sleep(0.001)
        calling.cancel()
        proxy.passing.set()
        await asyncio.wait([calling])
        assert calling.cancelled()
        await assessments.submit_response(conn, **new)

        stored = "SELECT FROM assessment_responses WHERE anonymous_token = $1"
        assert len(await cluster.ask(stored, new["anonymous_token"])) == 1
