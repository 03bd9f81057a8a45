"""A PgBouncer of one's own in front of a server, for as long as a block lasts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from assessments.testing.server import unprivileged

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "p@ss/word:%"  # noqa: S105 - of nothing but a test's own PgBouncer
_SOCKET_PORT = 6432  # a name in a folder of our own, so never taken
_SECONDS = 10

# The keeper: a shell that ends PgBouncer and removes its folder when its own standard input ends,
# because the block is over or because this process has died.
_KEEPER = r"""
trap '' PIPE
"$1" "$2/pgbouncer.ini" > /dev/null 2>&1 < /dev/null &
read -r _
kill $! 2> /dev/null
wait $!
rm -rf "$2"
"""


def binary() -> str | None:
    """Return where PgBouncer is; Debian keeps it out of an ordinary user's PATH."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def running(url: str, **settings: object) -> Iterator[str]:
    """Yield the URL of the database of *url* behind a PgBouncer in transaction mode.

    Clients connect through a Unix socket without a password, all as the role that *url* names, and
    share three connections to the server. PgBouncer's own *settings* override these.
    """
    with _home() as (home, account), _started(home, account, url, _SOCKET_PORT, settings):
        query = urlencode({"host": home, "port": _SOCKET_PORT})
        yield urlsplit(url)._replace(netloc="app@", query=query).geturl()


@contextmanager
def running_as_hosted(url: str) -> Iterator[str]:
    """Do the same as hosted poolers do: on TCP, with TLS only and a password checked by SCRAM."""
    with _home() as (home, account):
        _create_certificate(home, account)
        (home / "users.txt").write_text(f'"app" "{PASSWORD}"\n', encoding="utf-8")
        settings = {
            "listen_addr": "127.0.0.1",
            "auth_type": "scram-sha-256",
            "auth_file": home / "users.txt",
            "client_tls_sslmode": "require",
            "client_tls_cert_file": home / "cert.pem",
            "client_tls_key_file": home / "key.pem",
        }
        port = _free_port()
        with _started(home, account, url, port, settings):
            netloc = f"app:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
            yield urlsplit(url)._replace(netloc=netloc, query="").geturl()


@contextmanager
def _home() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a folder, and Popen's user arguments, as PgBouncer refuses to run as root."""
    home = Path(tempfile.mkdtemp(prefix="assessments-pgbouncer-"))
    try:
        yield home, unprivileged(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _started(
    home: Path, account: dict[str, Any], url: str, port: int, settings: dict[str, object]
) -> Iterator[None]:
    options = {
        "unix_socket_dir": home,
        "listen_port": port,
        "logfile": home / "pgbouncer.log",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": 3,
        **settings,
    }
    lines = ["[databases]", f"* = {_server(url)}", "[pgbouncer]"]
    lines += [f"{name} = {value}\n" for name, value in options.items()]
    (home / "pgbouncer.ini").write_text("\n".join(lines), encoding="utf-8")
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", _KEEPER, "keeper", binary() or "pgbouncer", home],
        stdin=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is ours to answer
        cwd=home,
        **account,
    )
    assert keeper.stdin
    try:
        _wait_until_open(home, port)
        yield
    finally:
        keeper.stdin.close()
        keeper.wait(_SECONDS)


def _server(url: str) -> str:
    """Return the server of *url* as pgbouncer.ini names it."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    server = {
        "host": parts.hostname or query.get("host"),
        "port": parts.port or query.get("port"),
        "user": unquote(parts.username or "") or query.get("user"),
        "password": unquote(parts.password or "") or query.get("password"),
    }
    quoted = {name: str(value).replace("'", "''") for name, value in server.items() if value}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def _create_certificate(home: Path, account: dict[str, Any]) -> None:
    """Put a certificate that nobody trusts, and its key, into *home*."""
    subject = ["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    subprocess.run(command, cwd=home, capture_output=True, check=True, **account)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _wait_until_open(home: Path, port: int) -> None:
    """Return once the socket in *home* accepts connections."""
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(home / f".s.PGSQL.{port}")) == 0:
                return
        time.sleep(0.01)
    log = home / "pgbouncer.log"
    shown = log.read_text(encoding="utf-8") if log.exists() else "nothing"
    raise RuntimeError(f"PgBouncer did not start; it logged: {shown}")
