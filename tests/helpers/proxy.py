"""A proxy between clients and the server that cuts or stops what passes."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future, StreamReader, StreamWriter
    from collections.abc import AsyncIterator

REQUEST, REPLY = "request", "reply"
ROW = b"2\0\0\0\4D"  # how the reply to a query that returns a row begins: BindComplete, DataRow
COMMITTED = b"Z\0\0\0\5I"  # how the reply ends after a commit: ReadyForQuery, idle


class Proxy:
    """Passes on requests and replies.

    Attributes:
        folder: Where its socket is: a client's ``host``.
        passing: While it is cleared, nothing is passed on and no connection closed.
        stop_at: A request that contains this clears it, once.
    """

    def __init__(self, folder: str, server: str) -> None:
        self.folder = folder
        self.passing = asyncio.Event()
        self.passing.set()
        self.stop_at = b""
        self._server = server
        self._cuts: dict[str, tuple[bytes, float, Future[bytes]]] = {}

    def cut(self, way: str, begins: bytes, share: float) -> Future[bytes]:
        """Cut the connection within the next request or reply that begins with *begins*.

        Both sides are closed after a *share* of it. Return its whole text, once it was cut.
        """
        done: Future[bytes] = asyncio.get_running_loop().create_future()
        self._cuts[way] = begins, share, done
        return done

    async def serve(self, client: StreamReader, to_client: StreamWriter) -> None:
        """Connect a client with the server until either closes or the connection is cut."""
        with closing(to_client), suppress(OSError):  # the server may be down
            server, to_server = await asyncio.open_unix_connection(self._server)
            with closing(to_server):
                ways = [
                    asyncio.create_task(self._pass_on(REQUEST, client, to_server)),
                    asyncio.create_task(self._pass_on(REPLY, server, to_client)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_on(self, way: str, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.stop_at and self.stop_at in data:
                    self.stop_at = b""
                    self.passing.clear()
                await self.passing.wait()
                if way in self._cuts and data.startswith(self._cuts[way][0]):
                    _, share, done = self._cuts.pop(way)
                    done.set_result(data)
                    writer.write(data[: int(share * len(data))])
                    return
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def proxied(server: str) -> AsyncIterator[Proxy]:
    """Yield a proxy to the server behind the Unix socket *server*."""
    with tempfile.TemporaryDirectory(prefix="assessments-") as folder:
        proxy = Proxy(folder, server)
        clients: set[asyncio.Task[None]] = set()

        def accept(reader: StreamReader, writer: StreamWriter) -> None:
            task = asyncio.create_task(proxy.serve(reader, writer))
            clients.add(task)
            task.add_done_callback(clients.discard)

        listening = await asyncio.start_unix_server(accept, Path(folder, ".s.PGSQL.5432"))
        try:
            yield proxy
        finally:
            listening.close()
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
