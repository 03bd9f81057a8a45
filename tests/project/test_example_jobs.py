"""The example jobs: stored with their responses, enqueued from the backlog, read by workers."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from pgqueuer.queries import Queries

import assessments
from assessments import backoffice
from examples import worker
from examples.jobs import By, enqueue, enqueue_backlog
from tests.helpers import codecs, pages, pgbouncer
from tests.helpers.programs import until
from tests.helpers.rows import ids, submit
from tests.helpers.scoring import (
    BY,
    finish,
    jobs,
    running,
    scored,
    submit_with_jobs,
)

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

ANSWERS = [f"answer {number}" for number in range(40)]
NEXT = By(BY.model_id, "p2")

pytestmark = pytest.mark.usefixtures("queue")


async def test_a_job_is_committed_with_its_response_or_not_at_all(
    conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """A rolled-back submission leaves no job, and a committed one has its job."""
    transaction = conn.transaction()
    await transaction.start()
    await submit_with_jobs(conn, ["rolled back"], user_id=user_id)
    assert len(await jobs(conn)) == 1
    await transaction.rollback()
    assert await jobs(conn) == {}

    (kept,) = await submit_with_jobs(conn, ["committed"], user_id=user_id)
    assert await jobs(conn) == {kept: "queued"}


async def test_a_second_job_is_not_enqueued_while_one_is_waiting(
    conn: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """It leaves the transaction usable; and a job for what is scored ends without an AI call."""
    (response_id,) = await submit_with_jobs(conn, ["twice"], user_id=user_id)
    async with conn.transaction():
        assert await enqueue(conn, [response_id], BY) == 0
        assert await conn.fetchval("SELECT count(*) FROM pgqueuer") == 1
    await finish(pool)

    assert await enqueue(conn, [response_id], BY) == 1
    await finish(pool, ai=lambda _text: pytest.fail("no AI call is needed"))

    assert await scored(conn) == [response_id]
    assert await jobs(conn) == {}


@pytest.mark.skipif(pgbouncer.binary() is None, reason="PgBouncer is not installed")
async def test_a_service_behind_a_pooler_enqueues(
    database: str, conn: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """Through a transaction-mode pooler each response gets its job, which a worker takes."""
    with pgbouncer.running(database) as url:
        async with assessments.create_pool(url, pooler="transaction") as pooled:

            async def submit_one(answer: str) -> None:
                async with pooled.acquire() as connection:
                    await submit_with_jobs(connection, [answer], user_id=user_id)

            await asyncio.gather(*(submit_one(answer) for answer in ANSWERS[:30]))

    await finish(pool)

    assert len(await scored(conn)) == 30


@pytest.mark.parametrize("codec", codecs.NAMES)
async def test_a_worker_reads_jobs_of_a_host_with_a_json_codec(
    *, conn: asyncpg.Connection[Any], pool: Any, user_id: int, codec: str
) -> None:
    """Whatever codec the submitting connection has, the worker scores the response."""
    await codecs.init(codec)(conn)
    submitted = await submit_with_jobs(conn, ["from a host"], user_id=user_id)

    await finish(pool)

    assert await scored(conn) == submitted


async def test_the_rights_in_the_page_suffice(
    database: str, conn: asyncpg.Connection[Any], user_id: int, tmp_path: Path
) -> None:
    """With the grants of docs/deploying.md the service enqueues, and a worker scores and holds."""
    service, scorer = (f"{name}_{uuid4().hex}" for name in ("service", "worker"))
    (grants,) = pages.blocks("docs/deploying.md", "sql", "The queue")
    await conn.execute(f"CREATE ROLE {service}; CREATE ROLE {scorer}")
    await conn.execute(
        grants.replace("assessments_app", service).replace("assessments_worker", scorer)
    )
    tables = "assessment_responses, assessment_scores"
    await conn.execute(f"GRANT SELECT, INSERT, UPDATE ON {tables}, users TO {service}, {scorer}")
    try:
        async with conn.transaction():
            await conn.execute(f"SET LOCAL ROLE {service}")
            failing, fine = await submit_with_jobs(conn, ["nonsense", "fine"], user_id=user_id)
        as_scorer = f"{database}{'&' if '?' in database else '?'}role={scorer}"
        for name, option in (("backlog", "--enqueue-backlog"), ("worker", "--once")):
            with running(tmp_path / name, as_scorer, option) as process:
                assert await asyncio.to_thread(process.wait, 60) == 0
        async with conn.transaction():  # a worker does it now and then, and hides a failure
            await conn.execute(f"SET LOCAL ROLE {scorer}")
            await Queries.from_asyncpg_connection(conn).aggregate_logs()
        assert await scored(conn) == [fine]
        assert (await jobs(conn))[failing] == "failed"
    finally:
        await conn.execute(f"DROP OWNED BY {service}, {scorer}; DROP ROLE {service}, {scorer}")


async def test_the_backlog_is_enqueued_where_no_job_is_waiting(
    database: str, conn: asyncpg.Connection[Any], pool: Any, user_id: int, tmp_path: Path
) -> None:
    """It finds what was stored without a job, a second run finds nothing, and all is scored."""
    queued = await submit_with_jobs(conn, ["queued"], user_id=user_id)
    lost = [await submit(conn, f"q{number}", user_id=user_id) for number in range(3)]

    for expected in (3, 0):
        name = tmp_path / f"run{expected}"
        with running(name, database, "--enqueue-backlog") as process:
            assert await asyncio.to_thread(process.wait, 60) == 0
        log = name.with_suffix(".log").read_text(encoding="utf-8")
        assert re.findall(r"(\d+) enqueued", log) == [str(expected)]
    await finish(pool)

    assert await scored(conn) == [*queued, *ids(lost)]
    assert await enqueue_backlog(pool, BY) == 0


async def test_the_backlog_is_enqueued_beside_traffic(
    conn: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """While responses are submitted and scored, each gets one AI call and one score."""
    called: list[str] = []
    stop = asyncio.Event()

    async def ai(answer_text: str) -> dict[str, Any]:
        called.append(answer_text)
        await asyncio.sleep(0)
        return {"points": 1}

    async def reconcile() -> None:
        while not stop.is_set():
            await enqueue_backlog(pool, BY)

    working = [
        asyncio.create_task(worker.work(pool, BY, stop=stop, ai=ai)),
        asyncio.create_task(reconcile()),
    ]
    submitted = [
        response_id
        for answer in ANSWERS
        for response_id in await submit_with_jobs(conn, [answer], user_id=user_id)
    ]

    async def are_scored() -> bool:
        return await scored(conn) == submitted and await jobs(conn) == {}

    await until(are_scored)
    stop.set()
    await asyncio.gather(*working)
    assert sorted(called) == sorted(ANSWERS)
    assert await backoffice.get_unscored_responses(conn, **BY._asdict()) == []


async def test_a_new_prompt_version_scores_everything_again(
    conn: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """Its jobs wait beside those of the old version, and each worker takes only its own."""
    submitted = await submit_with_jobs(conn, ANSWERS[:5], user_id=user_id)
    await conn.execute(
        "UPDATE pgqueuer SET status = 'failed' WHERE id = (SELECT min(id) FROM pgqueuer)"
    )
    assert await enqueue_backlog(pool, NEXT) == 5

    await finish(pool)
    assert await scored(conn) == submitted[1:]
    assert await scored(conn, NEXT) == []

    await finish(pool, NEXT)
    assert await scored(conn) == submitted[1:]
    assert await scored(conn, NEXT) == submitted
