"""``yoyo apply`` with the library's own migrations."""

from __future__ import annotations

import subprocess
import sys

from assessments.queries import folder


def apply(url: str) -> None:
    """Apply the stand-in users table and the library's migrations to the database at *url*.

    Raises:
        subprocess.CalledProcessError: yoyo failed; the reason is on standard error.
    """
    migrations = folder("migrations")
    options = ["--no-config-file", "--batch", "--database", url]
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "yoyo", "apply", *options, migrations / "standalone", migrations],
        stdin=subprocess.DEVNULL,
        check=True,
    )
