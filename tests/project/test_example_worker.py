"""The example workers: killed, interrupted, late, or beside each other."""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from assessments import backoffice
from examples import worker
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.programs import program, until
from tests.helpers.rows import SECRET, ids, submit, submit_all

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg

BY = worker.By("model-1", "p1")


def read(log: Path) -> str:
    """Return what the worker has written to *log*."""
    return log.read_text(encoding="utf-8")


async def scored(conn: asyncpg.Connection[Any]) -> list[int]:
    """Return the response of every score by `BY`, once for each score."""
    query = (
        "SELECT response_id FROM assessment_scores"
        " WHERE model_id = $1 AND prompt_version = $2 ORDER BY response_id"
    )
    return [row["response_id"] for row in await conn.fetch(query, *BY)]


@contextmanager
def running_worker(log: Path, database: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in a process of its own."""
    by = ["--model", BY.model_id, "--prompt-version", BY.prompt_version]
    environment = {"DATABASE_URL": database, "SCORE_SECONDS": "0.04"}
    with program(log, "-m", "examples.worker", *by, *options, **environment) as process:
        yield process


async def test_a_killed_worker_loses_no_response(
    database: str, conn: asyncpg.Connection[Any], user_id: int, tmp_path: Path
) -> None:
    """Each response gets one score by this model and prompt version, whoever else scored it."""
    await submit_all(conn, [f"q{number}" for number in range(60)], user_id=user_id)
    every = ids([row async for row in backoffice.iter_responses(conn)])
    await backoffice.record_scores(
        conn,
        [
            {"response_id": every[0], "score_data": {}, "model_id": BY.model_id},
            {"response_id": every[1], "score_data": {}, "prompt_version": BY.prompt_version},
        ],
    )
    logs = [tmp_path / name for name in ("one", "two", "three")]

    async def one_is_busy() -> bool:
        return read(logs[0]).count(": scored\n") >= 5 or one.poll() is not None

    with (
        running_worker(logs[0], database, "--once") as one,
        running_worker(logs[1], database, "--once") as two,
    ):
        await until(one_is_busy)
        one.kill()
        one.wait(30)
        with running_worker(logs[2], database, "--once") as three:
            for process in (two, three):
                assert await asyncio.to_thread(process.wait, 60) == 0

    assert await scored(conn) == every


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_finishes_its_response_before_it_ends(
    *,
    database: str,
    conn: asyncpg.Connection[Any],
    user_id: int,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """It exits with 0, and what it logged as scored is what is stored."""
    await submit_all(conn, [f"q{number}" for number in range(20)], user_id=user_id)
    log = tmp_path / "log"

    async def is_busy() -> bool:
        return len(await scored(conn)) >= 3

    with running_worker(log, database) as process:
        await until(is_busy)
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 60) == 0

    logged = re.findall(r"response (\d+): scored\n", read(log))
    assert sorted(map(int, logged)) == await scored(conn)


async def test_workers_on_one_response_store_one_score(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """The second waits until the first has committed, sees its score and stores none."""
    response_id = (await submit(conn, user_id=user_id))["response_id"]

    async def store_second() -> bool:
        async with other.transaction():
            return await worker.store_once(other, response_id, {"points": 2}, BY)

    async with conn.transaction():
        assert await worker.store_once(conn, response_id, {"points": 1}, BY)
        blocked = asyncio.create_task(store_second())
        await until_waiting_for_lock(pool, other.get_server_pid())

    assert await blocked is False
    assert await scored(conn) == [response_id]


async def test_a_failed_or_erased_response_does_not_stop_a_worker(
    conn: asyncpg.Connection[Any], pool: Any, user_id: int, caplog: pytest.LogCaptureFixture
) -> None:
    """After an error or invalid score of the AI's, or an erasure, the rest is scored."""
    texts = ["fails", "nonsense", "erased", "fine"]
    stored = [await submit(conn, user_id=user_id, answer_text=f"{text} {SECRET}") for text in texts]

    async def ai(answer_text: str) -> dict[str, Any]:
        if answer_text.startswith("fails"):
            raise RuntimeError(answer_text)
        if answer_text.startswith("erased"):
            await conn.execute(
                "DELETE FROM assessment_responses WHERE answer_text = $1", answer_text
            )
        return {"points": float("nan") if answer_text.startswith("nonsense") else 1}

    await worker.work(pool, BY, stop=asyncio.Event(), once=True, ai=ai)

    assert await scored(conn) == [stored[-1]["response_id"]]
    assert SECRET not in caplog.text
    assert "RuntimeError" in caplog.text
    assert await worker.is_unscored(conn, stored[0]["response_id"], BY)


async def test_a_response_that_commits_late_is_scored(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """A worker whose cursor has passed a response's id starts over and finds it."""
    stop = asyncio.Event()

    async def ai(_answer_text: str) -> dict[str, Any]:
        return {"points": 1}

    async def are_scored(*responses: Any) -> bool:
        return await scored(conn) == ids(responses)

    async with other.transaction():
        first = await submit(other, user_id=user_id)
        second = await submit(conn, user_id=user_id)
        working = asyncio.create_task(worker.work(pool, BY, stop=stop, ai=ai, start_over_seconds=0))
        await until(lambda: are_scored(second))
    await until(lambda: are_scored(first, second))
    stop.set()
    await working
