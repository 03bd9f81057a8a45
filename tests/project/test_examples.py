"""The example programs, run as programs: a service behind real HTTP, workers that are killed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

import assessments
from assessments import backoffice
from examples import worker
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import SECRET, new_user, submit, submit_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import asyncpg

ROOT = Path(assessments.__file__).parent.parent
BY = worker.By("model-1", "p1")


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Return once *condition* comes true; fail after a minute."""

    async def watch() -> None:
        while not await condition():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(watch(), 60)


@contextmanager
def program(log: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program that writes to *log*; kill it at the end if it still runs."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def said(log: Path) -> str:
    """Return what the program under test has written to *log*."""
    return log.read_text(encoding="utf-8")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the file that the program under test writes to."""
    return tmp_path / "log"


# The service.


@pytest.fixture(params=["on_the_library_s_pool", "on_the_host_s_pool"])
async def url(request: pytest.FixtureRequest, database: str, log: Path) -> Any:
    """Return the address of a service in a process of its own."""
    factory = f"tests.apps:{request.param}"
    arguments = ["-m", "uvicorn", "--factory", factory, "--host", "127.0.0.1", "--port", "0"]
    secrets = {"DATABASE_URL": database, "SERVICE_SECRET": uuid4().hex}
    with program(log, *arguments, **secrets) as process:
        found: list[str] = []

        async def answers() -> bool:
            assert process.poll() is None, said(log)
            found[:] = re.findall(r"running on (http://\S+)", said(log))
            return bool(found)

        await until(answers)
        yield found[0]
        process.terminate()
        process.wait(30)


@pytest.fixture
async def browser(url: str) -> Any:
    """Return a visitor's browser."""
    async with httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.fixture
async def stranger(url: str) -> Any:
    """Return the browser of somebody else."""
    async with httpx.AsyncClient(base_url=url) as client:
        yield client


async def answer(client: httpx.AsyncClient, question_id: str, text: str) -> dict[str, Any]:
    """Submit an answer and return what is stored."""
    body = {"module_slug": "m1", "answer_text": text, "answer_metadata": {"locale": "fi"}}
    answered = await client.post(f"/questions/{question_id}/responses", json=body)
    assert answered.status_code == 201, answered.text
    stored: dict[str, Any] = answered.json()
    assert "anonymous_token" not in stored
    assert stored["answer_metadata"] == {"locale": "fi"}
    return stored


async def pages(client: httpx.AsyncClient, limit: int) -> list[list[dict[str, Any]]]:
    """Follow the list to its end."""
    found: list[list[dict[str, Any]]] = []
    before: dict[str, str] = {}
    while True:
        page = (await client.get("/responses", params={"limit": limit, **before})).json()
        found.append(page["responses"])
        if page["next"] is None:
            return found
        before = {"before": page["next"]}


async def test_a_visitor_becomes_a_user_and_is_forgotten(
    browser: httpx.AsyncClient, conn: asyncpg.Connection[Any], user_id: int, log: Path
) -> None:
    """Answers, resume, sign-in, pages and erasure hang together, and the log keeps quiet."""
    await submit(conn, "q2", user_id=user_id, answer_text="at home, last week")
    await answer(browser, "q1", SECRET)
    second = await answer(browser, "q1", "second thoughts")
    stays = await answer(browser, "q2", "on this browser")
    await backoffice.record_score(conn, response_id=stays["response_id"], score_data={"points": 3})
    token = browser.cookies["visitor"]

    resumed = (await browser.get("/modules/m1/resume")).json()
    assert [row["answer_text"] for row in resumed] == ["on this browser", "second thoughts"]

    signed_in = await browser.post("/sign-in", json={"user_id": user_id})
    assert signed_in.json() == {"claimed": 2}
    assert {"HttpOnly", "SameSite=lax"} <= set(signed_in.headers["set-cookie"].split("; "))
    third = await answer(browser, "q3", "as a user")
    assert third["user_id"] == user_id

    listed = await pages(browser, limit=2)
    assert [len(page) for page in listed] == [2, 2, 1]
    rows = [row for page in listed for row in page]
    assert [row["answer_text"] for row in rows] == [
        "as a user",
        "on this browser",
        "second thoughts",
        SECRET,
        "at home, last week",
    ]
    assert [row["user_id"] for row in rows] == [user_id, None, user_id, user_id, user_id]
    assert [bool(row["latest_score"]) for row in rows] == [False, True, False, False, False]

    scores = (await browser.get(f"/responses/{stays['response_id']}/scores")).json()
    assert [score["score_data"] for score in scores] == [{"points": 3}]
    assert (await browser.get(f"/responses/{second['response_id']}/scores")).json() == []

    assert (await browser.delete("/me")).json() == {"erased": 5}
    assert await pages(browser, limit=2) == [[]]
    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0
    assert token not in said(log)
    assert SECRET not in said(log)


async def test_an_answer_may_be_sent_again_by_its_key(
    browser: httpx.AsyncClient, stranger: httpx.AsyncClient, user_id: int
) -> None:
    """One Idempotency-Key is one attempt, also after the sign-in; for anything else it is a 422."""
    body = {"module_slug": "m1", "answer_text": SECRET}
    key = {"idempotency-key": str(uuid4())}

    async def send(client: httpx.AsyncClient, headers: dict[str, str], **changes: str) -> Any:
        return await client.post(
            "/questions/q1/responses", json={**body, **changes}, headers=headers
        )

    first, again = [(await send(browser, key)).json() for _ in range(2)]
    assert again == first
    await browser.post("/sign-in", json={"user_id": user_id})
    assert (await send(browser, key)).json() == {**first, "user_id": user_id}

    for refused in (
        await send(browser, key, answer_text="another"),
        await send(stranger, key),
        await send(browser, {"idempotency-key": SECRET}),
    ):
        assert refused.status_code == 422
        assert refused.json()["parameter"] == "idempotency-key"
        assert SECRET not in refused.text
    assert len((await pages(browser, limit=5))[0]) == 1


async def test_a_stranger_sees_and_erases_nothing(
    browser: httpx.AsyncClient, stranger: httpx.AsyncClient, conn: asyncpg.Connection[Any]
) -> None:
    """Neither another visitor nor another user reaches a visitor's responses or their scores."""
    stored = await answer(browser, "q1", "mine")
    await backoffice.record_score(conn, response_id=stored["response_id"], score_data={"points": 1})

    for user_id in (None, await new_user(conn)):
        if user_id:
            await stranger.post("/sign-in", json={"user_id": user_id})
        assert await pages(stranger, limit=5) == [[]]
        assert (await stranger.get("/modules/m1/resume")).json() == []
        assert (await stranger.get(f"/responses/{stored['response_id']}/scores")).json() == []
        assert (await stranger.delete("/me")).json() == {"erased": 0}

    assert len((await browser.get(f"/responses/{stored['response_id']}/scores")).json()) == 1


async def test_a_browser_that_signed_out_belongs_to_the_next_visitor(
    browser: httpx.AsyncClient, conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """What stayed with the token is neither shown to the next visitor nor claimed by them."""
    await submit(conn, "q1", user_id=user_id)
    await answer(browser, "q1", "stays with the token")
    assert (await browser.post("/sign-in", json={"user_id": user_id})).json() == {"claimed": 0}
    await browser.post("/sign-out")

    assert await pages(browser, limit=5) == [[]]
    next_user = {"user_id": await new_user(conn)}
    assert (await browser.post("/sign-in", json=next_user)).json() == {"claimed": 0}


async def test_a_forged_session_is_refused(
    browser: httpx.AsyncClient, stranger: httpx.AsyncClient, conn: asyncpg.Connection[Any]
) -> None:
    """A session without its own signature opens nothing; a user who is no more has to sign in."""
    one, two = await new_user(conn), await new_user(conn)
    await browser.post("/sign-in", json={"user_id": one})
    session = browser.cookies["session"]
    signature = session.partition(".")[2]

    for forged in ("", "1", f"{two}", f"{two}.", f"{two}.{signature}", f"{session}0", "ä.é"):
        stranger.cookies.clear()
        headers = {b"cookie": f"session={forged}".encode("latin-1")}
        refused = await stranger.get("/responses", headers=headers)
        assert refused.status_code == 401, forged

    await conn.execute("DELETE FROM users WHERE user_id = $1", one)
    body = {"module_slug": "m1", "answer_text": "too late"}
    assert (await browser.post("/questions/q1/responses", json=body)).status_code == 401
    assert (await browser.post("/sign-in", json={"user_id": one})).status_code == 401


def cursor(text: str) -> str:
    """Return *text* in the form of a page's cursor."""
    return base64.urlsafe_b64encode(text.encode()).decode()


JSON = {"content-type": "application/json"}
ANSWER = ("POST", "/questions/q1/responses")
BAD: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("answer_text", *ANSWER, {"module_slug": "m1", "answer_text": f"{SECRET}\0"}),
    ("answer_text", *ANSWER, {"module_slug": "m1", "answer_text": f"{SECRET}\ud800"}),
    ("answer_text", *ANSWER, {"module_slug": "m1", "answer_text": [SECRET]}),
    ("module_slug", *ANSWER, {"module_slug": "", "answer_text": SECRET}),
    ("module_slug", *ANSWER, {"answer_text": SECRET}),
    (
        "answer_metadata",
        *ANSWER,
        {"module_slug": "m1", "answer_text": "", "answer_metadata": {SECRET: "\0"}},
    ),
    (
        "question_id",
        "POST",
        f"/questions/{'q' * 513}/responses",
        {"module_slug": "m1", "answer_text": SECRET},
    ),
    ("user_id", "POST", "/sign-in", {"user_id": 0}),
    ("user_id", "POST", "/sign-in", {"user_id": SECRET}),
    ("module_slug", "GET", f"/modules/{'m' * 513}/resume", None),
    ("limit", "GET", "/responses?limit=0", None),
    ("before", "GET", f"/responses?before={SECRET}", None),
    ("before", "GET", f"/responses?before={cursor('2026-11-22T12:00:00 1')}", None),
    ("response_id", "GET", f"/responses/{2**63}/scores", None),
]


async def test_bad_input_is_named_and_not_quoted(
    browser: httpx.AsyncClient, conn: asyncpg.Connection[Any], log: Path
) -> None:
    """It is a 422 with the parameter's name, however often, and the pool is as good as before."""
    await answer(browser, "q1", "good")
    token = browser.cookies["visitor"]

    for parameter, method, path, body in BAD:
        for _ in range(12):  # more than the pool has connections
            # As ASCII: httpx would not send a lone surrogate.
            content = None if body is None else json.dumps(body)
            refused = await browser.request(method, path, content=content, headers=JSON)
            assert refused.status_code == 422, (path, refused.text)
            assert refused.json()["parameter"] == parameter
            assert SECRET not in refused.text
            assert token not in refused.text

    await answer(browser, "q1", "as good")
    assert not await conn.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
    )
    assert token not in said(log)


# The worker.


async def scored(conn: asyncpg.Connection[Any]) -> list[int]:
    """Return the response of every score by `BY`, once for each score."""
    found = await conn.fetch(
        "SELECT response_id FROM assessment_scores"
        " WHERE model_id = $1 AND prompt_version = $2 ORDER BY response_id",
        *BY,
    )
    return [row["response_id"] for row in found]


@contextmanager
def working(log: Path, database: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in a process of its own."""
    by = ["--model", BY.model_id, "--prompt-version", BY.prompt_version]
    with program(
        log,
        *["-m", "examples.worker", *by, *options],
        DATABASE_URL=database,
        SCORE_SECONDS="0.04",
    ) as process:
        yield process


async def test_two_workers_one_killed_score_each_response_once(
    database: str, conn: asyncpg.Connection[Any], user_id: int, tmp_path: Path
) -> None:
    """However they meet and whenever one dies, no response is lost and none is scored twice."""
    await submit_all(conn, [f"q{number}" for number in range(60)], user_id=user_id)
    every = [row["response_id"] async for row in backoffice.iter_responses(conn)]
    # Scores by others do not count.
    await backoffice.record_scores(
        conn,
        [
            {"response_id": every[0], "score_data": {}, "model_id": BY.model_id},
            {"response_id": every[1], "score_data": {}, "prompt_version": BY.prompt_version},
        ],
    )

    async def at_it() -> bool:
        return said(tmp_path / "one").count(": scored\n") >= 5 or one.poll() is not None

    with (
        working(tmp_path / "one", database, "--once") as one,
        working(tmp_path / "two", database, "--once") as two,
    ):
        await until(at_it)
        one.kill()
        one.wait(30)
        with working(tmp_path / "one again", database, "--once") as again:
            for process in (two, again):
                assert await asyncio.to_thread(process.wait, 60) == 0

    assert await scored(conn) == every


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_finishes_its_response_before_it_ends(
    database: str,
    conn: asyncpg.Connection[Any],
    user_id: int,
    log: Path,
    number: signal.Signals,
) -> None:
    """It exits with 0, and what it said it scored is what is stored."""
    await submit_all(conn, [f"q{number}" for number in range(20)], user_id=user_id)

    async def at_it() -> bool:
        return len(await scored(conn)) >= 3

    with working(log, database) as process:
        await until(at_it)
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 60) == 0

    announced = re.findall(r"response (\d+): scored\n", said(log))
    assert sorted(map(int, announced)) == await scored(conn)


async def test_workers_at_one_response_take_turns(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """The second waits until the first has committed, sees its score and stores none."""
    response_id = (await submit(conn, user_id=user_id))["response_id"]

    async def second() -> bool:
        async with other.transaction():
            return await worker.store_once(other, response_id, {"points": 2}, BY)

    async with conn.transaction():
        assert await worker.store_once(conn, response_id, {"points": 1}, BY)
        waiting = asyncio.create_task(second())
        await until_waiting_for_lock(pool, other.get_server_pid())

    assert await waiting is False
    assert await scored(conn) == [response_id]


async def test_what_fails_or_is_erased_holds_nothing_up(
    conn: asyncpg.Connection[Any], pool: Any, user_id: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An AI's error or nonsense and a response erased meanwhile leave the rest to be scored."""
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


async def test_a_response_that_commits_late_is_scored_in_the_end(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], pool: Any, user_id: int
) -> None:
    """A worker whose cursor has passed a response's key starts over and finds it."""
    stop = asyncio.Event()

    async def ai(_answer_text: str) -> dict[str, Any]:
        return {"points": 1}

    async def passed() -> bool:
        return await scored(conn) == [second["response_id"]]

    async def found() -> bool:
        return await scored(conn) == [first["response_id"], second["response_id"]]

    async with other.transaction():
        first = await submit(other, user_id=user_id)
        second = await submit(conn, user_id=user_id)
        working = asyncio.create_task(worker.work(pool, BY, stop=stop, ai=ai, start_over_seconds=0))
        await until(passed)
    await until(found)
    stop.set()
    await working
