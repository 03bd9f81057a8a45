"""The example service behind real HTTP, on the library's pool and on a host's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from assessments import backoffice
from examples import service
from tests.helpers.browsers import TOKEN, Browser, read, serving, two_browsers
from tests.helpers.rows import SECRET, counts, new_user, submit
from tests.helpers.scoring import jobs

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

pytestmark = pytest.mark.usefixtures("queue")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the file that the service writes to."""
    return tmp_path / "log"


@pytest.fixture(params=["on_library_pool", "on_host_pool"])
async def browsers(request: pytest.FixtureRequest, database: str, log: Path) -> Any:
    """Return two browsers, of two people, each with a token."""
    async with (
        serving(log, request.param, DATABASE_URL=database) as url,
        two_browsers(url) as opened,
    ):
        for browser in opened:
            await browser.show_answer_box()
        yield opened


@pytest.fixture
def browser(browsers: list[Browser]) -> Browser:
    """Return the first browser."""
    return browsers[0]


async def test_an_anonymous_owner_becomes_a_user_and_is_erased(
    browser: Browser, conn: asyncpg.Connection[Any], user_id: int, log: Path
) -> None:
    """Answers, resume, sign-in, pages and erasure work together, and no secret is logged."""
    await submit(conn, "q2", user_id=user_id, answer_text="at home, last week")
    await browser.answer("q1", SECRET)
    second = await browser.answer("q1", "second thoughts")
    stays = await browser.answer("q2", "on this browser")
    await backoffice.record_score(conn, response_id=stays["response_id"], score_data={"points": 3})
    token = browser.cookies[TOKEN]

    resumed = (await browser.get("/modules/m1/resume")).json()
    assert [row["answer_text"] for row in resumed] == ["on this browser", "second thoughts"]

    signed_in = await browser.sign_in(user_id)
    assert signed_in.json() == {"claimed": 2}
    assert {"HttpOnly", "SameSite=lax"} <= set(signed_in.headers["set-cookie"].split("; "))
    assert (await browser.answer("q3", "as a user"))["user_id"] == user_id

    listed = await browser.pages(limit=2)
    assert [len(page) for page in listed] == [2, 2, 1]
    assert [len(page) for page in await browser.pages(limit=5)] == [5]
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
    assert await browser.pages(limit=2) == [[]]
    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0
    assert token not in read(log)
    assert SECRET not in read(log)


async def test_a_response_is_stored_with_its_job(
    browser: Browser, conn: asyncpg.Connection[Any]
) -> None:
    """Where one of the two cannot be stored, neither is."""
    stored = await browser.answer("q1", "with a job")
    assert await jobs(conn) == {stored["response_id"]: "queued"}

    assert (await browser.submit("", "not stored")).is_client_error
    assert (await browser.submit("q1", "\0")).status_code == 422
    assert len(await jobs(conn)) == 1

    await conn.execute("ALTER TABLE pgqueuer RENAME TO elsewhere")
    assert (await browser.submit("q1", "no queue")).status_code == 500
    assert await counts(conn) == (1, 0)


async def test_a_stranger_sees_and_erases_nothing(
    browsers: list[Browser], conn: asyncpg.Connection[Any]
) -> None:
    """Neither another anonymous owner nor a user reaches an owner's responses or their scores."""
    browser, stranger = browsers
    response_id = (await browser.answer("q1", "mine"))["response_id"]
    await backoffice.record_score(conn, response_id=response_id, score_data={"points": 1})

    for user_id in (None, await new_user(conn)):
        if user_id:
            await stranger.sign_in(user_id)
        assert await stranger.pages(limit=5) == [[]]
        assert (await stranger.get("/modules/m1/resume")).json() == []
        assert (await stranger.get(f"/responses/{response_id}/scores")).json() == []
        assert (await stranger.delete("/me")).json() == {"erased": 0}

    assert len((await browser.get(f"/responses/{response_id}/scores")).json()) == 1


async def test_a_sign_out_forgets_the_anonymous_owner(
    browser: Browser, conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """What was left with the token is neither shown to the browser's next user nor claimed."""
    await submit(conn, "q1", user_id=user_id)
    await browser.answer("q1", "stays with the token")
    assert (await browser.sign_in(user_id)).json() == {"claimed": 0}
    await browser.sign_out()

    assert await browser.pages(limit=5) == [[]]
    assert (await browser.sign_in(await new_user(conn))).json() == {"claimed": 0}


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
    ("user_id", "POST", "/session", {"user_id": 0}),
    ("user_id", "POST", "/session", {"user_id": SECRET}),
    ("module_slug", "GET", f"/modules/{'m' * 513}/resume", None),
    ("limit", "GET", "/responses?limit=0", None),
    ("before", "GET", f"/responses?before={SECRET}", None),
    ("before", "GET", f"/responses?before={'A' * 22}", None),
    ("response_id", "GET", f"/responses/{2**63}/scores", None),
]


async def test_bad_input_is_named_and_not_quoted(
    browser: Browser, conn: asyncpg.Connection[Any], log: Path
) -> None:
    """It is a 422 with the parameter's name, however often, and the pool stays usable."""
    await browser.answer("q1", "good")
    token = browser.cookies[TOKEN]

    for parameter, method, path, body in BAD:
        for _ in range(12):  # more than the pool has connections
            # As ASCII: httpx would not send a lone surrogate.
            content = None if body is None else json.dumps(body)
            rejected = await browser.request(method, path, content=content, headers=AS_JSON)
            assert rejected.status_code == 422, (path, rejected.text)
            assert rejected.json()["parameter"] == parameter
            assert SECRET not in rejected.text
            assert token not in rejected.text

    await browser.answer("q1", "as good")
    assert not await conn.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
    )
    assert token not in read(log)


async def test_readiness_asks_the_database(browser: Browser) -> None:
    """The probe's answer has no body, and needs no owner."""
    assert (await browser.get("/ready")).status_code == 204


async def test_the_service_starts_on_no_other_database(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library's tables it ends before it takes a request, and says what is missing."""
    monkeypatch.setenv("DATABASE_URL", empty_database)
    app = service.create_app()

    with pytest.raises(RuntimeError, match="migrations: none is applied"):
        async with app.router.lifespan_context(app):
            pass
