"""Measure the library against its peers, and write what docs/performance.md shows.

    python -m benchmarks                 every section, in minutes
    python -m benchmarks calls startup   those two
    python -m benchmarks --full          as long as it takes: up to ten million rows
    python -m benchmarks --docs          the page and its plots from the figures on file

Each section runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks import pages, results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Figure

SECTIONS = (
    "calls", "peers", "concurrency", "bursts", "growth", "transfer", "indexes", "startup",
)  # fmt: skip
"""The modules that follow the protocol of `benchmarks.measure`, in the page's order."""
ONE_AT_A_TIME = ("calls", "peers", "growth")
"""Those whose calls are made one at a time."""


def section(name: str) -> Any:
    """Return the module of a section."""
    return import_module(f"benchmarks.{name}")


def measure(name: str, scale: Any) -> None:
    """Measure one section, print its table and keep its figures."""
    module = section(name)
    if name in ONE_AT_A_TIME:
        share_one_core()
    begun = perf_counter()
    figures = asyncio.run(module.run(scale))
    seconds = perf_counter() - begun
    print(f"\n{module.TITLE}  ({seconds:.0f} s)\n{module.ABOUT}\n")
    show(figures)
    results.store(name, scale, figures, seconds)


def share_one_core() -> None:
    """Keep this process, and the servers that it will start, on one core, where the system can.

    A call to a server process on another core takes half as long again; which of the ways has its
    own there would decide their ratio.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def show(figures: Sequence[Figure]) -> None:
    """Print a row for each figure: its median, the quartiles around it, a note."""
    width = max(len(figure.name) for figure in figures)
    for each in figures:
        between = f"{each.low:.2f} to {each.high:.2f}"
        value = f"{each.value:9.2f} {each.unit:4}"
        print(f"  {each.name:{width}}{value}{between:>18}   {each.note}".rstrip(), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--full", action="store_true", help="more turns and more rows")
    parser.add_argument("--docs", action="store_true", help="measure nothing, write the page")
    options = parser.parse_args(arguments)
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    chosen, failed = options.sections or SECTIONS, []
    if not options.docs:
        if len(chosen) == 1:
            measure(chosen[0], "full" if options.full else "usual")
        else:
            rest = ["--full"] if options.full else []
            for name in chosen:
                command = [sys.executable, "-m", "benchmarks", name, *rest]
                if subprocess.run(command, check=False).returncode:  # noqa: S603
                    failed.append(name)
    pages.write()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
