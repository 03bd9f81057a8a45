"""``yoyo apply`` with the library's own migrations, for the demo and the tests."""

from __future__ import annotations

import subprocess
import sys

from assessments.queries import folder


def apply(url: str) -> None:
    """Apply the stand-in users table and the library's migrations to *url*.

    Raises:
        subprocess.CalledProcessError: yoyo failed; it has said why on standard error.
    """
    migrations = folder("migrations")
    options = ["--no-config-file", "--batch", "--database", url]
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "yoyo", "apply", *options, migrations / "standalone", migrations],
        stdin=subprocess.DEVNULL,
        check=True,
    )
