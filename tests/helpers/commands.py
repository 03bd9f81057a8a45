"""The command line, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.helpers import forks

if TYPE_CHECKING:
    import asyncpg

_OURS = ("DATABASE_URL", "PYTHONUNBUFFERED")  # which a user's environment need not have
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in _OURS}

# Whoever runs the suite in the background may have it ignore Ctrl-C.
INTERRUPTIBLE: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}


def command(*arguments: object) -> list[str]:
    """Return the command line of ``assessments`` with *arguments*."""
    return [sys.executable, "-m", "assessments", *map(str, arguments)]


def run(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run ``assessments`` with *arguments*, and *given* on its standard input."""
    return forks.run("assessments", *map(str, arguments), given=given, environment=ENVIRONMENT)


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start ``assessments`` with *arguments* and pipes for all that *options* do not name."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command(*arguments), text=False, env=ENVIRONMENT, **pipes | options)


@dataclass(frozen=True)
class Database:
    """A database, a connection to it, and the commands on it."""

    url: str
    conn: asyncpg.Connection[Any]

    def run(
        self, name: str, *arguments: object, given: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command *name* on this database."""
        return run(name, "--database", self.url, *arguments, given=given)

    def start(self, name: str, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start the command *name* on this database."""
        return start(name, "--database", self.url, *arguments, **options)

    def export(self, *arguments: object) -> bytes:
        """Return what an export writes."""
        done = self.run("export", *arguments)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    async def fill(self, count: int) -> None:
        """Store *count* anonymous responses two days old, and score every other one."""
        await self.conn.execute(
            """
            INSERT INTO assessment_responses
                (anonymous_token, question_id, module_slug, answer_text, created_at)
            SELECT md5(n::text)::uuid, 'q' || n, 'm', repeat('answer ', 40),
                now() - interval '2 days' - n * interval '1.000001 seconds'
            FROM generate_series(1, $1::bigint) AS n ORDER BY n
            """,
            count,
        )
        await self.conn.execute(
            "INSERT INTO assessment_scores (response_id, score_data) "
            "SELECT response_id, '{\"points\": 1}' FROM assessment_responses "
            "WHERE response_id % 2 = 0 ORDER BY response_id"
        )

    async def set(self, setting: str, value: str) -> None:
        """Give *setting* this value in each session on this database that begins from now on."""
        name = await self.conn.fetchval("SELECT quote_ident(current_database())")
        await self.conn.execute(f"ALTER DATABASE {name} SET {setting} = {value}")

    async def identity(self) -> Any:
        """Return which database this is, as the lines of an export name it."""
        return await self.conn.fetchval(
            "SELECT concat_ws('/', system_identifier, oid, current_schema()::regnamespace::oid) "
            "FROM pg_control_system(), pg_database WHERE datname = current_database()"
        )

    async def count(self, table: str = "assessment_responses") -> Any:
        """Return how many rows *table* has."""
        return await self.conn.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - ours


async def content(conn: asyncpg.Connection[Any]) -> list[Any]:
    """Return every response with its scores, all columns but the keys, in the order of the keys."""
    responses = await conn.fetch("SELECT * FROM assessment_responses ORDER BY response_id")
    scores = await conn.fetch("SELECT * FROM assessment_scores ORDER BY score_id")
    keys = ("response_id", "score_id", "submission_key")

    def parse(row: Any) -> dict[str, Any]:
        kept = {name: value for name, value in row.items() if name not in keys}
        for name in kept.keys() & {"answer_metadata", "score_data"}:
            kept[name] = json.loads(kept[name])
        return kept

    return [
        (
            parse(response),
            [parse(s) for s in scores if s["response_id"] == response["response_id"]],
        )
        for response in responses
    ]


def summary(responses: int, scores: int, existing: int) -> bytes:
    """Return the line in which an import sums up."""
    return (
        f"imported {responses:,} responses with {scores:,} scores; "
        f"{existing:,} were already there\n"
    ).encode()


def terminal_output(*arguments: object, given: bytes = b"") -> bytes:
    """Return what a command writes on standard error when that is a terminal."""
    ours, theirs = pty.openpty()
    process = start(*arguments, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    assert process.stdin
    process.stdin.write(given)
    process.stdin.close()
    output = b""
    try:
        while read := os.read(ours, 4096):
            output += read
    except OSError:  # as Linux ends a terminal
        pass
    os.close(ours)
    assert process.wait(30) == 0
    return output


async def active_backend(conn: asyncpg.Connection[Any]) -> int:
    """Return the process of the server's that runs a statement of a command's, once one does."""
    pid = None
    while pid is None:
        pid = await conn.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND query LIKE '/* assessments.%' AND state = 'active'"
        )
        await asyncio.sleep(0.01)
    assert isinstance(pid, int)
    return pid
