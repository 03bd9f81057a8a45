"""A run that fails can be repeated with the same random choices."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from assessments.queries import folder

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = """
from hypothesis import given, settings, strategies as st

def test_sample(chance):
    drawn = []
    settings(database=None)(given(st.integers())(lambda number: drawn.append(number)))()
    raise AssertionError(f"drew {chance.random()} and {drawn}")
"""


def run_sample(path: Path, *options: str) -> tuple[str, str]:
    """Return what the failing sample drew, and the line with its seed."""
    sample = path / "test_sample.py"
    sample.write_text(SAMPLE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", str(sample), *options]
    done = subprocess.run(
        command, cwd=folder("sql").parent, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    (drew,) = [line for line in lines if line.startswith("E   ") and "drew " in line]
    (seed,) = [line.split()[0] for line in lines if line.startswith("--seed=")]
    return drew, seed


def test_the_seed_that_a_failing_run_prints_draws_the_same_again(tmp_path: Path) -> None:
    """Even a quiet run prints its seed, with which tests and Hypothesis draw what they drew."""
    drew, seed = run_sample(tmp_path)
    other, _ = run_sample(tmp_path, "--seed=-1")

    assert run_sample(tmp_path, seed) == (drew, seed)
    assert other != drew
