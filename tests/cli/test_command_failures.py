"""Wrong usage, a server out of reach, a database not ready: a command says so in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.helpers.commands import ENVIRONMENT, command, run
from tests.helpers.jsonl import line
from tests.helpers.rows import SECRET
from tests.helpers.servers import database_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.commands import Database

EXPORT = ("export", "--database", "postgresql://")
PURGE = ("purge", "--database", "postgresql://", "--yes")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nonsense",), "invalid choice (choose from"),
        (("export",), "required: --database; give --database URL, or set DATABASE_URL"),
        (("import",), "required: --database"),
        (("purge", "--older-than", "1d"), "required: --database"),
        (("export", "--database", ""), "--database: must not be empty"),
        ((*EXPORT, "--user-id", "x"), "--user-id: must"),
        ((*EXPORT, "--user-id", "0"), "--user-id: must"),
        ((*EXPORT, "--anonymous-token", SECRET), "--anonymous-token: must"),
        ((*EXPORT, "--module", ""), "--module: must"),
        ((*EXPORT, "--since", "2026-13-01"), "--since: must"),
        ((*EXPORT, "--since", "2026-11-01T09:00:00"), "--since: must"),
        ((*EXPORT, "--until", "yesterday"), "--until: must"),
        ((*EXPORT, "--until", "365001d"), "--until: must"),
        ((*EXPORT, "--limit", "0"), "--limit: must"),
        (PURGE, "required: --older-than"),
        ((*PURGE, "--older-than", "90"), "--older-than: must"),
        ((*PURGE, "--older-than", "0d"), "--older-than: must"),
        ((*PURGE, "--older-than=-1d"), "--older-than: must"),
        ((*PURGE, "--older-than", "1.5d"), "--older-than: must"),
        ((*PURGE, "--older-than", "999999999w"), "--older-than: is too long"),
        ((*PURGE, "--older-than", "365001d"), "--older-than: must"),
        ((*PURGE, "--older-than", "٣d"), "--older-than: must"),
        ((*PURGE, "--older-than", "1d", "--batch", "0"), "--batch: must"),
        ((*PURGE, "--older-than", "1d", "--batch", "x"), "--batch: must"),
        (("export", "--database", f"mysql://u:{SECRET}@h/d"), "--database: must be postgresql://"),
        (("export", "--database", f"postgresql://u:{SECRET}#s@h/d"), "--database: cannot be"),
        (("export", "--database", f"postgresql://u:{SECRET}@h:port/d"), "--database: has a port"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], problem: str) -> None:
    """It prints the usage and the problem, and does not quote an option's value."""
    done = run(*arguments)

    assert (done.returncode, done.stderr[:18]) == (2, b"usage: assessments")
    assert problem in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert SECRET not in done.stderr.decode()


URL = f"postgresql://u:{SECRET}@h/d"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((SECRET,), "invalid choice (choose from"),
        ((URL,), "invalid choice (choose from"),
        ((f"{SECRET} (choose from {SECRET})",), "invalid choice (choose from"),
        ((*EXPORT, SECRET), "unrecognized arguments\n"),
        ((*EXPORT, URL), "unrecognized arguments; the URL of a database goes to --database\n"),
        ((*EXPORT, f"--token={SECRET}"), "unrecognized arguments\n"),
        ((*EXPORT, f"--u={SECRET}"), "ambiguous option\n"),
        ((*PURGE, f"--yes={SECRET}"), "argument --yes: ignored explicit argument\n"),
        (("check", URL), "required: --database"),
        (("import", "--database", URL, URL), "argument FILE: is a URL; the URL of a database goes"),
        ((*EXPORT, "--user-id", "7" * 5000), "--user-id: must"),
        ((*PURGE, "--older-than", "1d", "--batch", "7" * 5000), "--batch: must"),
    ],
)
def test_a_usage_error_quotes_no_value(arguments: tuple[str, ...], problem: str) -> None:
    """A token or a password in the wrong place is refused without being printed."""
    done = run(*arguments)

    assert done.returncode == 2
    assert problem in done.stderr.decode()
    assert SECRET not in done.stderr.decode()
    assert "7777" not in done.stderr.decode()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/d", "no connection to the server: Connection ref"),
        ("postgresql://u:hunter2@/d?host=/nowhere", "no connection to the server: No such file"),
        ("postgresql://u:hunter2@no.invalid/d", "no connection to the server: "),
    ],
)
@pytest.mark.parametrize("name", ["check", "export", "import"])
def test_a_server_out_of_reach_exits_with_3(name: str, url: str, problem: str) -> None:
    """One line says what is wrong with the way to the server, without the password."""
    done = run(name, "--database", url)

    assert done.returncode == 3
    assert done.stderr.decode().startswith(problem)
    assert done.stderr.count(b"\n") == 1
    assert b"hunter2" not in done.stderr


@pytest.mark.parametrize("name", ["check", "migrate"])
@pytest.mark.parametrize(
    "parameter", ["sslmode=x", "target_session_attrs=x", "statement_timeout=x", "hunter2=x"]
)
def test_a_url_with_a_parameter_that_cannot_be_used_exits_with_2(
    source: Database, name: str, parameter: str
) -> None:
    """It is wrong usage, found by the driver or the server; the parameter is not quoted."""
    separator = "&" if "?" in source.url else "?"
    done = run(name, "--database", f"{source.url}{separator}{parameter}")

    problem = "a parameter in the URL of the database is unknown or has no valid value"
    assert (done.returncode, done.stderr.decode()) == (2, f"{problem}\n")


def test_a_bad_url_of_the_environment_is_said_to_be_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is about DATABASE_URL, and not about an option that was not given."""
    monkeypatch.setitem(ENVIRONMENT, "DATABASE_URL", f"mysql://u:{SECRET}@h/d")
    done = run("check")

    problem = "DATABASE_URL must be postgresql://user:password@host/database, not mysql://"
    assert done.returncode == 2
    assert done.stderr.decode().endswith(f"\nassessments check: error: {problem}\n")


@pytest.mark.parametrize(
    ("name", "module", "extras"),
    [
        ("migrate", "psycopg2", "migrate"),
        ("report", "jinja2", "report"),
        ("demo", "yoyo", "cli,embedded,migrate,report"),
    ],
)
def test_a_missing_extra_is_named(name: str, module: str, extras: str) -> None:
    """A command says which extra it needs, and no more than it needs."""
    code = f"import sys; sys.modules[{module!r}] = None; from assessments.cli import main; main()"
    options = {"report": ("--output", "-"), "demo": ()}.get(name, ())
    url = () if name == "demo" else ("--database", "postgresql://127.0.0.1:1/d")
    done = subprocess.run(
        [sys.executable, "-c", code, name, *url, *options], capture_output=True, check=False
    )

    expected = f'{name} needs {module}: pip install "assessments[{extras}]"\n'
    assert done.stderr.decode() == expected


def run_redirected(redirection: str, url: str, *arguments: str) -> tuple[int, str]:
    """Run a command on *url* as a shell redirects it; return the status and standard error."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *command(*arguments)],
        input=b"",
        capture_output=True,
        env={**ENVIRONMENT, "DATABASE_URL": url},
        check=False,
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("arguments", [("migrate",), ("import", "--json")])
def test_an_output_that_takes_nothing_is_an_error(
    source: Database, arguments: tuple[str, ...]
) -> None:
    """A full disk or a closed output is named in one line; a reader that has gone ends it, too."""
    reader, writer = os.pipe()
    os.close(reader)
    unread = source.start(*arguments, stdin=subprocess.DEVNULL, stdout=writer)
    os.close(writer)

    full = run_redirected(">/dev/full", source.url, *arguments)
    assert full == (1, "cannot write: No space left on device\n")
    assert run_redirected(">&-", source.url, *arguments) == (1, "standard output is closed\n")
    assert (unread.communicate(timeout=30)[1], unread.returncode) == (b"", 141)


def test_a_demo_on_a_full_disk_is_an_error() -> None:
    """It ends with one line, before it starts a server."""
    assert run_redirected(">/dev/full", "", "demo") == (1, "demo: No space left on device\n")


def test_a_closed_input_is_an_error(source: Database) -> None:
    """An import says so in one line."""
    assert run_redirected("<&-", source.url, "import") == (1, "standard input is closed\n")


@contextmanager
def rejecting_server(code: str, message: str) -> Iterator[int]:
    """Listen as a server that rejects every connection; yield the port."""
    fields = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("28P01", "password authentication failed for user", "PostgreSQL says: password auth"),
        ("53300", "too many connections", "PostgreSQL says: too many connections"),
        ("22P02", SECRET, "PostgreSQL refused with SQLSTATE 22P02"),
    ],
)
def test_a_server_error_is_quoted_unless_it_could_hold_data(
    code: str, message: str, expected: str
) -> None:
    """What PostgreSQL reports is passed on, unless it could quote somebody's data; status 3."""
    with rejecting_server(code, message) as port:
        url = f"postgresql://u:hunter2@127.0.0.1:{port}/d?sslmode=disable"
        done = run("export", "--database", url)

    assert done.returncode == 3
    assert done.stderr.decode().startswith(expected)
    assert done.stderr.count(b"\n") == 1
    assert SECRET.encode() not in done.stderr


async def test_a_database_that_is_not_ready_is_an_error(
    source: Database, empty_database: str, server: str
) -> None:
    """No such database, no migrations, no rights: each is named, with the remedy or the table."""
    role = f"assessments_{uuid4().hex}"
    await source.conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")
    parts = urlsplit(source.url)
    host = parts.netloc.rpartition("@")[2]
    try:
        for url, problem in {
            database_url(server, "nowhere"): 'database "nowhere" does not exist',
            empty_database: 'relation "assessment_responses" does not exist: apply the migrations',
            parts._replace(netloc=f"{role}:hunter2@{host}").geturl(): (
                "permission denied for table assessment_responses"
            ),
        }.items():
            for name, *options in (("export",), ("import",), ("purge", "--older-than", "90d")):
                done = run(name, "--database", url, *options, given=line())
                first, *others = done.stderr.decode().splitlines()
                assert done.returncode == (3 if "nowhere" in problem else 1)
                assert problem in first
                assert len(others) == (name == "import" and "nowhere" not in problem)
                assert b"Traceback" not in done.stderr
    finally:
        await source.conn.execute(f"DROP ROLE {role}")
