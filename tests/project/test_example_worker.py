"""The example workers on their queue: beside each other, killed, interrupted, and failing."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from contextlib import ExitStack
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
from tests.helpers.rows import SECRET, ids, submit
from tests.helpers.scoring import (
    BY,
    jobs,
    noted,
    redeliveries,
    running,
    scored,
    submit_with_jobs,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    import asyncpg

ANSWERS = [f"answer {number}" for number in range(400)]
NEXT = By(BY.model_id, "p2")

pytestmark = pytest.mark.usefixtures("queue")


async def finish(pool: Any, by: By = BY, ai: Any = None) -> None:
    """Work in this process until no job is waiting."""

    async def score(_answer_text: str) -> dict[str, Any]:
        return {"points": 1}

    await worker.work(pool, by, stop=asyncio.Event(), once=True, ai=ai or score)


async def test_eight_workers_make_one_ai_call_for_each_answer(
    *,
    database: str,
    conn: asyncpg.Connection[Any],
    user_id: int,
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    """400 answers and 8 worker processes make 400 AI calls and 400 scores."""
    submitted = await submit_with_jobs(conn, ANSWERS, user_id=user_id)
    names = [tmp_path / f"worker{number}" for number in range(8)]

    with ExitStack() as stack:
        processes = [stack.enter_context(running(name, database, "--once")) for name in names]
        for process in processes:
            assert await asyncio.to_thread(process.wait, 60) == 0

    called = [answer for name in names for answer in noted(name)]
    figures("8 workers", answers=len(ANSWERS), AI_calls=len(called))
    assert sorted(called) == sorted(ANSWERS)
    assert await scored(conn) == submitted
    assert await jobs(conn) == {}


async def test_answers_of_killed_workers_are_scored_once(
    *,
    database: str,
    conn: asyncpg.Connection[Any],
    user_id: int,
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    """After kill -9 in the middle of AI calls others take the jobs; each answer has one score."""
    submitted = await submit_with_jobs(conn, ANSWERS, user_id=user_id)
    killed = [tmp_path / f"killed{number}" for number in range(3)]
    others = [tmp_path / f"other{number}" for number in range(5)]
    hangs = {"HANGS_AFTER": "10", "RELEASE": str(tmp_path / "never")}

    async def are_hanging() -> bool:
        return all(len(noted(name)) == 10 + worker.AI_CALLS for name in killed)

    async def others_are_busy() -> bool:
        return all(noted(name) for name in others)

    async def is_empty() -> bool:
        return await jobs(conn) == {}

    with ExitStack() as stack:
        victims = [stack.enter_context(running(name, database, **hangs)) for name in killed]
        await until(are_hanging)
        survivors = [stack.enter_context(running(name, database)) for name in others]
        await until(others_are_busy)
        for process in victims:
            process.kill()
        await until(is_empty)
        for process in survivors:
            process.terminate()
            assert await asyncio.to_thread(process.wait, 60) == 0

    called = [answer for name in (*killed, *others) for answer in noted(name)]
    again = await redeliveries(conn)
    figures(
        "3 of 8 workers killed", answers=len(ANSWERS), AI_calls=len(called), re_deliveries=again
    )
    assert await scored(conn) == submitted
    assert set(called) == set(ANSWERS)
    assert 3 * worker.AI_CALLS <= len(called) - len(ANSWERS) <= again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_finishes_its_responses_before_it_ends(
    *,
    database: str,
    conn: asyncpg.Connection[Any],
    user_id: int,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """It exits with 0, what it sent to the AI is scored, and the other jobs are still waiting."""
    submitted = await submit_with_jobs(conn, ANSWERS[:20], user_id=user_id)
    name, release = tmp_path / "worker", tmp_path / "release"

    async def is_busy() -> bool:
        return len(noted(name)) == worker.AI_CALLS

    with running(name, database, HANGS_AFTER="0", RELEASE=str(release)) as process:
        await until(is_busy)
        process.send_signal(number)
        release.touch()
        assert await asyncio.to_thread(process.wait, 60) == 0

    done = len(noted(name))
    assert await scored(conn) == submitted[:done]
    assert await jobs(conn) == dict.fromkeys(submitted[done:], "queued")


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


@pytest.mark.parametrize(
    ("answer", "problem"), [("fails", "RuntimeError"), ("nonsense", "InvalidInput")]
)
async def test_a_failing_answer_is_retried_to_a_limit_and_held(
    *,
    database: str,
    conn: asyncpg.Connection[Any],
    user_id: int,
    tmp_path: Path,
    answer: str,
    problem: str,
) -> None:
    """Each pause is twice the last; the held job names response and error and quotes no answer."""
    answers = [f"{answer} {SECRET}", "fine"]
    failing, fine = await submit_with_jobs(conn, answers, user_id=user_id)
    name = tmp_path / "worker"

    with running(name, database, "--once") as process:
        assert await asyncio.to_thread(process.wait, 60) == 0

    assert noted(name).count(answers[0]) == 1 + worker.RETRIES
    assert await scored(conn) == [fine]
    assert await jobs(conn) == {failing: "failed"}
    (held,) = await Queries.from_asyncpg_connection(conn).list_failed_jobs()
    history = await conn.fetch(
        "SELECT status, traceback FROM pgqueuer_log WHERE job_id = $1 ORDER BY id", held.id
    )
    records = [json.loads(row["traceback"]) for row in history if row["traceback"]]
    pauses = [record["additional_context"].get("retry_delay") for record in records]
    assert pauses == [f"0:00:00.{10 * 2**n:03}000" for n in range(worker.RETRIES)] + [None]
    assert {record["exception_message"] for record in records} == {f"response {failing}: {problem}"}
    tables = [await conn.fetch(f"SELECT * FROM {table}") for table in ("pgqueuer", "pgqueuer_log")]  # noqa: S608
    assert SECRET not in f"{tables}{name.with_suffix('.log').read_text(encoding='utf-8')}"


async def test_a_held_job_is_retried_on_request(
    conn: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """The backlog leaves it alone; once re-queued it is scored."""
    (response_id,) = await submit_with_jobs(conn, ["fine at last"], user_id=user_id)
    await conn.execute("UPDATE pgqueuer SET status = 'failed'")
    assert await enqueue_backlog(pool, BY) == 0

    queries = Queries.from_asyncpg_connection(conn)
    await queries.requeue_jobs([job.id for job in await queries.list_failed_jobs()])
    await finish(pool)

    assert await scored(conn) == [response_id]


async def test_claims_and_erasures_need_not_know_of_jobs(
    *, conn: asyncpg.Connection[Any], pool: Any, user_id: int, token: UUID
) -> None:
    """A claimed response is scored; the job of one erased before or during its AI call ends."""
    answers = ["claimed", "erased during", "erased before"]
    claimed, _, before = await submit_with_jobs(conn, answers, anonymous_token=token)
    await assessments.claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
    erase = "DELETE FROM assessment_responses WHERE "
    await conn.execute(f"{erase} response_id = $1", before)
    called = []

    async def ai(answer_text: str) -> dict[str, Any]:
        called.append(answer_text)
        if answer_text == "erased during":
            await conn.execute(f"{erase} answer_text = $1", answer_text)
        return {"points": 1}

    await finish(pool, ai=ai)

    assert sorted(called) == ["claimed", "erased during"]
    assert await scored(conn) == [claimed]
    assert await jobs(conn) == {}


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
        for answer in ANSWERS[:40]
        for response_id in await submit_with_jobs(conn, [answer], user_id=user_id)
    ]

    async def are_scored() -> bool:
        return await scored(conn) == submitted and await jobs(conn) == {}

    await until(are_scored)
    stop.set()
    await asyncio.gather(*working)
    assert sorted(called) == sorted(ANSWERS[:40])
    assert await backoffice.get_unscored_responses(conn, **BY._asdict()) == []
