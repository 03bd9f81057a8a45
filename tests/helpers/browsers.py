"""Browsers of the example service, which stands behind a proxy that terminates TLS."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from tests.helpers.programs import program, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TOKEN = "anonymous_token"  # noqa: S105 - the cookie's name
SESSION = "session"


class TlsProxy(httpx.AsyncHTTPTransport):
    """Passes on https requests to a service that speaks http.

    Attributes:
        loses_reply: Whether the next reply is lost on its way to the browser.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.loses_reply = False
        self._url = httpx.URL(url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the service's response."""
        target = {"scheme": "http", "host": self._url.host, "port": self._url.port}
        parts: Any = {"headers": request.headers, "stream": request.stream}
        passed_on = httpx.Request(request.method, request.url.copy_with(**target), **parts)
        response = await super().handle_async_request(passed_on)
        if self.loses_reply:
            self.loses_reply = False
            await response.aclose()
            raise httpx.ReadError("the reply is lost")
        return response


class Browser(httpx.AsyncClient):
    """A browser, with its cookies and keys."""

    def __init__(self, url: str) -> None:
        self.proxy = TlsProxy(url)
        super().__init__(base_url="https://service.example", transport=self.proxy)

    async def show_answer_box(self) -> httpx.Response:
        """Create or renew the token, as a page with an answer box does."""
        return await self.put("/anonymous-token")

    async def submit(
        self, question_id: str, text: str, key: str | None = None, **changes: Any
    ) -> httpx.Response:
        """Submit an answer, with an Idempotency-Key if *key* is given."""
        body = {"module_slug": "m1", "answer_text": text, **changes}
        headers = {"idempotency-key": key} if key else {}
        return await self.post(f"/questions/{question_id}/responses", json=body, headers=headers)

    async def answer(self, question_id: str, text: str, key: str | None = None) -> dict[str, Any]:
        """Submit an answer and return what is stored."""
        response = await self.submit(question_id, text, key, answer_metadata={"locale": "fi"})
        assert response.status_code == 201, response.text
        stored: dict[str, Any] = response.json()
        assert "anonymous_token" not in stored
        assert stored["answer_metadata"] == {"locale": "fi"}
        return stored

    async def sign_in(self, user_id: int) -> httpx.Response:
        """Sign in as the user."""
        return await self.post("/session", json={"user_id": user_id})

    async def sign_out(self) -> None:
        """Sign out."""
        assert (await self.delete("/session")).status_code == 204

    async def pages(self, limit: int) -> list[list[dict[str, Any]]]:
        """Follow the list to its end."""
        found: list[list[dict[str, Any]]] = []
        page: dict[str, Any] = {"next": ""}
        while page["next"] is not None:
            cursor = {"before": page["next"]} if page["next"] else {}
            page = (await self.get("/responses", params={"limit": limit, **cursor})).json()
            found.append(page["responses"])
        return found


def read(log: Path) -> str:
    """Return what the service has written to *log*."""
    return log.read_text(encoding="utf-8")


@asynccontextmanager
async def serving(log: Path, factory: str, **environment: str) -> AsyncIterator[str]:
    """Run the service of a factory in tests.helpers.apps as a process; yield its address."""
    app = ["--factory", f"tests.helpers.apps:{factory}"]
    arguments = ["-m", "uvicorn", *app, "--host", "127.0.0.1", "--port", "0"]
    with program(log, *arguments, **environment) as process:
        found: list[str] = []

        async def listens() -> bool:
            written = read(log)
            assert process.poll() is None, written
            found[:] = re.findall(r"running on (http://\S+)", written)
            return bool(found)

        await until(listens)
        yield found[0]
        process.terminate()
        process.wait(30)


@asynccontextmanager
async def two_browsers(url: str) -> AsyncIterator[list[Browser]]:
    """Yield the browsers of two people."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Browser(url)) for _ in range(2)]
