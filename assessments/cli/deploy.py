"""``assessments migrate`` at work: one deploy at a time, and each migration by yoyo.

yoyo commits the row of its lock, so that the row of a killed deploy stays. Here it is inserted in a
transaction that stays open for the run: it ends with its session, and `yoyo break-lock` cannot
remove it.
"""

from __future__ import annotations

import getpass
import logging
import os
import signal
import sys
import time
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import errors as server_errors
from psycopg2.extensions import set_wait_callback
from psycopg2.extras import wait_select
from yoyo import default_migration_table, read_migrations
from yoyo.backends.core.postgresql import PostgresqlBackend
from yoyo.connections import parse_uri

from assessments.cli.errors import BAD_PARAMETER, OUT_OF_REACH, WRONG_USAGE, CommandError
from assessments.cli.output import say
from assessments.migration_files import concurrent_index, read_migration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

RUNBOOK = "docs/deploying.md#when-a-deploy-was-killed"
_ALREADY_EXISTS = ("42P07", "42701", "42710")
# The guard is idle in its transaction for as long as the migrations take, and must not be ended;
# where its client's machine is gone, the server is to notice within a minute.
_PREPARE_GUARD = """
SET lock_timeout = '2s';
SET idle_in_transaction_session_timeout = 0;
SET tcp_keepalives_idle = 30;
SET tcp_keepalives_interval = 10;
SET tcp_keepalives_count = 3;
SELECT set_config(name, '0', FALSE) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout';
"""
_HOLD = "INSERT INTO yoyo_lock (ctime, pid) VALUES (now() AT TIME ZONE 'UTC', pg_backend_pid())"
_HOLDERS = """
SELECT string_agg(h.pid::text, ', ' ORDER BY h.pid)
FROM pg_catalog.pg_locks AS h
WHERE
    h.relation = 'yoyo_lock'::regclass
    AND h.mode = 'RowExclusiveLock'
    AND h.pid <> pg_backend_pid()
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks AS w WHERE w.pid = h.pid AND NOT w.granted)
"""
_COMMITTED = "SELECT pid, ctime, date_trunc('second', ctime)::text FROM yoyo_lock"
# A yoyo that is alive has a session, of a role that may write its lock.
_MAY_HOLD = """
SELECT string_agg(format('%%s (%%s)', a.pid, a.usename), ', ' ORDER BY a.pid)
FROM pg_catalog.pg_stat_activity AS a
INNER JOIN pg_catalog.pg_class AS c ON c.oid = 'yoyo_lock'::regclass
WHERE
    a.datname = current_database()
    AND a.pid <> ALL (%s)
    AND (
        a.application_name = 'yoyo'
        OR has_table_privilege(a.usesysid, c.oid, 'INSERT')
        OR pg_has_role(a.usesysid, c.relowner, 'MEMBER')
    )
"""
# Two concurrent builds on a table can deadlock: the later one waits for the table's lock, with a
# snapshot that the earlier one waits for. A killed deploy's session builds to the end.
_BUILDERS = """
SELECT string_agg(pid::text, ', ' ORDER BY pid)
FROM pg_catalog.pg_stat_progress_create_index
WHERE datname = current_database() AND relid = to_regclass('assessment_responses')
"""
_BREAK = "DELETE FROM yoyo_lock WHERE pid = %s AND ctime IS NOT DISTINCT FROM %s"


class _Backend(PostgresqlBackend):  # type: ignore[misc]
    """yoyo's, without the lock that it commits: the guard holds one."""

    @contextmanager
    def lock(self, timeout: float = 10) -> Iterator[None]:  # noqa: ARG002 - yoyo's signature
        yield


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error of psycopg2's in the block into one of the command's."""
    try:
        yield
    except psycopg2.Error as error:
        message = str(error.diag.message_primary or error).strip().partition("\n")[0]
        if isinstance(error, psycopg2.ProgrammingError) and error.pgcode is None:
            raise CommandError(BAD_PARAMETER, WRONG_USAGE) from None
        if error.pgcode is None:
            raise CommandError(f"no connection to the server: {message}", OUT_OF_REACH) from None
        raise CommandError(f"PostgreSQL says: {message}") from None


def prepare() -> None:
    """Let Ctrl-C and SIGTERM cancel the statement that runs, and silence yoyo's log."""
    os.environ.setdefault("PGAPPNAME", "yoyo")  # as docs/deploying.md has it
    set_wait_callback(wait_select)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("yoyo").addHandler(logging.NullHandler())
    logging.getLogger("yoyo").propagate = False
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name, which yoyo would log
        os.environ["USER"] = str(os.getuid())


def is_behind_transaction_pooler(url: str) -> bool:
    """Say whether sessions are shared: two clients get one, or one client gets two."""
    with _session(url) as one, _session(url) as two:
        first = _value(one, "SELECT pg_backend_pid()")
        two.cursor().execute("BEGIN")
        other = _value(two, "SELECT pg_backend_pid()")
        again = _value(one, "SELECT pg_backend_pid()")
        two.cursor().execute("ROLLBACK")
        return bool(first == other or again != first)


def apply(
    url: str, sources: Iterable[Path], pending: Iterable[str], attempts: int, pause: float
) -> None:
    """Apply those migrations of *sources* that are not applied.

    Raises:
        CommandError: One failed, or another deploy is at work.
    """
    with _session(url) as guard, _Backend(parse_uri(url), default_migration_table) as backend:
        backend.init_database()
        guard.cursor().execute(_PREPARE_GUARD)
        own = [_value(each, "SELECT pg_backend_pid()") for each in (guard, backend.connection)]
        _retry("yoyo_lock", attempts, pause, partial(_hold, guard, own))
        migrations = list(backend.to_apply(read_migrations(*map(str, sources))))
        if unexpected := [each.id for each in migrations if each.id not in set(pending)]:
            path = "yoyo's tables are not in the first schema of the search_path"
            raise CommandError(f"{unexpected[0]}: is applied, but {path}")
        for migration in migrations:
            if index := concurrent_index(read_migration(migration.id)):
                say(f"{migration.id}: building {index}")
            start = time.monotonic()
            _retry(migration.id, attempts, pause, partial(_apply_one, backend, migration))
            say(f"{migration.id}: applied in {time.monotonic() - start:.2f} s")


def _retry(what: str, attempts: int, pause: float, act: Callable[[], str | None]) -> None:
    """Run *act* until it returns no reason to run it again."""
    for attempt in range(1, attempts + 1):
        if not (reason := act()):
            return
        if attempt < attempts:
            again = f"attempt {attempt + 1} of {attempts} in {pause:g} s"
            print(f"{what}: {reason}; {again}", file=sys.stderr, flush=True)
            time.sleep(pause)
    raise CommandError(f"{what}: {reason}; attempts made: {attempts}")


def _apply_one(backend: Any, migration: Any) -> str | None:
    """Apply *migration*; return why it can be tried again, if it can."""
    if concurrent_index(read_migration(migration.id)) and (
        builders := _value(backend.connection, _BUILDERS)
    ):
        return f"an index of assessment_responses is being built: session {builders}"
    try:
        backend.apply_one(migration)
    except server_errors.LockNotAvailable as error:
        return str(error.diag.message_primary)
    except psycopg2.Error as error:
        if error.pgcode is None:
            raise
        hint = f"; after a killed deploy: {RUNBOOK}" if error.pgcode in _ALREADY_EXISTS else ""
        message = error.diag.message_primary
        raise CommandError(f"{migration.id}: PostgreSQL says: {message}{hint}") from None
    return None


def _hold(guard: Any, own: list[int]) -> str | None:
    """Insert the row of yoyo's lock, in a transaction that stays open; return why it cannot be."""
    cursor = guard.cursor()
    cursor.execute("BEGIN")
    try:
        cursor.execute(_HOLD)
    except server_errors.LockNotAvailable:
        cursor.execute("ROLLBACK")
        return f"another deploy is at work: session {_value(guard, _HOLDERS) or 'unknown'}"
    except server_errors.UniqueViolation:
        cursor.execute("ROLLBACK")
        return _break_stale(guard, own) or _hold(guard, own)
    return None


def _break_stale(guard: Any, own: list[int]) -> str | None:
    """Delete the row that a yoyo has committed, or return whose sessions may be that yoyo's."""
    cursor = guard.cursor()
    cursor.execute(_COMMITTED)
    if row := cursor.fetchone():
        pid, ctime, since = row
        held = f"held since {since} UTC by process {pid}"
        for _ in range(20):  # this command's own earlier sessions are about to end
            if not (sessions := _value(guard, _MAY_HOLD, (own,))):
                break
            time.sleep(0.05)
        else:
            return f"{held}, whose session may be {sessions}: {RUNBOOK}"
        cursor.execute(_BREAK, (pid, ctime))
        say(f"yoyo_lock: {held}, of which no session is left: removed")
    return None


@contextmanager
def _session(url: str) -> Iterator[Any]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        yield connection


def _value(connection: Any, query: str, arguments: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, arguments)
        return cursor.fetchone()[0]
