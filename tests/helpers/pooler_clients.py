"""Clients of a pooler that make every call and know what each is to return."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from assessments import create_pool
from tests.helpers.calls import Call
from tests.helpers.rows import ids, new_user

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    import asyncpg

    Pool = asyncpg.Pool[Any]

CLIENTS = 16


def behind(url: str, size: int = CLIENTS, **options: Any) -> Pool:
    """Create a pool of *size* clients of the pooler at *url*."""
    return create_pool(url, pooler="transaction", min_size=size, max_size=size, **options)


class Client:
    """An anonymous owner who becomes a user, and knows what every call is to return."""

    def __init__(self, pool: Pool, counted: Counter[str]) -> None:
        self.pool, self.counted = pool, counted
        self.token = uuid4()

    async def call(self, function: str, **arguments: Any) -> Any:
        """Call *function*, and count it under its name."""
        self.counted[function] += 1
        return await Call(function, arguments)(self.pool)

    async def round(self) -> None:  # noqa: PLR0915 - one round of a service's work
        """Make every call; fail where one returns what is not this client's."""
        user, anonymous = {"user_id": await new_user(self.pool)}, {"anonymous_token": self.token}
        model = f"model of {self.token}"
        wanted = [
            {
                **anonymous,
                "question_id": f"{number} of {self.token}",
                "module_slug": f"module of {self.token}",
                "answer_text": f"answer {number} of {self.token}",
            }
            for number in range(3)
        ]

        def same(rows: Any, expected: list[dict[str, Any]]) -> None:
            assert [{name: row[name] for name in wanted[0]} for row in rows] == expected

        keyed = [{**each, "submission_key": uuid4()} for each in wanted]
        first = await self.call("submit_response", **keyed[0])
        rows = [first, *await self.call("submit_responses", responses=keyed[1:])]
        same(rows, wanted)
        assert await self.call("submit_responses", responses=keyed) == rows
        assert await self.call("submit_response", **keyed[0]) == first
        same([await self.call("submit_response", **wanted[0])], wanted[:1])
        same(await self.call("submit_responses", responses=wanted[1:]), wanted[1:])
        assert await self.call("delete_responses", **anonymous) == 6
        rows = await self.call("submit_responses", responses=wanted)
        assert ids(rows) == sorted(ids(rows))
        newest, question = wanted[::-1], {"question_id": wanted[1]["question_id"]}
        same(await self.call("get_responses", **anonymous), newest)
        same(await self.call("get_latest_responses", **anonymous), newest)
        same(await self.call("get_responses_for_question", **anonymous, **question), wanted[1:2])

        for row in rows:
            window = {"after": row["response_id"] - 1, "up_to": row["response_id"]}
            assert await self.call("get_unscored_responses", model_id=model, **window) == [row]
        scores = [
            {"response_id": key, "score_data": {"of": key, "by": model}, "model_id": model}
            for key in ids(rows)
        ]
        stored = [await self.call("record_score", **scores[0])]
        stored += await self.call("record_scores", scores=scores[1:])
        for score, given in zip(stored, scores, strict=True):
            assert {name: score[name] for name in given} == given
            key = {"response_id": score["response_id"]}
            assert await self.call("get_scores", **anonymous, **key) == [score]
            assert await self.call("backoffice.get_scores", **key) == [score]
        scored = await self.call("get_responses_with_latest_score", **anonymous)
        same(scored, newest)
        assert [row["latest_score"] for row in scored] == stored[::-1]
        latest = await self.call("get_latest_responses_with_latest_score", **anonymous)
        assert latest == scored
        once = {**scores[0], "prompt_version": model}
        first_score = await self.call("record_score_once", **once)
        assert first_score["score_data"] == once["score_data"]
        assert await self.call("record_score_once", **once) is None
        assert await self.call("get_responses_by_id", response_ids=ids(scored)) == rows
        key = {"response_id": rows[1]["response_id"]}
        assert await self.call("get_response", **anonymous, **key) == rows[1]

        day = timedelta(days=1)
        assert await self.call("purge_anonymous_responses", older_than=day) == 0
        assert await self.call("purge_responses", older_than=day) == 0
        assert await self.call("claim_assessment_responses", **anonymous, **user) == 3
        claimed = [{**row, **user, "anonymous_token": None} for row in rows]
        assert await self.call("iter_responses", **user, batch_size=2) == claimed
        walked = await self.call("iter_responses_with_scores", **user, batch_size=2)
        histories = [[first_score, stored[0]], stored[1:2], stored[2:]]
        assert [row.pop("scores") for row in walked] == histories
        assert walked == claimed
        assert await self.call("delete_responses", **user) == 3
        assert await self.call("get_responses", **user, **anonymous) == []


async def load(url: str, rounds: int) -> Counter[str]:
    """Return how often 16 concurrent clients made each call, and what went wrong."""
    counted: Counter[str] = Counter()

    async def client() -> None:
        for _ in range(rounds):
            try:
                await Client(pool, counted).round()
            except Exception as error:  # noqa: BLE001, PERF203 - counted, whatever it is
                counted[f"wrong: {getattr(error, 'sqlstate', type(error).__name__)}"] += 1

    async with behind(url) as pool:
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return counted


_start: Barrier


def _join(start: Barrier) -> None:
    """Keep the barrier at which the processes wait, so that they work concurrently."""
    global _start  # noqa: PLW0603 - how an executor hands a Barrier to its processes
    _start = start


def _load(url: str, rounds: int) -> Counter[str]:
    _start.wait(60)
    return asyncio.run(load(url, rounds))


async def load_from_processes(processes: int, url: str, rounds: int) -> Counter[str]:
    """Return the same from 16 clients in each of so many concurrent processes."""
    fresh, loop = multiprocessing.get_context("spawn"), asyncio.get_running_loop()
    with ProcessPoolExecutor(processes, fresh, _join, (fresh.Barrier(processes),)) as executor:
        loads = [loop.run_in_executor(executor, _load, url, rounds) for _ in range(processes)]
        return sum(await asyncio.gather(*loads), Counter[str]())
