"""``assessments export --output`` writes whole files only."""

from __future__ import annotations

import asyncio
import resource
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.commands import ENVIRONMENT, INTERRUPTIBLE, active_backend
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from tests.helpers.commands import Database


def names(folder: Path) -> set[str]:
    """Return the names of what is in *folder*."""
    return {each.name for each in folder.iterdir()}


async def test_a_file_appears_when_it_is_complete(source: Database, tmp_path: Path) -> None:
    """With --output a complete file, for its owner only, replaces the one before it."""
    await source.fill(3)
    path = tmp_path / "out.jsonl"
    path.write_text("before")

    assert source.export("--output", path) == b""
    assert path.read_bytes() == source.export()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == {path.name}


@pytest.mark.parametrize(
    ("number", "status", "error"),
    [
        (signal.SIGTERM, 143, ""),
        (signal.SIGINT, 130, "interrupted\n"),
        (signal.SIGKILL, -9, ""),
        (
            None,
            1,
            "no connection to the server: connection was closed in the middle",
        ),
    ],
    ids=["SIGTERM", "Ctrl-C", "SIGKILL", "connection lost"],
)
async def test_an_export_that_fails_leaves_the_file_before_it(
    *,
    source: Database,
    other: asyncpg.Connection[Any],
    tmp_path: Path,
    number: signal.Signals | None,
    status: int,
    error: str,
) -> None:
    """However it ends, FILE keeps its content, and only kill -9 leaves another file behind."""
    await source.fill(3)
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    await source.conn.execute("BEGIN; LOCK TABLE assessment_responses")
    process = source.start("export", "--output", path, **INTERRUPTIBLE)
    blocked = await active_backend(other)
    await until_waiting_for_lock(other, blocked)
    assert len(names(tmp_path)) == 2

    if number:
        process.send_signal(number)
    else:
        await other.execute("SELECT pg_terminate_backend($1)", blocked)
    _, errors = process.communicate(timeout=30)
    await source.conn.execute("ROLLBACK")

    assert process.returncode == status
    assert errors.decode().startswith(error)
    assert errors.count(b"\n") == bool(error)
    assert path.read_text() == "before"
    left = names(tmp_path) - {path.name}
    assert len(left) == (number == signal.SIGKILL)
    assert all(stat.S_IMODE((tmp_path / each).stat().st_mode) == 0o600 for each in left)


@pytest.mark.parametrize("output", ["nowhere/out.jsonl", ".", "x" * 300])
def test_an_output_that_cannot_be_written_is_an_error(
    source: Database, tmp_path: Path, output: str
) -> None:
    """It ends with status 1 and one line, and leaves nothing behind."""
    done = source.run("export", "--output", tmp_path / output)

    assert done.returncode == 1
    assert done.stderr.startswith(b"--output: ")
    assert done.stderr.count(b"\n") == 1
    assert names(tmp_path) == set()


async def test_exports_to_one_file_do_not_mix(
    source: Database, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    """Of several at once one may fail; the others end with 0, and the file is one whole export."""
    await source.fill(1000)
    path = tmp_path / "out.jsonl"
    await source.conn.execute("BEGIN; LOCK TABLE assessment_scores")
    processes = [source.start("export", "--output", path) for _ in range(3)]
    await until(
        other,
        "SELECT count(*) = 3 FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE NOT granted AND datname = current_database()",
    )
    processes[2].terminate()
    processes[2].communicate(timeout=30)
    await source.conn.execute("COMMIT")

    done = [await asyncio.to_thread(process.communicate) for process in processes[:2]]

    assert done == [(b"", b"")] * 2
    assert [process.returncode for process in processes] == [0, 0, 143]
    assert path.read_bytes() == source.export()
    assert names(tmp_path) == {path.name}


async def test_a_dash_is_standard_output(source: Database) -> None:
    """``--output -`` writes to standard output, and not to a file of that name."""
    await source.fill(3)

    done = source.run("export", "--output", "-")

    assert (done.returncode, done.stdout) == (0, source.export())


WITHOUT_FSYNC = """
import errno, os, sys
from assessments.cli import main

def fail(_descriptor):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

os.fsync = fail
sys.exit(main(sys.argv[1:]))
"""


async def test_a_file_that_does_not_reach_the_disk_does_not_appear(
    source: Database, tmp_path: Path
) -> None:
    """Where fsync fails, the command ends with status 1 and leaves nothing."""
    await source.fill(3)
    arguments = ("export", "--database", source.url, "--output", tmp_path / "out.jsonl")

    done = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", WITHOUT_FSYNC, *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, b"cannot write: Input/output error\n")
    assert names(tmp_path) == set()


async def test_a_file_that_the_disk_refuses_does_not_appear(
    source: Database, tmp_path: Path
) -> None:
    """Where a write fails half-way, the command ends with status 1 and leaves nothing."""
    await source.fill(5000)

    def limit_file_size() -> None:
        size = 2**20  # enough for what coverage writes at the end
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    process = source.start("export", "--output", tmp_path / "out.jsonl", preexec_fn=limit_file_size)
    _, errors = process.communicate(timeout=30)

    assert (process.returncode, errors) == (1, b"cannot write: File too large\n")
    assert names(tmp_path) == set()


# The command line, with what is synced printed: a file's size, and whether FILE is there yet.
TOLD = """
import os, sys
from assessments.cli import main

sync, path = os.fsync, sys.argv[-1]

def told(file):
    sync(file)
    print(os.fstat(file).st_size, os.path.exists(path))

os.fsync = told
sys.exit(main())
"""


async def test_a_file_is_on_disk_before_it_appears(source: Database, tmp_path: Path) -> None:
    """All of it is synced before it takes the place of FILE."""
    await source.fill(300)
    path = tmp_path / "out.jsonl"
    options = ["export", "--database", source.url, "--output", str(path)]

    command = [sys.executable, "-c", TOLD, *options]
    output = await asyncio.to_thread(subprocess.check_output, command, text=True)

    assert f"{path.stat().st_size} False" in output.splitlines()
