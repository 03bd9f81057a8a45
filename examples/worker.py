"""A scoring worker: run any number of them, and stop or kill any of them at any time.

DATABASE_URL=postgresql://… python -m examples.worker --model m1 --prompt-version p1

No transaction is open during the AI call, so a killed worker leaves nothing behind, and its
response stays in the backlog. Two workers may send the same response to the AI; only one stores its
score. A database error ends the worker: let a supervisor restart it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import assessments
from assessments import AssessmentsError, backoffice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("worker")

BATCH = 100
IDLE_SECONDS = 1.0
START_OVER_SECONDS = 600.0


class By(NamedTuple):
    """The scorer: the worker stores one score per response by each model and prompt version."""

    model_id: str
    prompt_version: str


async def score(answer_text: str) -> dict[str, Any]:
    """Return the AI's score of an answer. The AI call goes here."""
    await asyncio.sleep(float(os.environ.get("SCORE_SECONDS", "0.5")))
    return {"points": min(5, len(answer_text.split())), "of": 5}


async def is_unscored(conn: Any, response_id: int, by: By) -> bool:
    """Tell whether the response still exists and has no score by this scorer."""
    found = await backoffice.get_unscored_responses(
        conn, **by._asdict(), after=response_id - 1, up_to=response_id
    )
    return [row["response_id"] for row in found] == [response_id]


async def store_once(connection: Any, response_id: int, score_data: dict[str, Any], by: By) -> bool:
    """Store the score unless another worker has; return whether it did. Only in a transaction.

    The lock serializes workers on the same response. It is a statement of its own, so that the
    check after it sees what the previous lock holder committed.
    """
    lock_name = f"score of {response_id} by {by.model_id}, {by.prompt_version}"
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", lock_name)
    if not await is_unscored(connection, response_id, by):
        return False
    await backoffice.record_score(
        connection, response_id=response_id, score_data=score_data, **by._asdict()
    )
    return True


async def work_on(
    pool: Any, response: Any, by: By, ai: Callable[[str], Awaitable[dict[str, Any]]]
) -> None:
    """Score one response unless another worker has."""
    response_id = response["response_id"]
    if not await is_unscored(pool, response_id, by):  # fewer duplicate AI calls
        return
    try:
        score_data = await ai(response["answer_text"])
    except Exception as error:  # noqa: BLE001 - any error of the AI; it may quote the answer
        log.warning("response %d: %s, not scored", response_id, type(error).__name__)
        return
    try:
        # READ COMMITTED, whatever the server's default: see `store_once`.
        async with pool.acquire() as conn, conn.transaction(isolation="read_committed"):
            stored = await store_once(conn, response_id, score_data, by)
    except AssessmentsError as error:  # the score is not valid JSON, or the response was erased
        log.warning("response %d: %s, not scored", response_id, type(error).__name__)
        return
    log.info("response %d: %s", response_id, "scored" if stored else "already scored, or erased")


async def work(
    pool: Any,
    by: By,
    *,
    stop: asyncio.Event,
    once: bool = False,
    ai: Callable[[str], Awaitable[dict[str, Any]]] = score,
    start_over_seconds: float = START_OVER_SECONDS,
) -> None:
    """Score the backlog until *stop* is set or, with *once*, until one pass is done.

    A pass continues from its cursor. Now and then it starts over, for responses that the AI failed
    on and for those whose transactions committed late, behind the cursor.
    """
    after, began = None, time.monotonic()
    while not stop.is_set():
        batch = await backoffice.get_unscored_responses(
            pool, **by._asdict(), limit=BATCH, after=after
        )
        if batch:
            after = batch[-1]["response_id"]
        elif once:
            return
        else:
            if time.monotonic() - began >= start_over_seconds:
                after, began = None, time.monotonic()
            await pause(stop)
        random.shuffle(batch)  # so that workers do not run in lockstep
        for response in batch:
            if stop.is_set():
                return
            await work_on(pool, response, by, ai)


async def pause(stop: asyncio.Event) -> None:
    """Wait `IDLE_SECONDS`, or until *stop* is set."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(stop.wait(), IDLE_SECONDS)


async def main() -> None:
    """Work until the end of the pass, SIGTERM or Ctrl-C; finish the current response first."""
    parser = argparse.ArgumentParser(prog="python -m examples.worker")
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt-version", required=True)
    parser.add_argument("--once", action="store_true", help="exit after one pass")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with assessments.create_pool(os.environ["DATABASE_URL"], max_size=1) as pool:
        by = By(options.model, options.prompt_version)
        await work(pool, by, stop=stop, once=options.once)


if __name__ == "__main__":
    asyncio.run(main())
