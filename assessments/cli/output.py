"""Standard output, or a file, that its reader may close and its disk may refuse."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from assessments.cli.errors import CommandError
from assessments.cli.signals import interruptible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO


class ReaderClosedError(Exception):
    """The reader of standard output has closed it, as in ``export | head``."""


@contextmanager
def opened(name: str, option: str = "--output") -> Iterator[BinaryIO]:
    """Yield standard output for ``-``, or a file that replaces the one at *name* when complete.

    Until then it has a name of its own in the same directory, so that whoever finds a file at
    *name* finds one that a single command has written whole.
    """
    if name == "-":
        yield sys.stdout.buffer
        return
    try:
        file = Path(name).resolve()
        if file.exists() and not file.is_file():
            raise CommandError(f"{option}: is there already and not a file")
        descriptor, part = tempfile.mkstemp(".part", ".assessments-", file.parent)  # mode 0600
    except OSError as error:
        raise CommandError(f"{option}: {error.strerror}") from None
    stream = os.fdopen(descriptor, "wb")
    try:
        yield stream
        _complete(stream, Path(part), file)
    finally:
        with suppress(OSError):  # of a flush that has failed before
            stream.close()
        Path(part).unlink(missing_ok=True)


def _complete(stream: BinaryIO, part: Path, file: Path) -> None:
    try:
        os.fsync(stream.fileno())
        stream.close()
        part.replace(file)
    except OSError as error:
        raise CommandError(f"cannot write: {error.strerror}") from None


def write(stream: BinaryIO, lines: Iterable[bytes]) -> None:
    """Write *lines* to standard output or a file, and flush them."""
    try:
        with interruptible():  # its reader may have stopped to read
            stream.writelines(lines)
            stream.flush()
    except BrokenPipeError:
        raise ReaderClosedError from None
    except BaseException as error:
        if stream is sys.stdout.buffer:
            detach_stdout()
        if isinstance(error, OSError):
            raise CommandError(f"cannot write: {error.strerror}") from None
        raise


def say(text: str) -> None:
    """Write *text* and a line feed to standard output."""
    write(sys.stdout.buffer, [f"{text}\n".encode()])


def detach_stdout() -> None:
    """Point standard output to nowhere, as the interpreter flushes it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
