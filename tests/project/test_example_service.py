"""The example service behind real HTTP, on the library's pool and on a host's own."""

from __future__ import annotations

import base64
import json
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from assessments import backoffice
from tests.helpers.programs import program, until
from tests.helpers.rows import SECRET, new_user, submit

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

COOKIE = "visitor"


def read(log: Path) -> str:
    """Return what the service has written to *log*."""
    return log.read_text(encoding="utf-8")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the file that the service writes to."""
    return tmp_path / "log"


@pytest.fixture(params=["on_library_pool", "on_host_pool"])
async def url(request: pytest.FixtureRequest, database: str, log: Path) -> Any:
    """Return the address of a service in a process of its own."""
    factory = f"tests.helpers.apps:{request.param}"
    arguments = ["-m", "uvicorn", "--factory", factory, "--host", "127.0.0.1", "--port", "0"]
    secrets = {"DATABASE_URL": database, "SERVICE_SECRET": uuid4().hex}
    with program(log, *arguments, **secrets) as process:
        found: list[str] = []

        async def listens() -> bool:
            assert process.poll() is None, read(log)
            found[:] = re.findall(r"running on (http://\S+)", read(log))
            return bool(found)

        await until(listens)
        yield found[0]
        process.terminate()
        process.wait(30)


@pytest.fixture
async def clients(url: str) -> Any:
    """Return two browsers, of two people."""
    async with AsyncExitStack() as stack:
        opened = [httpx.AsyncClient(base_url=url) for _ in range(2)]
        yield [await stack.enter_async_context(client) for client in opened]


@pytest.fixture
def browser(clients: list[httpx.AsyncClient]) -> httpx.AsyncClient:
    """Return the first browser."""
    return clients[0]


async def answer(client: httpx.AsyncClient, question_id: str, text: str) -> dict[str, Any]:
    """Submit an answer and return what is stored."""
    body = {"module_slug": "m1", "answer_text": text, "answer_metadata": {"locale": "fi"}}
    response = await client.post(f"/questions/{question_id}/responses", json=body)
    assert response.status_code == 201, response.text
    stored: dict[str, Any] = response.json()
    assert "anonymous_token" not in stored
    assert stored["answer_metadata"] == {"locale": "fi"}
    return stored


async def sign_in(client: httpx.AsyncClient, user_id: int) -> httpx.Response:
    """Sign in as the user."""
    return await client.post("/sign-in", json={"user_id": user_id})


async def pages(client: httpx.AsyncClient, limit: int) -> list[list[dict[str, Any]]]:
    """Follow the list to its end."""
    found: list[list[dict[str, Any]]] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        cursor = {"before": page["next"]} if page["next"] else {}
        page = (await client.get("/responses", params={"limit": limit, **cursor})).json()
        found.append(page["responses"])
    return found


async def test_an_anonymous_owner_becomes_a_user_and_is_erased(
    browser: httpx.AsyncClient, conn: asyncpg.Connection[Any], user_id: int, log: Path
) -> None:
    """Answers, resume, sign-in, pages and erasure work together, and no secret is logged."""
    await submit(conn, "q2", user_id=user_id, answer_text="at home, last week")
    await answer(browser, "q1", SECRET)
    second = await answer(browser, "q1", "second thoughts")
    stays = await answer(browser, "q2", "on this browser")
    await backoffice.record_score(conn, response_id=stays["response_id"], score_data={"points": 3})
    token = browser.cookies[COOKIE]

    resumed = (await browser.get("/modules/m1/resume")).json()
    assert [row["answer_text"] for row in resumed] == ["on this browser", "second thoughts"]

    signed_in = await sign_in(browser, user_id)
    assert signed_in.json() == {"claimed": 2}
    assert {"HttpOnly", "SameSite=lax"} <= set(signed_in.headers["set-cookie"].split("; "))
    assert (await answer(browser, "q3", "as a user"))["user_id"] == user_id

    listed = await pages(browser, limit=2)
    assert [len(page) for page in listed] == [2, 2, 1]
    assert [
        (row["answer_text"], row["user_id"], bool(row["latest_score"]))
        for page in listed
        for row in page
    ] == [
        ("as a user", user_id, False),
        ("on this browser", None, True),
        ("second thoughts", user_id, False),
        (SECRET, user_id, False),
        ("at home, last week", user_id, False),
    ]

    scores = (await browser.get(f"/responses/{stays['response_id']}/scores")).json()
    assert [score["score_data"] for score in scores] == [{"points": 3}]
    assert (await browser.get(f"/responses/{second['response_id']}/scores")).json() == []

    assert (await browser.delete("/me")).json() == {"erased": 5}
    assert await pages(browser, limit=2) == [[]]
    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0
    assert token not in read(log)
    assert SECRET not in read(log)


async def test_a_submission_may_be_retried_with_its_key(
    clients: list[httpx.AsyncClient], user_id: int
) -> None:
    """One Idempotency-Key is one response, also after the sign-in; other uses of it are a 422."""
    browser, stranger = clients
    key = {"idempotency-key": str(uuid4())}

    async def send(client: httpx.AsyncClient, headers: dict[str, str], text: str = SECRET) -> Any:
        body = {"module_slug": "m1", "answer_text": text}
        return await client.post("/questions/q1/responses", json=body, headers=headers)

    first, retried = [(await send(browser, key)).json() for _ in range(2)]
    assert retried == first
    await sign_in(browser, user_id)
    assert (await send(browser, key)).json() == {**first, "user_id": user_id}

    for rejected in (
        await send(browser, key, "another"),
        await send(stranger, key),
        await send(browser, {"idempotency-key": SECRET}),
    ):
        assert rejected.status_code == 422
        assert rejected.json()["parameter"] == "idempotency-key"
        assert SECRET not in rejected.text
    assert [len(page) for page in await pages(browser, limit=5)] == [1]


async def test_a_stranger_sees_and_erases_nothing(
    clients: list[httpx.AsyncClient], conn: asyncpg.Connection[Any]
) -> None:
    """Neither another anonymous owner nor a user reaches an owner's responses or their scores."""
    browser, stranger = clients
    response_id = (await answer(browser, "q1", "mine"))["response_id"]
    await backoffice.record_score(conn, response_id=response_id, score_data={"points": 1})

    for user_id in (None, await new_user(conn)):
        if user_id:
            await sign_in(stranger, user_id)
        assert await pages(stranger, limit=5) == [[]]
        assert (await stranger.get("/modules/m1/resume")).json() == []
        assert (await stranger.get(f"/responses/{response_id}/scores")).json() == []
        assert (await stranger.delete("/me")).json() == {"erased": 0}

    assert len((await browser.get(f"/responses/{response_id}/scores")).json()) == 1


async def test_a_sign_out_forgets_the_anonymous_owner(
    browser: httpx.AsyncClient, conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """What was left with the token is neither shown to the browser's next user nor claimed."""
    await submit(conn, "q1", user_id=user_id)
    await answer(browser, "q1", "stays with the token")
    assert (await sign_in(browser, user_id)).json() == {"claimed": 0}
    await browser.post("/sign-out")

    assert await pages(browser, limit=5) == [[]]
    assert (await sign_in(browser, await new_user(conn))).json() == {"claimed": 0}


async def test_a_forged_session_is_rejected(
    clients: list[httpx.AsyncClient], conn: asyncpg.Connection[Any]
) -> None:
    """A session without its own signature is a 401, and so is a user who was deleted."""
    browser, stranger = clients
    one, two = await new_user(conn), await new_user(conn)
    await sign_in(browser, one)
    session = browser.cookies["session"]
    signature = session.partition(".")[2]

    for forged in ("", "1", f"{two}", f"{two}.", f"{two}.{signature}", f"{session}0", "ä.é"):
        stranger.cookies.clear()
        headers = {b"cookie": f"session={forged}".encode("latin-1")}
        rejected = await stranger.get("/responses", headers=headers)
        assert rejected.status_code == 401, forged

    await conn.execute("DELETE FROM users WHERE user_id = $1", one)
    body = {"module_slug": "m1", "answer_text": "too late"}
    assert (await browser.post("/questions/q1/responses", json=body)).status_code == 401
    assert (await sign_in(browser, one)).status_code == 401


def cursor(text: str) -> str:
    """Return *text* in the form of a page's cursor."""
    return base64.urlsafe_b64encode(text.encode()).decode()


AS_JSON = {"content-type": "application/json"}
ANSWER = ("POST", "/questions/q1/responses")
GOOD = {"module_slug": "m1", "answer_text": SECRET}
BAD: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("answer_text", *ANSWER, GOOD | {"answer_text": f"{SECRET}\0"}),
    ("answer_text", *ANSWER, GOOD | {"answer_text": f"{SECRET}\ud800"}),
    ("answer_text", *ANSWER, GOOD | {"answer_text": [SECRET]}),
    ("module_slug", *ANSWER, GOOD | {"module_slug": ""}),
    ("module_slug", *ANSWER, {"answer_text": SECRET}),
    ("answer_metadata", *ANSWER, GOOD | {"answer_metadata": {SECRET: "\0"}}),
    ("question_id", "POST", f"/questions/{'q' * 513}/responses", GOOD),
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
    """It is a 422 with the parameter's name, however often, and the pool stays usable."""
    await answer(browser, "q1", "good")
    token = browser.cookies[COOKIE]

    for parameter, method, path, body in BAD:
        for _ in range(12):  # more than the pool has connections
            # As ASCII: httpx would not send a lone surrogate.
            content = None if body is None else json.dumps(body)
            rejected = await browser.request(method, path, content=content, headers=AS_JSON)
            assert rejected.status_code == 422, (path, rejected.text)
            assert rejected.json()["parameter"] == parameter
            assert SECRET not in rejected.text
            assert token not in rejected.text

    await answer(browser, "q1", "as good")
    assert not await conn.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
    )
    assert token not in read(log)
