"""Scoring jobs on PgQueuer: what the service enqueues and the worker takes.

A job holds a response's id and nothing else, so a claim or an erasure need not know of it. Its
entrypoint names the scorer: a worker takes only the jobs of its own model and prompt version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from assessments import backoffice

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg
    from pgqueuer.models import Job

BATCH = 100


class By(NamedTuple):
    """The scorer: a response gets one score by each model and prompt version."""

    model_id: str
    prompt_version: str

    @property
    def entrypoint(self) -> str:
        """Return the name under which PgQueuer routes jobs to this scorer's workers."""
        return f"score by {self.model_id}, {self.prompt_version}"


class _Driver(AsyncpgDriver):
    """PgQueuer's driver, for a connection that may have a JSON codec of the host's.

    The codec would encode a job's headers a second time, and no worker could read the job.
    """

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        return await super().fetch(query.replace("$6::jsonb[]", "$6::text[]::jsonb[]"), *args)


async def enqueue(connection: Any, response_ids: Sequence[int], by: By) -> int:
    """Enqueue the scoring of each response that has no job waiting or running; return how many.

    In the connection's transaction: the jobs are committed, or rolled back, with its other writes.
    """
    ids = [str(response_id) for response_id in response_ids]
    jobs = await Queries(_Driver(connection)).enqueue(
        [by.entrypoint] * len(ids),
        [response_id.encode() for response_id in ids],
        [0] * len(ids),
        dedupe_key=[f"{by.entrypoint}: {response_id}" for response_id in ids],
        on_conflict="skip",
    )
    return sum(job is not None for job in jobs)


def response_of(job: Job) -> int:
    """Return the id of the response that the job is about."""
    return int(job.payload or b"")


async def enqueue_backlog(pool: asyncpg.Pool[Any], by: By) -> int:
    """Enqueue every unscored response that has no job; return how many. Safe at any time.

    For what an outage left behind, and to score again by a new prompt version. Failed jobs stay as
    they are: `pgq requeue` retries them.
    """
    failed = await _failed(pool, by)
    count, after = 0, None
    while backlog := await backoffice.get_unscored_responses(
        pool, **by._asdict(), limit=BATCH, after=after
    ):
        after = backlog[-1]["response_id"]
        ids = [row["response_id"] for row in backlog if row["response_id"] not in failed]
        async with pool.acquire() as connection:
            count += await enqueue(connection, ids, by)
    return count


async def _failed(pool: asyncpg.Pool[Any], by: By) -> set[int]:
    queries, offset, found = Queries.from_asyncpg_pool(pool), 0, set[int]()
    while jobs := await queries.browse_queue(BATCH, offset, ["failed"], [by.entrypoint]):
        offset += len(jobs)
        found |= {response_of(job) for job in jobs}
    return found
