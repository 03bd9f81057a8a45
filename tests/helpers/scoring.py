"""The example worker with an AI that notes its calls, and what its queue holds.

As a program, `python -m tests.helpers.scoring`, it takes the worker's own options. CALLS names the
file of the calls: one line for each, the answer. An answer that begins with "fails" fails; the AI
hangs from its call number HANGS_AFTER on, until the file RELEASE exists.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
from pgqueuer.queries import Queries

import assessments
from examples import worker
from examples.jobs import By, enqueue
from tests.helpers.programs import program
from tests.helpers.rows import ids, new_response

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

BY = By("model-1", "p1")
calls = 0


async def install(database: str) -> None:
    """Create the queue's tables, as `pgq install` does."""
    connection = await asyncpg.connect(database)
    await Queries.from_asyncpg_connection(connection).install()
    await connection.close()


async def submit_with_jobs(conn: Any, answers: list[str], by: By = BY, **owner: Any) -> list[int]:
    """Submit the answers with a job for each, in one transaction; return the responses' ids."""
    async with conn.transaction():
        stored = await assessments.submit_responses(
            conn, [new_response(f"q-{text}", answer_text=text, **owner) for text in answers]
        )
        await enqueue(conn, ids(stored), by)
    return ids(stored)


async def scored(conn: asyncpg.Connection[Any], by: By = BY) -> list[int]:
    """Return the response of every score by the scorer, once for each score."""
    query = (
        "SELECT response_id FROM assessment_scores"
        " WHERE model_id = $1 AND prompt_version = $2 ORDER BY response_id"
    )
    return [row["response_id"] for row in await conn.fetch(query, *by)]


async def jobs(conn: asyncpg.Connection[Any]) -> dict[int, str]:
    """Return the status of each job in the queue, by response."""
    rows = await conn.fetch("SELECT convert_from(payload, 'UTF8') AS id, status FROM pgqueuer")
    return {int(row["id"]): row["status"] for row in rows}


async def redeliveries(conn: asyncpg.Connection[Any]) -> int:
    """Return how often a job was given to a second worker; only where none was retried."""
    query = "SELECT count(*) - count(DISTINCT job_id) FROM pgqueuer_log WHERE status = 'picked'"
    count: int = await conn.fetchval(query)
    return count


@contextmanager
def running(
    name: Path, database: str, *options: str, by: By = BY, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in a process of its own; *name* with .log and .calls is what it writes."""
    arguments = ["--model", by.model_id, "--prompt-version", by.prompt_version, *options]
    settings = {
        "DATABASE_URL": database,
        "CALLS": str(name.with_suffix(".calls")),
        "SILENCE_SECONDS": "3",
        "RETRY_SECONDS": "0.01",
        **environment,
    }
    log = name.with_suffix(".log")
    with program(log, "-m", "tests.helpers.scoring", *arguments, **settings) as process:
        yield process


async def finish(pool: Any, by: By = BY, ai: Any = None) -> None:
    """Work in this process until no job is waiting."""

    async def score(_answer_text: str) -> dict[str, Any]:
        return {"points": 1}

    await worker.work(pool, by, stop=asyncio.Event(), once=True, ai=ai or score)


def noted(name: Path) -> list[str]:
    """Return the answers that the worker *name* has sent to the AI, once for each call."""
    file = name.with_suffix(".calls")
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


async def ai(answer_text: str) -> dict[str, Any]:
    """Note the call and return a score."""
    global calls  # noqa: PLW0603 - one AI a process
    calls += 1
    number = calls
    with Path(os.environ["CALLS"]).open("a", encoding="utf-8") as file:  # noqa: ASYNC230 - a line
        file.write(f"{answer_text}\n")
    if answer_text.startswith("fails"):
        raise RuntimeError(answer_text)
    while number > int(os.environ.get("HANGS_AFTER", "1000000")):
        if Path(os.environ["RELEASE"]).exists():  # noqa: ASYNC240
            break
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.01)
    return {"points": float("nan") if answer_text.startswith("nonsense") else 1}


if __name__ == "__main__":
    asyncio.run(worker.main(ai))
