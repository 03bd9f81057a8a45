"""The library's migrations as files: their ids, and the locks that their headers state."""

from __future__ import annotations

import re
from functools import cache

from assessments.queries import folder

TABLES = ("users", "assessment_responses", "assessment_scores")
# By strength. What every SELECT takes is not stated.
LOCK_MODES = (
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)
_LOCKS = re.compile(r"^-- Locks:(.*\n(?:--  .*\n)*)", re.MULTILINE)
_MODE = re.compile(rf"\b({'|'.join(sorted(LOCK_MODES, key=len, reverse=True))})\b")
_TABLE = re.compile(rf"\bon ({'|'.join(TABLES)})\b")
_CONCURRENT = re.compile(r"^CREATE (?:UNIQUE )?INDEX CONCURRENTLY (\w+)", re.MULTILINE)


@cache
def migration_ids(*, standalone: bool = False) -> tuple[str, ...]:
    """Return the ids of the library's migrations, in their order.

    With *standalone*, that of the stand-in users table comes first.
    """
    files = folder("migrations").glob("**/*.sql" if standalone else "*.sql")
    return tuple(sorted(path.stem for path in files if ".rollback" not in path.name))


def read_migration(name: str) -> str:
    """Return the text of the migration *name*."""
    (file,) = folder("migrations").glob(f"**/{name}.sql")
    return file.read_text(encoding="utf-8")


def stated_locks(text: str) -> dict[str, str]:
    """Return the mode of each table under ``Locks:`` in the header of *text*.

    Raises:
        ValueError: The header has no such line.
    """
    lines = _LOCKS.search(text)
    if not lines:
        raise ValueError("the header has no line `-- Locks:    MODE on TABLE: who waits`")
    found: dict[str, str] = {}
    for clause in re.split(r"[.:;]", re.sub(r"\s*\n--\s*", " ", lines[1])):
        if mode := _MODE.search(clause):
            found |= dict.fromkeys(_TABLE.findall(clause), mode[1])
    return found


def concurrent_index(text: str) -> str | None:
    """Return the name of the index that *text* builds concurrently, if it builds one."""
    found = _CONCURRENT.search(text)
    return found[1] if found else None
