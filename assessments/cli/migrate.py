"""``yoyo apply`` with the library's own migrations, for the demo and the tests."""

from __future__ import annotations

import subprocess
import sys

from assessments.queries import folder


def command(url: str) -> list[str]:
    """Return the command that applies the stand-in users table and the migrations to *url*."""
    migrations = folder("migrations")
    options = ["--no-config-file", "--batch", "--database", url]
    sources = [str(migrations / "standalone"), str(migrations)]
    return [sys.executable, "-m", "yoyo", "apply", *options, *sources]


def apply(url: str) -> None:
    """Run `command`.

    Raises:
        subprocess.CalledProcessError: yoyo failed; it has said why on standard error.
    """
    subprocess.run(command(url), stdin=subprocess.DEVNULL, check=True)  # noqa: S603
