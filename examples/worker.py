"""A scoring worker: run any number of them, and stop or kill any of them at any time.

pgq --pg-dsn "$DATABASE_URL" install  # once: the queue's tables
DATABASE_URL=postgresql://… python -m examples.worker --model m1 --prompt-version p1
DATABASE_URL=postgresql://… python -m examples.worker --model m1 --prompt-version p1 \
    --enqueue-backlog  # after an outage, or for a new prompt version; then it exits

The service enqueues each response in the transaction that stores it. No transaction is open during
the AI call. The job of a killed worker is delivered again, and the score is stored once. Workers
LISTEN: connect them to the server, not to a transaction-mode pooler. A lost connection ends the
worker: let a supervisor restart it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pgqueuer.executors import DatabaseRetryEntrypointExecutor
from pgqueuer.models import Job  # noqa: TC002 - PgQueuer reads the handler's annotations
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

import assessments
from assessments import UnknownResponse, backoffice
from examples.jobs import By, enqueue_backlog, response_of
from examples.retry import retried

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("worker")

AI_CALLS = 4  # at once
AI_SECONDS = 60.0  # the longest
RETRIES = 5
RETRY_SECONDS = float(os.environ.get("RETRY_SECONDS", "10"))  # before the first; then doubled
# A job whose worker has been silent for so long is delivered again.
SILENCE = timedelta(seconds=float(os.environ.get("SILENCE_SECONDS", "30")))


class NotScored(Exception):
    """The AI failed, or gave no valid score. Quotes neither: PgQueuer stores the message."""


async def score(answer_text: str) -> dict[str, Any]:
    """Return the AI's score of an answer. The AI call goes here."""
    await asyncio.sleep(float(os.environ.get("SCORE_SECONDS", "0.5")))
    return {"points": min(5, len(answer_text.split())), "of": 5}


async def work_on(
    pool: Any, response_id: int, by: By, ai: Callable[[str], Awaitable[dict[str, Any]]]
) -> str:
    """Score one response, unless it is already scored or was erased; return what was done."""
    found = await retried(
        lambda: backoffice.get_unscored_responses(
            pool, **by._asdict(), after=response_id - 1, up_to=response_id
        )
    )
    if not found:
        return "already scored, or erased"
    score_data = await asyncio.wait_for(ai(found[0]["answer_text"]), AI_SECONDS)
    with suppress(UnknownResponse):  # erased during the AI call
        if await retried(
            lambda: backoffice.record_score_once(
                pool, response_id=response_id, score_data=score_data, **by._asdict()
            )
        ):
            return "scored"
    return "already scored, or erased"


async def work(
    pool: Any,
    by: By,
    *,
    stop: asyncio.Event,
    once: bool = False,
    ai: Callable[[str], Awaitable[dict[str, Any]]],
) -> None:
    """Score the queued responses until *stop* is set or, with *once*, until none is waiting.

    A failed job is retried later and later; after the last retry PgQueuer holds it for inspection.
    """
    manager = QueueManager(Queries.from_asyncpg_pool(pool))
    manager.shutdown = stop
    retrying = partial(
        DatabaseRetryEntrypointExecutor,
        max_attempts=RETRIES,
        initial_delay=timedelta(seconds=RETRY_SECONDS),
    )

    @manager.entrypoint(by.entrypoint, on_failure="hold", executor_factory=retrying)
    async def score_response(job: Job) -> None:
        response_id, problem = response_of(job), None
        try:
            log.info("response %d: %s", response_id, await work_on(pool, response_id, by, ai))
        except Exception as error:  # noqa: BLE001 - any error of the AI; it may quote the answer
            problem = type(error).__name__
        if problem:  # raised out here, the new error does not carry the other along
            raise NotScored(f"response {response_id}: {problem}")

    await manager.run(
        dequeue_timeout=SILENCE / 6,  # only new jobs notify; retries and re-deliveries do not
        heartbeat_timeout=SILENCE,
        batch_size=1,
        max_concurrent_tasks=AI_CALLS,
        mode=QueueExecutionMode.drain if once else QueueExecutionMode.continuous,
        shutdown_on_listener_failure=True,
    )


async def main(ai: Callable[[str], Awaitable[dict[str, Any]]] = score) -> None:
    """Work until SIGTERM or Ctrl-C, or with --once until no job is waiting; finish what began."""
    parser = argparse.ArgumentParser(prog="python -m examples.worker")
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt-version", required=True)
    parser.add_argument("--once", action="store_true", help="exit when no job is waiting")
    parser.add_argument("--enqueue-backlog", action="store_true", help="enqueue, and exit")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    by = By(options.model, options.prompt_version)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with assessments.create_pool(os.environ["DATABASE_URL"], max_size=4) as pool:
        if options.enqueue_backlog:
            log.info("%d enqueued", await enqueue_backlog(pool, by))
        else:
            await work(pool, by, stop=stop, once=options.once, ai=ai)


if __name__ == "__main__":
    asyncio.run(main())
