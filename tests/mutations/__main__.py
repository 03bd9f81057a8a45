"""Run the listed mutations: each in a copy of the tree, with the tests that must notice it.

Exit status 1 if one survives that is not explained, or if an entry is stale.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import TYPE_CHECKING

from assessments.testing.server import chosen
from tests.helpers.mutations import ROOT, Mutation, read_mutations

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS = 600  # for the tests of one mutation
ALL_SECONDS = 3600  # for those of all, in one process
COPIED = ("assessments", "sql", "migrations", "tests", "examples", "docs", "pyproject.toml")
COPIED_TOO = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "benchmarks")
FINE = ("killed", "explained")


def run_tests(tree: Path, tests: Iterable[str], server: str, seconds: float = SECONDS) -> str:
    """Run *tests* in *tree*; return nothing if they pass, else the end of what they printed."""
    # Without bytecode, which may be of the text before.
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "tests.mutations.unshrunk"]
    try:
        done = subprocess.run(
            [*command, "--seed=1", f"--server={server}", *tests],
            cwd=tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return f"not ended after {seconds} seconds"
    return done.stdout[-2000:] if done.returncode else ""


def try_mutation(mutation: Mutation, tree: Path, server: str) -> str:
    """Return what became of the mutation, whose change is undone again."""
    path = tree / mutation.file
    text = path.read_text(encoding="utf-8")
    changed = mutation.apply(text)
    if changed is None:
        return "STALE"
    path.write_text(changed, encoding="utf-8")
    try:
        failed = run_tests(tree, mutation.tests, server)
    finally:
        path.write_text(text, encoding="utf-8")
    if failed:
        return "killed"
    return "explained" if mutation.explained else "SURVIVED"


def run_all(mutations: list[Mutation], tree: Path, server: str) -> Counter[str]:
    """Try each mutation, say what became of it, and return how often each thing did."""
    for name in (*COPIED, *COPIED_TOO):
        if (source := ROOT / name).is_dir():
            copytree(source, tree / name, ignore=ignore_patterns("__pycache__"))
        else:
            (tree / name).write_bytes(source.read_bytes())
    sys.stdout.write("their tests, without any mutation\n")
    sys.stdout.flush()
    tests = dict.fromkeys(chain.from_iterable(mutation.tests for mutation in mutations))
    if failed := run_tests(tree, tests, server, ALL_SECONDS):
        sys.exit(f"{failed}\nwithout any mutation the tests fail: nothing can be said")
    ends: Counter[str] = Counter()
    for mutation in mutations:
        begun = time.monotonic()
        end = try_mutation(mutation, tree, server)
        ends[end] += 1
        seconds = time.monotonic() - begun
        sys.stdout.write(f"{end:9} {seconds:5.1f} s  {mutation.title}{mutation.explained}\n")
        sys.stdout.flush()
    return ends


def main(only: list[str]) -> int:
    """Run the mutations whose title holds each word of *only*; return the exit status."""
    mutations = [each for each in read_mutations() if all(word in each.title for word in only)]
    if not mutations:
        sys.exit(f"no mutation is named {' '.join(only)}")
    with tempfile.TemporaryDirectory(prefix="assessments-") as tree, chosen(None) as server:
        ends = run_all(mutations, Path(tree), server)
    score = ", ".join(f"{number} {end.lower()}" for end, number in sorted(ends.items()))
    sys.stdout.write(f"{len(mutations)} mutations: {score}\n")
    return 0 if ends.keys() <= set(FINE) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
