"""The example workers on their queue: beside each other, killed, interrupted, and failing."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from pgqueuer.queries import Queries

import assessments
from examples import worker
from examples.jobs import By, enqueue_backlog
from tests.helpers.programs import until
from tests.helpers.rows import SECRET, submit
from tests.helpers.scoring import (
    BY,
    finish,
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
        processes = [
            stack.enter_context(running(name, database, "--once", SILENCE_SECONDS="30"))
            for name in names
        ]
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
    hangs: Any = {"HANGS_AFTER": "10", "RELEASE": str(tmp_path / "never")}

    async def are_hanging() -> bool:
        return all(len(noted(name)) == 10 + worker.AI_CALLS for name in killed)

    async def others_are_busy() -> bool:
        return any(noted(name) for name in others)

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


async def test_workers_on_one_response_store_one_score(
    conn: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """Where a job is delivered again while its first worker is at work, one of them stores."""
    response_id = (await submit(conn, user_id=user_id))["response_id"]
    both = asyncio.Event()
    called = []

    async def ai(answer_text: str) -> dict[str, Any]:
        called.append(answer_text)
        if len(called) == 2:
            both.set()
        await both.wait()
        return {"points": 1}

    done = await asyncio.gather(*(worker.work_on(pool, response_id, BY, ai) for _ in range(2)))

    assert sorted(done) == ["already scored, or erased", "scored"]
    assert await scored(conn) == [response_id]


async def test_an_ai_call_that_hangs_is_ended(
    conn: asyncpg.Connection[Any], pool: Any, user_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as failed, and its worker goes on."""
    response_id = (await submit(conn, user_id=user_id))["response_id"]
    monkeypatch.setattr(worker, "AI_SECONDS", 0.01)

    async def hang(_answer_text: str) -> dict[str, Any]:
        await asyncio.sleep(3600)
        return {}

    working = asyncio.create_task(worker.work_on(pool, response_id, BY, hang))
    done, _ = await asyncio.wait([working], timeout=60)

    assert done == {working}
    assert isinstance(working.exception(), asyncio.TimeoutError)


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
    assert await conn.fetchval("SELECT count(traceback) FROM pgqueuer_log") == 0
    assert await scored(conn) == [claimed]
    assert await jobs(conn) == {}
