"""Modules run as by ``python -m``, each in a process of its own that needs no start of Python's.

One process a run of the tests has imported what they need, and forks another for each. Run as a
module itself, this is that process.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import TYPE_CHECKING

from tests.helpers.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

_IMPORTED = (
    "assessments.cli",
    "jinja2",
    "psycopg2",
    "rich.progress",
    "rich.table",
    "yoyo.scripts.main",
)
_STARTING = Lock()
_SECONDS = 60
_LONGEST = 2**18  # bytes: more than the socket takes


def run(
    module: str, *arguments: str, environment: Mapping[str, str], given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run *module* with *arguments*, and *given* on its standard input; kill it after a minute."""
    with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
        stdin.write(given)
        stdin.seek(0)
        read, write = os.pipe()
        with os.fdopen(read, "rb") as status:
            with os.fdopen(write, "wb") as end:
                request = json.dumps(
                    [module, arguments, dict(environment), str(Path.cwd())]
                ).encode()
                files = [file.fileno() for file in (stdin, stdout, stderr, end)]
                with _STARTING:
                    requests = _forking()
                socket.send_fds(requests, [request], files)
            returncode = int(status.read())
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(
            [module, *arguments], returncode, stdout.read(), stderr.read()
        )


@cache
def _forking() -> socket.socket:
    """Start the process that forks; return the socket that takes the requests.

    It ends with this process.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the tests to handle
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # before it, which ends it
    return ours


def _serve(requests: socket.socket) -> None:
    """Fork for each request, until nobody is left to send one."""
    for name in _IMPORTED:
        import_module(name)
    gc.freeze()  # or else each fork would look through all of it at its end
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how those that wait end
    while True:
        request, files, _, _ = socket.recv_fds(requests, _LONGEST, 4)
        if not request:
            return
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard, status = files
    if pid := os.fork():
        _, ended = os.waitpid(pid, 0)
        os.write(status, str(os.waitstatus_to_exitcode(ended)).encode())
        os._exit(0)
    os.close(status)
    signal.alarm(_SECONDS)
    _become(standard, *json.loads(request))


def _become(
    files: list[int], module: str, arguments: list[str], environment: dict[str, str], folder: str
) -> None:
    """Run *module*; its exit is that of this process."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
