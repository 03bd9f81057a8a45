"""A server that tests may kill."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

from examples.retry import retried

if TYPE_CHECKING:
    from random import Random

APPLICATION = "under fault"
PATIENCE = 120.0  # seconds: longer than any machine takes to recover
_CLIENTS = f"FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"


class Cluster:
    """A server on this machine, by the URL of one of its databases and a superuser's name."""

    def __init__(self, url: str) -> None:
        self.url = url

    def socket(self) -> str:
        """Return the path of the server's Unix socket."""
        (folder,) = parse_qs(urlsplit(self.url).query)["host"]
        return f"{folder}/.s.PGSQL.5432"

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Return the rows of *query*, retried until the server answers."""

        async def once() -> list[Any]:
            connection = await asyncpg.connect(self.url, timeout=10)
            try:
                return await connection.fetch(query, *arguments)
            finally:
                await connection.close(timeout=10)

        return await retried(once, seconds=PATIENCE)

    async def kill(self, chance: Random) -> None:
        """Send SIGKILL to one client's busy backend: PostgreSQL ends all others and recovers."""
        while True:
            busy = await self.fetch(f"SELECT pid {_CLIENTS} AND state = 'active'")
            for (pid,) in chance.sample(busy, len(busy)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return
            await asyncio.sleep(0.001)

    async def terminate(self) -> None:
        """Terminate every client's backend as an administrator would."""
        await self.fetch(f"SELECT pg_terminate_backend(pid) {_CLIENTS}")

    async def restart(self) -> None:
        """Stop the server without a checkpoint, as a power cut would, and start it again."""
        ((data, binaries),) = await self.fetch(
            "SELECT current_setting('data_directory'), setting FROM pg_config WHERE name = 'BINDIR'"
        )
        owner = os.stat(data)  # noqa: PTH116 - Path's would block just as long
        options: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), DEVNULL)
        options |= {"cwd": data, "env": os.environ | {"LC_ALL": "C"}}
        if os.geteuid() == 0:
            options |= {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        command = await asyncio.create_subprocess_exec(
            *(f"{binaries}/pg_ctl", "restart", "-w", "-m", "immediate"),
            *("-D", data, "-l", f"{data}/../server.log"),
            **options,
        )
        assert await command.wait() == 0, "the server did not restart"

    async def demote(self) -> None:
        """Restart the server as a standby that nothing reaches from a primary."""
        await self.fetch("COPY (SELECT 1) TO PROGRAM 'cat > standby.signal'")
        await self.restart()

    async def promote(self) -> None:
        """Promote the server, if it is a standby, and return once it takes writes."""
        await self.fetch("SELECT pg_promote() WHERE pg_is_in_recovery()")

    async def migrate(self) -> None:
        """Lock the table of responses for 100 ms as a migration does."""
        connection = await asyncpg.connect(self.url)
        async with connection.transaction():
            await connection.execute("ALTER TABLE assessment_responses ADD COLUMN note text")
            await connection.execute("ALTER TABLE assessment_responses DROP COLUMN note")
            await asyncio.sleep(0.1)
        await connection.close()
