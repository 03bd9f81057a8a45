"""Ctrl-C and a service manager end a command cleanly, whatever it is about."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from assessments.cli import signals
from tests.helpers.commands import INTERRUPTIBLE
from tests.helpers.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.commands import Database

ENDS: dict[int, BaseException] = {
    signal.SIGINT: KeyboardInterrupt(),
    signal.SIGTERM: SystemExit(143),
    signal.SIGHUP: SystemExit(129),
}

pytestmark = pytest.mark.parametrize("number", list(ENDS), ids=["Ctrl-C", "SIGTERM", "SIGHUP"])


@pytest.fixture
def done() -> Iterator[list[str]]:
    """What was done; then whether the handlers are again those of before."""
    before = [signal.getsignal(number) for number in ENDS]
    yield []
    assert [signal.getsignal(number) for number in ENDS] == before


def test_a_signal_ends_nothing_half_way(number: int, done: list[str]) -> None:
    """What the event loop has begun goes on to its end, and so does the clean-up."""

    def receive() -> None:
        signal.raise_signal(number)
        done.append("received")

    async def run() -> None:
        asyncio.get_running_loop().call_soon(receive)
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            done.append("cleaned up")

    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        signals.run(run())
    assert repr(caught.value) == repr(ENDS[number])
    assert done == ["received", "cleaned up"]


def test_a_signal_wakes_the_event_loop(number: int, done: list[str]) -> None:
    """It does not wait for the next event, which may never come."""
    main = threading.main_thread().ident
    assert main

    async def run() -> None:
        asyncio.get_running_loop().call_later(10, done.append, "woken by an event")
        threading.Timer(0.05, signal.pthread_kill, (main, number)).start()
        await asyncio.sleep(30)

    with pytest.raises(type(ENDS[number])):
        signals.run(run())
    assert not done


def test_a_second_signal_does_not_wait(number: int, done: list[str]) -> None:
    """It ends a clean-up that waits for what does not come, such as a server's answer."""

    async def run() -> None:
        answer = asyncio.ensure_future(asyncio.sleep(10, "answered"))
        try:
            signal.raise_signal(number)
            await asyncio.sleep(0)
        finally:
            asyncio.get_running_loop().call_soon(signal.raise_signal, number)
            while not answer.done():
                with suppress(asyncio.CancelledError):
                    done.append(await asyncio.shield(answer))

    with pytest.raises(type(ENDS[number])):
        signals.run(run())
    assert not done


def test_a_signal_in_the_last_step_is_not_lost(number: int, done: list[str]) -> None:
    """It ends the process as one before, though nothing is left to cancel."""

    async def run() -> None:
        signal.raise_signal(number)
        done.append("went on")

    with pytest.raises(type(ENDS[number])):
        signals.run(run())
    assert done == ["went on"]


def test_nothing_waits_after_a_signal(number: int, done: list[str]) -> None:
    """One that came just before the command waits outside of the event loop is not overlooked."""

    async def run() -> None:
        signal.raise_signal(number)
        with signals.interruptible():
            done.append("waited")

    with pytest.raises(type(ENDS[number])):
        signals.run(run())
    assert not done


def test_a_host_that_ignores_a_signal_still_does(number: int, done: list[str]) -> None:
    """As after nohup, or in the background of a shell."""

    async def run() -> None:
        signal.raise_signal(number)
        done.append("went on")

    before = signal.signal(number, signal.SIG_IGN)
    try:
        signals.run(run())
    finally:
        signal.signal(number, before)
    assert done == ["went on"]


async def test_it_ends_an_export_that_nobody_reads(number: int, source: Database) -> None:
    """A pipe that is full keeps no command from its end."""
    await source.fill(1000)
    process = source.start("export", **INTERRUPTIBLE)
    with process:
        assert process.stdout
        assert process.stdout.read(1)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.send_signal(number)
        try:
            assert process.wait(10) == 128 + number
        finally:
            process.kill()


async def test_it_ends_an_import_whose_mapping_does_not_come(
    number: int, target: Database, tmp_path: Path
) -> None:
    """Nor does a pipe that is silent."""
    os.mkfifo(tmp_path / "pipe")
    process = target.start("import", "--map-users", tmp_path / "pipe", **INTERRUPTIBLE)
    with process:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        await until(target.conn, f"SELECT count(*) FROM pg_stat_activity WHERE {others}")  # noqa: S608
        process.send_signal(number)
        try:
            assert process.wait(10) == 128 + number
        finally:
            process.kill()
