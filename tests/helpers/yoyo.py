"""yoyo as a deployer runs it, and the schema that it leaves."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING, Any

from assessments.queries import folder
from tests.helpers import forks

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

MIGRATIONS = folder("migrations")
STANDALONE = MIGRATIONS / "standalone"
IDS = sorted(path.stem for path in MIGRATIONS.glob("*.sql") if ".rollback" not in path.name)


async def yoyo(command: str, url: str, *sources: Path) -> subprocess.CompletedProcess[str]:
    """Run ``yoyo`` as a deployer does; *sources* are the library's migrations if left out."""
    options = ["--no-config-file", "--batch", "--database", url, *map(str, sources or [MIGRATIONS])]
    done = await asyncio.to_thread(
        forks.run, "yoyo", *command.split(), *options, environment=os.environ
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


async def migrate(command: str, url: str, *sources: Path) -> None:
    """Run ``yoyo``, which must succeed."""
    done = await yoyo(command, url, *sources)
    assert done.returncode == 0, done.stderr


async def schema(conn: asyncpg.Connection[Any]) -> list[str]:
    """Return a line for everything in the schema public that is not yoyo's own."""
    rows = await conn.fetch(
        r"""
        WITH relations AS (
            SELECT oid, relname, relkind FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relname !~ '^(_yoyo|yoyo_)'
        )
        SELECT format('%s %s: %s', relkind, relname, obj_description(oid, 'pg_class'))
        FROM relations
        UNION ALL
        SELECT format('column %s.%s %s %s %s %s: %s', relname, attname, attnotnull, attidentity,
            format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid),
            col_description(r.oid, attnum))
        FROM relations AS r
        JOIN pg_attribute AS a ON a.attrelid = r.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = attnum
        UNION ALL
        SELECT format('constraint %s.%s %s', relname, conname, pg_get_constraintdef(c.oid))
        FROM relations AS r JOIN pg_constraint AS c ON c.conrelid = r.oid
        UNION ALL
        SELECT format('index %s, valid: %s', pg_get_indexdef(r.oid), indisvalid)
        FROM relations AS r JOIN pg_index ON indexrelid = r.oid
        UNION ALL
        SELECT format('function %s', oid::regprocedure) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
        UNION ALL
        SELECT format('trigger %s', tgname) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT format('type %s', typname) FROM pg_type
        WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
        ORDER BY 1
        """
    )
    return [line for (line,) in rows]
