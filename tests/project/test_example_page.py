"""The example service's page, in a real browser, as `make serve` starts it."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.helpers.chromium import CHROMIUM, Tab, new_tab
from tests.helpers.programs import program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

LOSE_A_REPLY = """
const real = fetch;
window.posted = [];
window.fetch = async (path, options) => {
    const reply = await real(path, options);
    if (options.method !== "POST") return reply;
    posted.push(options.headers["Idempotency-Key"]);
    if (posted.length === 1) throw new TypeError("the reply is lost");
    return reply;
};
"""
ITEMS = "document.querySelectorAll('li').length"
TEXT = "document.querySelector('#text').value"
STATUS = "document.querySelector('#status').textContent"
FIRST = "document.querySelector('li')?.innerText"
MARKUP = "<img src=x onerror='window.ran = true'>"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of the running example; Ctrl-C ends it."""
    log = tmp_path_factory.mktemp("serve") / "log"
    with program(log, "-m", "examples.serve", PORT="0", SCORE_SECONDS="0.1") as process:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"running on (http://\S+)", log.read_text("utf-8"))):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, log.read_text("utf-8")
        assert "Traceback" not in log.read_text("utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """Yield the tab of a browser that the tests share."""
    with new_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, url: str) -> Tab:
    """Return the tab with the page open, as on a computer that nobody has used."""
    browser.call("Storage.clearDataForOrigin", origin=url, storageTypes="all")
    browser.open(url)
    browser.run("sessionStorage.clear()")
    browser.open(url)
    return browser


def test_an_answer_is_scored_and_claimed_at_the_sign_in(tab: Tab, url: str) -> None:
    """It is shown as text, and again after a reload; the sign-out leaves nothing of it."""
    tab.type("#text", MARKUP)
    tab.click("#answer button")
    tab.until(f"{FIRST}?.includes('Score: 5 of 5')")
    tab.until(f"{STATUS} === 'Score: 5 of 5'")
    tab.open(url)
    tab.until(f"{FIRST}?.includes('Score: 5 of 5')")
    assert tab.run("document.querySelector('li p').textContent") == MARKUP
    assert not tab.run("Boolean(window.ran)")

    tab.type("#user", "1")
    tab.click("#sign-in button")
    tab.until(f"{STATUS}.endsWith('account: 1.')")
    assert tab.run(ITEMS) == 1
    tab.type("#text", "not sent")
    tab.click("#sign-out button")
    tab.until(f"{STATUS} === 'Signed out.'")
    assert (tab.run(ITEMS), tab.run(TEXT), tab.run("sessionStorage.length")) == (0, "", 0)


def test_an_answer_is_stored_once(tab: Tab) -> None:
    """A double click submits once, and the retry after a lost reply sends the same key."""
    tab.run(LOSE_A_REPLY)
    tab.type("#text", "Chlorophyll.")
    tab.click("#answer button", times=2)
    tab.until(f"{FIRST}?.includes('Score: 1 of 5')")
    assert tab.run(ITEMS) == 1
    first, second = tab.run("posted")
    assert first == second


def test_a_draft_and_its_key_survive_a_reload(tab: Tab, url: str) -> None:
    """What could not be sent is still there, is sent with the same key, and then is gone."""
    tab.type("#text", "Half a thought")
    tab.open(url)
    assert tab.run(TEXT) == "Half a thought"

    tab.run(LOSE_A_REPLY)
    tab.click("#answer button")
    tab.until("posted.length === 1")
    key = tab.run("posted[0]")
    tab.open(url)
    assert tab.run("sessionStorage.submissionKey") == key
    tab.click("#answer button")
    tab.until(f"{ITEMS} > 0 && {TEXT} === ''")
    assert tab.run(ITEMS) == 1
    tab.open(url)
    assert tab.run(TEXT) == ""


def test_the_page_speaks_both_languages(tab: Tab, url: str) -> None:
    """Each names itself and its direction, has every text, and is remembered."""
    script = "Object.values(TEXTS).map((texts) => Object.keys(texts).sort().join())"
    assert len(set(tab.run(script))) == 1
    tab.run(
        "const choice = document.querySelector('#language'); choice.value = 'ar';"
        "choice.dispatchEvent(new Event('change'))"
    )
    tab.open(url)
    root = "[document.documentElement.lang, document.documentElement.dir]"
    assert tab.run(root) == ["ar", "rtl"]
