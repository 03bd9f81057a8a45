"""Standard output, or a file, that its reader may close and its disk may refuse."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from assessments.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO


class ReaderClosedError(Exception):
    """The reader of standard output has closed it, as in ``export | head``."""


def write(stream: BinaryIO, lines: Iterable[bytes]) -> None:
    """Write *lines* to standard output or a file, and flush them."""
    try:
        stream.writelines(lines)
        stream.flush()
    except BrokenPipeError:
        raise ReaderClosedError from None
    except OSError as error:
        if stream is sys.stdout.buffer:
            detach_stdout()
        raise CommandError(f"cannot write: {error.strerror}") from None


def say(text: str) -> None:
    """Write *text* and a line feed to standard output."""
    write(sys.stdout.buffer, [f"{text}\n".encode()])


def detach_stdout() -> None:
    """Point standard output to nowhere, as the interpreter flushes it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
