"""A server that tests may kill."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from subprocess import DEVNULL
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

from examples.retry import retried

APPLICATION = "under fault"
PATIENCE = 120.0  # seconds: longer than any machine takes to recover


class Cluster:
    """A server on this machine, by the URL of one of its databases and a superuser's name."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def ask(self, query: str, *arguments: Any) -> list[Any]:
        """Return the rows of *query*, once the server answers."""

        async def once() -> list[Any]:
            connection = await asyncpg.connect(self.url, timeout=10)
            try:
                return await connection.fetch(query, *arguments)
            finally:
                await connection.close(timeout=10)

        return await retried(once, seconds=PATIENCE)

    async def backends(self, state: str = "%") -> list[int]:
        """Return the processes that serve the clients under test, those in a state like *state*."""
        rows = await self.ask(
            "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND state LIKE $2",
            APPLICATION,
            state,
        )
        return [pid for (pid,) in rows]

    async def kill(self) -> None:
        """Kill a backend at work as the kernel would: PostgreSQL then ends all and recovers."""
        while True:
            for pid in random.sample(busy := await self.backends("active"), len(busy)):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                return
            await asyncio.sleep(0.001)

    async def terminate(self) -> None:
        """End each backend as an administrator would."""
        await self.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
            APPLICATION,
        )

    async def restart(self) -> None:
        """Stop the server without a checkpoint, as a power cut would, and start it again."""
        ((data, binaries),) = await self.ask(
            "SELECT current_setting('data_directory'), setting FROM pg_config WHERE name = 'BINDIR'"
        )
        owner = os.stat(data)  # noqa: PTH116 - Path's would block just as long
        who: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        command = await asyncio.create_subprocess_exec(
            *(f"{binaries}/pg_ctl", "restart", "-w", "-m", "immediate"),
            *("-D", data, "-l", f"{data}/../server.log"),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            cwd=data,
            env=os.environ | {"LC_ALL": "C"},
            **(who if os.geteuid() == 0 else {}),
        )
        assert await command.wait() == 0, "the server did not restart"

    def socket(self) -> str:
        """Return the path of the server's Unix socket."""
        (folder,) = parse_qs(urlsplit(self.url).query)["host"]
        return f"{folder}/.s.PGSQL.5432"
