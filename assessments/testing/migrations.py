"""``yoyo apply`` with the library's own migrations."""

from __future__ import annotations

import subprocess
import sys

from assessments.queries import folder
from assessments.urls import check_url


def apply(url: str, *, standalone: bool = True) -> None:
    """Apply the library's migrations to the database at *url*.

    The stand-in users table comes before them, unless *standalone* is false.

    Raises:
        subprocess.CalledProcessError: yoyo failed; the reason is on standard error.
    """
    migrations = folder("migrations")
    options = ["--no-config-file", "--batch", "--database", check_url("url", url)]
    sources = [migrations / "standalone", migrations] if standalone else [migrations]
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "yoyo", "apply", *options, *sources],
        stdin=subprocess.DEVNULL,
        check=True,
    )
