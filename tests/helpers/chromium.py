"""A headless Chromium, driven over a pipe by the DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
# Chromium reads its commands from descriptor 3, and writes to 4.
ON_PIPE = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'


class Tab:
    """A tab of a browser."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._sent = 0
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def call(self, method: str, **params: Any) -> Any:
        """Send a command and return its result."""
        pipe = self._process
        assert pipe.stdin
        assert pipe.stdout
        self._sent += 1
        command = {"id": self._sent, "method": method, "params": params, **self._session}
        pipe.stdin.write(json.dumps(command).encode() + b"\0")
        pipe.stdin.flush()
        while True:
            message = bytearray()
            while (byte := pipe.stdout.read(1)) != b"\0":
                assert byte, "Chromium has ended"
                message += byte
            reply = json.loads(message)
            if reply.get("id") == self._sent:
                assert "error" not in reply, reply
                return reply["result"]

    def run(self, script: str) -> Any:
        """Run JavaScript in the page and return its value, which it may promise."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Return once the JavaScript *condition* is true; fail after 30 seconds."""
        met = self.run(
            "(async () => { const end = Date.now() + 30000;"
            f" while (!({condition})) {{ if (Date.now() > end) return false;"
            " await new Promise((done) => setTimeout(done, 20)); } return true; })()"
        )
        assert met, (condition, self.run("document.body.innerText"))

    def open(self, url: str) -> None:
        """Open a page, or open it anew, and return once it has run its scripts."""
        self.run("window.before = true")
        self.call("Page.navigate", url=url)
        while self.run("window.before || document.readyState !== 'complete'"):
            pass

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def click(self, selector: str, times: int = 1) -> None:
        """Click on an element, as often as asked before the page can do anything."""
        self.run(
            f"for (let i = 0; i < {times}; i++)"
            f" document.querySelector({json.dumps(selector)}).click()"
        )


@contextmanager
def new_tab(profile: Path) -> Iterator[Tab]:
    """Start a browser with an empty profile and yield its tab."""
    assert CHROMIUM
    arguments = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"]
    with subprocess.Popen(
        ["/bin/sh", "-c", ON_PIPE, "sh", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield Tab(process)
        finally:
            process.terminate()
