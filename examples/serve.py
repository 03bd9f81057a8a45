"""The service in a browser: a PostgreSQL of its own, the page, and a worker that needs no AI.

make serve            # PORT=8001 for another port; Ctrl-C ends it, and nothing is kept
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.responses import FileResponse
from pgqueuer.queries import Queries

import assessments
from assessments.testing import migrations, server
from examples import service
from examples.worker import score, work

PAGE = Path(__file__).with_name("page.html")


@asynccontextmanager
async def pool_and_worker(url: str) -> AsyncIterator[Any]:
    """Yield the service's pool while a worker scores what is submitted."""
    async with assessments.create_pool(url) as pool:
        await Queries.from_asyncpg_pool(pool).install()
        await pool.execute("INSERT INTO users SELECT generate_series(1, 3)")
        stop = asyncio.Event()
        worker = asyncio.create_task(work(pool, service.SCORER, stop=stop, ai=score))
        try:
            yield pool
        finally:
            stop.set()
            await worker


def main() -> None:
    """Serve the page until Ctrl-C."""
    logging.basicConfig(level=logging.WARNING)
    # This is http, and not every browser keeps a Secure cookie from http://127.0.0.1.
    service.COOKIE["secure"] = False
    with server.running() as url:
        migrations.apply(url)
        app = service.create_app(partial(pool_and_worker, url))
        app.add_api_route("/", lambda: FileResponse(PAGE), include_in_schema=False)
        port = int(os.environ.get("PORT", "8000"))
        uvicorn.run(app, host="127.0.0.1", port=port, access_log=False)


if __name__ == "__main__":
    main()
