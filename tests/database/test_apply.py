"""Applying the library's migrations for a demo or a test."""

from __future__ import annotations

import subprocess

import pytest

from assessments.testing import migrations


def test_a_failure_to_apply_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody goes on with a database without its tables; yoyo's reason is on standard error."""
    with pytest.raises(subprocess.CalledProcessError):
        migrations.apply("postgresql://postgres@/postgres?host=/nowhere")

    assert "/nowhere" in capfd.readouterr().err
