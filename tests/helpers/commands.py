"""The command line, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg

_OURS = ("DATABASE_URL", "PYTHONUNBUFFERED")  # which a user's environment need not have
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in _OURS}


def command(*arguments: object) -> list[str]:
    """Return the command line of ``assessments`` with *arguments*."""
    return [sys.executable, "-m", "assessments", *map(str, arguments)]


def run(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run ``assessments`` with *arguments*, and *given* on its standard input."""
    return subprocess.run(
        command(*arguments),
        input=given,
        capture_output=True,
        env=_ENVIRONMENT,
        timeout=60,
        check=False,
    )


def started(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start ``assessments`` with *arguments* and pipes for all that *options* do not name."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command(*arguments), text=False, env=_ENVIRONMENT, **pipes | options)


async def content(conn: asyncpg.Connection[Any]) -> list[Any]:
    """Return every response with its scores, all columns but the keys, in the order of the keys."""
    responses = await conn.fetch("SELECT * FROM assessment_responses ORDER BY response_id")
    scores = await conn.fetch("SELECT * FROM assessment_scores ORDER BY score_id")
    without = ("response_id", "score_id", "submission_key")

    def plain(row: Any) -> dict[str, Any]:
        kept = {name: value for name, value in row.items() if name not in without}
        for name in kept.keys() & {"answer_metadata", "score_data"}:
            kept[name] = json.loads(kept[name])
        return kept

    return [
        (
            plain(response),
            [plain(s) for s in scores if s["response_id"] == response["response_id"]],
        )
        for response in responses
    ]


def said_on_a_terminal(*arguments: object, given: bytes = b"") -> bytes:
    """Return what a command writes on standard error when that is a terminal."""
    ours, theirs = pty.openpty()
    process = started(*arguments, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    assert process.stdin
    process.stdin.write(given)
    process.stdin.close()
    said = b""
    try:
        while read := os.read(ours, 4096):
            said += read
    except OSError:  # as Linux ends a terminal
        pass
    os.close(ours)
    assert process.wait(30) == 0
    return said


async def backend_of_command(conn: asyncpg.Connection[Any]) -> int:
    """Return the process of the server's that waits with a statement of a command's."""
    pid = None
    while pid is None:
        pid = await conn.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND query LIKE '/* assessments.%' AND state = 'active'"
        )
        await asyncio.sleep(0.01)
    assert isinstance(pid, int)
    return pid
