"""Write ``docs/reference/`` and the types: all, or what the generators that are named give.

Each server that this machine has, the embedded one and the newest installed one, writes the pages
of its version.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import asyncpg

from assessments.testing import migrations, server
from tests.helpers.servers import database_url
from tests.reference import ROOT, contract, indexes, plans, schema

if TYPE_CHECKING:
    from collections.abc import Iterable

GENERATORS = {
    "schema": schema.pages,
    "contract": contract.pages,
    "indexes": indexes.pages,
    "plans": plans.pages,
}


async def write(url: str, names: Iterable[str]) -> None:
    """Write the pages of the generators *names* on the server at *url*."""
    for name in names:
        admin = await asyncpg.connect(url)
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()
        database = database_url(url, name)
        await asyncio.to_thread(migrations.apply, database)
        conn = await asyncpg.connect(database)
        for file, text in (await GENERATORS[name](conn)).items():
            (ROOT / file).write_text(text, encoding="utf-8")
            sys.stdout.write(f"{file}\n")
        await conn.close()


def main(names: list[str]) -> None:
    """Run the generators *names*, or all, on each server."""
    if unknown := set(names) - GENERATORS.keys():
        sys.exit(f"no such generator: {', '.join(sorted(unknown))}")
    for binaries in (server.embedded_binaries(), server.installed_binaries()):
        if binaries:
            with server.running(binaries) as url:
                asyncio.run(write(url, names or GENERATORS))


if __name__ == "__main__":
    main(sys.argv[1:])
