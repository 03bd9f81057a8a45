"""The example service's token, session and submission keys, with browsers that lose replies."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi.routing import APIRoute

import assessments
from examples.service import router, submit_or_find
from tests.helpers.browsers import SESSION, TOKEN, Browser, serving, two_browsers
from tests.helpers.rows import SECRET, counts, new_response, new_user, submit
from tests.helpers.scoring import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg

pytestmark = pytest.mark.usefixtures("queue")

BAD_TOKENS = ("", "x", str(UUID(int=0)))
ATTRIBUTES = {"HttpOnly", "Path=/", "SameSite=lax", "Secure"}
MONTH = "Max-Age=2592000"


@pytest.fixture
async def browsers(database: str, tmp_path: Path) -> Any:
    """Return two browsers, of two people, that have no cookies yet."""
    async with (
        serving(tmp_path / "log", "on_library_pool", DATABASE_URL=database) as url,
        two_browsers(url) as opened,
    ):
        yield opened


@pytest.fixture
def browser(browsers: list[Browser]) -> Browser:
    """Return the first browser."""
    return browsers[0]


@pytest.fixture
def key() -> str:
    """Return a submission key."""
    return str(uuid4())


def copy_cookie(name: str, source: Browser, target: Browser) -> None:
    """Give a cookie of *source* to *target*."""
    target.cookies.set(name, source.cookies[name], domain="service.example")


@contextmanager
def lost_reply(browser: Browser) -> Iterator[None]:
    """Lose the reply to the request in the block, with the cookies it sets."""
    browser.proxy.loses_reply = True
    with pytest.raises(httpx.ReadError, match="the reply is lost"):
        yield


def assert_conflict(response: httpx.Response) -> None:
    """Assert that the service said no more than that the key is taken."""
    assert response.status_code == 422
    assert response.json() == {
        "parameter": "idempotency-key",
        "problem": "is already used by a different submission",
    }


def cookies_set(response: httpx.Response) -> dict[str, set[str]]:
    """Return the attributes of each cookie that the response sets or deletes."""
    parts = [header.split("; ") for header in response.headers.get_list("set-cookie")]
    return {first.partition("=")[0]: set(attributes) for first, *attributes in parts}


async def test_the_token_is_created_once_and_renewed(browser: Browser) -> None:
    """A browser keeps its token, for 30 days from each answer box; a bad one is replaced."""
    for bad in BAD_TOKENS:
        browser.cookies.clear()
        browser.cookies.set(TOKEN, bad, domain="service.example")
        created = await browser.show_answer_box()
        assert created.status_code == 204
        token = browser.cookies.get(TOKEN, domain="service.example", path="/")
        assert UUID(token).version == 4

        renewed = await browser.show_answer_box()
        assert f"{TOKEN}={token}; " in renewed.headers["set-cookie"]
        assert cookies_set(renewed) == {TOKEN: ATTRIBUTES | {MONTH}}


async def test_a_submission_without_an_owner_is_rejected(
    browser: Browser, conn: asyncpg.Connection[Any], key: str
) -> None:
    """It is a 401 that names the remedy, creates no token and stores nothing."""
    for bad in BAD_TOKENS:
        browser.cookies.set(TOKEN, bad, domain="service.example")
        rejected = await browser.submit("q1", SECRET, key)
        assert rejected.status_code == 401
        assert "PUT /anonymous-token" in rejected.json()["detail"]
        assert cookies_set(rejected) == {}
    assert await counts(conn) == (0, 0)

    await browser.show_answer_box()
    assert (await browser.submit("q1", SECRET, key)).status_code == 201


async def test_a_browser_without_an_owner_reads_nothing(
    browsers: list[Browser], conn: asyncpg.Connection[Any]
) -> None:
    """Reading, erasing and signing in need no token, and create none."""
    owner, browser = browsers
    await owner.show_answer_box()
    response_id = (await owner.answer("q1", SECRET))["response_id"]

    for bad in (None, *BAD_TOKENS):
        if bad is not None:
            browser.cookies.set(TOKEN, bad, domain="service.example")
        for method, path, body in (
            ("GET", "/responses", {"responses": [], "next": None}),
            ("GET", "/modules/m1/resume", []),
            ("GET", f"/responses/{response_id}/scores", []),
            ("DELETE", "/me", {"erased": 0}),
        ):
            response = await browser.request(method, path)
            assert response.status_code == 200
            assert response.json() == body
            assert cookies_set(response) == {}
    signed_in = await browser.sign_in(await new_user(conn))
    assert signed_in.json() == {"claimed": 0}
    assert set(cookies_set(signed_in)) == {SESSION}


async def test_the_first_answer_of_a_browser_survives_a_lost_reply(
    browser: Browser, conn: asyncpg.Connection[Any], key: str
) -> None:
    """Its retries, also concurrent ones, return the one row of the browser's list, with one job."""
    await browser.show_answer_box()
    with lost_reply(browser):
        await browser.submit("q1", SECRET, key)
    assert [row["answer_text"] for row in (await browser.pages(2))[0]] == [SECRET]

    retried = await asyncio.gather(*(browser.submit("q1", SECRET, key) for _ in range(3)))

    (shown,) = (await browser.pages(2))[0]
    for response in retried:
        assert response.status_code == 201
        assert shown == response.json() | {"latest_score": None}
    assert await jobs(conn) == {shown["response_id"]: "queued"}


async def test_a_claimed_response_is_found_by_a_retry_with_the_session(
    browsers: list[Browser], conn: asyncpg.Connection[Any], user_id: int, key: str
) -> None:
    """The retry returns the row, now the user's; no other owner or content gets it."""
    browser, stranger = browsers
    for opened in browsers:
        await opened.show_answer_box()
    with lost_reply(browser):
        await browser.submit("q1", SECRET, key)
    assert (await browser.sign_in(user_id)).json() == {"claimed": 1}

    retried = await browser.submit("q1", SECRET, key)

    assert retried.status_code == 201
    assert retried.json()["user_id"] == user_id
    assert_conflict(await browser.submit("q1", "another", key))
    assert_conflict(await stranger.submit("q1", SECRET, key))
    await stranger.sign_in(await new_user(conn))
    assert_conflict(await stranger.submit("q1", SECRET, key))
    assert await counts(conn) == (1, 0)


async def test_a_retry_finds_a_response_that_a_claim_moves_between_its_tries(
    conn: asyncpg.Connection[Any], user_id: int, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both owners it returns the row, whichever of the two has it when."""
    token = uuid4()
    stored = await submit(conn, anonymous_token=token, submission_key=key)
    submit_response = assessments.submit_response

    async def submit_before_a_claim(conn: Any, **arguments: Any) -> Any:
        try:
            return await submit_response(conn, **arguments)
        finally:
            await assessments.claim_assessment_responses(
                conn, anonymous_token=token, user_id=user_id
            )

    monkeypatch.setattr(assessments, "submit_response", submit_before_a_claim)
    answer: dict[str, Any] = {**new_response(submission_key=key)}
    found = await submit_or_find(conn, user_id=user_id, anonymous_token=token, **answer)

    assert found == {**stored, "user_id": user_id, "anonymous_token": None}


async def test_a_response_left_with_the_token_is_found_by_a_retry_with_the_session(
    browsers: list[Browser], conn: asyncpg.Connection[Any], user_id: int, key: str
) -> None:
    """Where the user had already answered, the retry returns the token's row and adds none."""
    browser, stranger = browsers
    await submit(conn, "q1", user_id=user_id)
    for opened in browsers:
        await opened.show_answer_box()
    with lost_reply(browser):
        await browser.submit("q1", SECRET, key)
    assert (await browser.sign_in(user_id)).json() == {"claimed": 0}

    retried = await browser.submit("q1", SECRET, key)

    assert retried.status_code == 201
    assert retried.json()["user_id"] is None
    assert_conflict(await browser.submit("q1", "another", key))
    await stranger.sign_in(await new_user(conn))
    assert_conflict(await stranger.submit("q1", SECRET, key))
    copy_cookie(SESSION, browser, stranger)  # the user at another browser
    assert_conflict(await stranger.submit("q1", SECRET, key))
    stranger.cookies.delete(TOKEN, domain="service.example")
    assert_conflict(await stranger.submit("q1", SECRET, key))
    assert await counts(conn) == (2, 0)


async def test_a_claimed_response_is_not_found_with_the_token_alone(
    browsers: list[Browser], conn: asyncpg.Connection[Any], user_id: int, key: str
) -> None:
    """A browser that lost the reply to its sign-in finds the row once it has signed in again."""
    browser, stranger = browsers
    await browser.show_answer_box()
    copy_cookie(TOKEN, browser, stranger)
    with lost_reply(browser):
        await browser.submit("q1", SECRET, key)
    with lost_reply(browser):
        await browser.sign_in(user_id)

    for opened in browsers:
        assert_conflict(await opened.submit("q1", SECRET, key))
        assert await opened.pages(2) == [[]]

    assert (await browser.sign_in(user_id)).json() == {"claimed": 0}
    assert (await browser.submit("q1", SECRET, key)).json()["user_id"] == user_id
    assert_conflict(await stranger.submit("q1", SECRET, key))
    assert await counts(conn) == (1, 0)


async def test_a_user_s_response_is_not_found_after_the_sign_out(
    browser: Browser, conn: asyncpg.Connection[Any], user_id: int, key: str
) -> None:
    """The retry under a new token is a conflict; signed in again, it returns the row."""
    await browser.sign_in(user_id)
    with lost_reply(browser):
        await browser.submit("q1", SECRET, key)
    await browser.sign_out()
    await browser.show_answer_box()

    assert_conflict(await browser.submit("q1", SECRET, key))
    assert await browser.pages(2) == [[]]

    await browser.sign_in(user_id)
    assert (await browser.submit("q1", SECRET, key)).json()["user_id"] == user_id
    assert await counts(conn) == (1, 0)


async def test_a_malformed_key_is_named_and_not_quoted(browser: Browser) -> None:
    """It is a 422 with the header's name."""
    await browser.show_answer_box()

    rejected = await browser.submit("q1", "Because.", SECRET)

    assert rejected.status_code == 422
    assert rejected.json()["parameter"] == "idempotency-key"
    assert SECRET not in rejected.text


async def test_every_cookie_is_secure_behind_a_proxy(browser: Browser, user_id: int) -> None:
    """Scripts, other sites and plain http get neither cookie, also where the proxy speaks http."""
    await browser.show_answer_box()
    signed_in = await browser.sign_in(user_id)
    assert cookies_set(signed_in) == {SESSION: ATTRIBUTES | {MONTH}}

    signed_out = await browser.delete("/session")
    deleted = cookies_set(signed_out)
    assert set(deleted) == {SESSION, TOKEN}
    assert all(ATTRIBUTES | {"Max-Age=0"} <= attributes for attributes in deleted.values())
    assert not browser.cookies


async def test_a_form_of_another_site_changes_no_cookie(browser: Browser, user_id: int) -> None:
    """Neither token nor session is created, replaced or deleted by what such a form can send."""
    body = f'{{"user_id": {user_id}}}'
    for path in {route.path for route in router.routes if isinstance(route, APIRoute)}:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            response = await browser.post(path, content=body, headers={"content-type": kind})
            assert response.is_client_error
            assert cookies_set(response) == {}


async def test_cookies_work_without_tls_where_it_is_allowed(database: str, tmp_path: Path) -> None:
    """With INSECURE_COOKIES=1 a browser keeps its token over plain http."""
    switch = {"DATABASE_URL": database, "INSECURE_COOKIES": "1"}
    async with (
        serving(tmp_path / "log", "on_library_pool", **switch) as url,
        httpx.AsyncClient(base_url=url) as browser,
    ):
        created = await browser.put("/anonymous-token")
        renewed = await browser.put("/anonymous-token")

    assert cookies_set(created) == {TOKEN: (ATTRIBUTES - {"Secure"}) | {MONTH}}
    assert created.headers["set-cookie"] == renewed.headers["set-cookie"]


async def test_a_copied_session_ends_with_its_sign_out(
    browsers: list[Browser], user_id: int
) -> None:
    """A copy is rejected after the sign-out, also one from before a second sign-in."""
    browser, thief = browsers
    for ends in (browser.sign_out, lambda: browser.sign_in(user_id)):
        await browser.sign_in(user_id)
        copy_cookie(SESSION, browser, thief)
        assert (await thief.get("/responses")).status_code == 200
        await ends()
        assert (await thief.get("/responses")).status_code == 401
    assert (await browser.get("/responses")).status_code == 200


async def test_a_sign_out_is_safe_to_retry(browser: Browser, user_id: int) -> None:
    """Where its reply was lost, the session is over and the next sign-out deletes the cookies."""
    await browser.show_answer_box()
    await browser.sign_in(user_id)
    with lost_reply(browser):
        await browser.delete("/session")
    assert (await browser.get("/responses")).status_code == 401

    await browser.sign_out()

    assert not browser.cookies
    assert (await browser.get("/responses")).status_code == 200


async def test_an_unknown_session_is_rejected(
    browsers: list[Browser], conn: asyncpg.Connection[Any]
) -> None:
    """An invented session is a 401, and so is one whose user was deleted."""
    browser, stranger = browsers
    user_id = await new_user(conn)
    await browser.sign_in(user_id)
    session = browser.cookies[SESSION]

    for invented in (str(user_id), f"{session}0", session[:-1], "ä.é"):
        headers = {b"cookie": f"session={invented}".encode("latin-1")}
        rejected = await stranger.get("/responses", headers=headers)
        assert rejected.status_code == 401, invented

    await conn.execute("DELETE FROM users WHERE user_id = $1", user_id)
    assert (await browser.submit("q1", "too late")).status_code == 401
    assert (await browser.sign_in(user_id)).status_code == 401
