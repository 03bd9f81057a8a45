"""A scoring worker: start as many as there is work for, and end any of them at any moment.

To run it: ``DATABASE_URL=postgresql://… python -m examples.worker --model m1 --prompt-version p1``

Nothing is open in the database while the AI thinks, so a killed worker leaves nothing behind, and
what it was at is still in the backlog. Two workers may send the same response to the AI; only one
of them stores its score. An error of the database ends the worker: let a supervisor restart it.
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
    """What scores: one score for each response by each of these."""

    model_id: str
    prompt_version: str


async def score(answer_text: str) -> dict[str, Any]:
    """Return what the AI makes of an answer. The AI goes here."""
    await asyncio.sleep(float(os.environ.get("SCORE_SECONDS", "0.5")))
    return {"points": min(5, len(answer_text.split())), "of": 5}


async def is_unscored(conn: Any, response_id: int, by: By) -> bool:
    """Tell whether the response is still there, and without a score by this."""
    found = await backoffice.get_unscored_responses(
        conn, **by._asdict(), after=response_id - 1, up_to=response_id
    )
    return [row["response_id"] for row in found] == [response_id]


async def store_once(connection: Any, response_id: int, score_data: dict[str, Any], by: By) -> bool:
    """Store the score unless another worker has; return whether it did. In a transaction only.

    The lock makes workers at the same response take turns. It is a statement of its own so that
    the look after it sees what the worker before has committed.
    """
    turn = f"score of {response_id} by {by.model_id}, {by.prompt_version}"
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", turn)
    if not await is_unscored(connection, response_id, by):
        return False
    await backoffice.record_score(
        connection, response_id=response_id, score_data=score_data, **by._asdict()
    )
    return True


async def work_on(
    pool: Any, response: Any, by: By, ai: Callable[[str], Awaitable[dict[str, Any]]]
) -> None:
    """Score one response, if no other worker has."""
    response_id = response["response_id"]
    if not await is_unscored(pool, response_id, by):  # spares the AI some that is done twice
        return
    try:
        score_data = await ai(response["answer_text"])
    except Exception as error:  # noqa: BLE001 - whatever an AI fails with, and it may quote
        log.warning("response %d: %s, left for later", response_id, type(error).__name__)
        return
    try:
        # READ COMMITTED, whatever the server's default: see `store_once`.
        async with pool.acquire() as conn, conn.transaction(isolation="read_committed"):
            stored = await store_once(conn, response_id, score_data, by)
    except AssessmentsError as error:  # what the AI said is no JSON, or the response was erased
        log.warning("response %d: %s, left for later", response_id, type(error).__name__)
        return
    log.info("response %d: %s", response_id, "scored" if stored else "scored elsewhere, or erased")


async def work(
    pool: Any,
    by: By,
    *,
    stop: asyncio.Event,
    once: bool = False,
    ai: Callable[[str], Awaitable[dict[str, Any]]] = score,
    start_over_seconds: float = START_OVER_SECONDS,
) -> None:
    """Score what is unscored until *stop* is set or, with *once*, until one pass is done.

    A pass goes on from its cursor. Now and then it starts over, for what the AI failed at and for
    responses whose transactions committed late, behind the cursor.
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
        random.shuffle(batch)  # so that two workers do not walk in step
        for response in batch:
            if stop.is_set():
                return
            await work_on(pool, response, by, ai)


async def pause(stop: asyncio.Event) -> None:
    """Wait a little, or until *stop* is set."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(stop.wait(), IDLE_SECONDS)


async def main() -> None:
    """Work until the end of the pass, SIGTERM or Ctrl-C; then finish the current response."""
    parser = argparse.ArgumentParser(prog="python -m examples.worker")
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt-version", required=True)
    parser.add_argument("--once", action="store_true", help="end after one pass")
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
