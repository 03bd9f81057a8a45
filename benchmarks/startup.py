"""What importing the library adds to a process that has imported asyncpg and aiosql.

Each round is a fresh process that imports both and then the library; the first is not counted, as
it compiles the bytecode that the others read. Memory is what the import adds to the process's peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks import measure

if TYPE_CHECKING:
    from benchmarks.measure import Figure, Scale

TITLE = "Import"
ABOUT = "What `import assessments` adds to importing asyncpg and aiosql, in a process of its own."

_ROUNDS = {"smallest": 1, "usual": 40, "full": 100}
_PROGRAM = """
import json, resource, sys
from pathlib import Path
from time import perf_counter
def mib():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
start = perf_counter()
import asyncpg, aiosql
between, before = perf_counter(), mib()
again = perf_counter()
import assessments
end, after = perf_counter(), mib()
print(json.dumps([(between - start) * 1000, (end - again) * 1000, after - before]))
"""


def once(bytecode: str) -> tuple[float, float, float]:
    """Return the milliseconds of the two imports, and the MiB that the second adds."""
    command = [sys.executable, "-c", _PROGRAM]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=True, env=environment
    )
    drivers, library, added = json.loads(done.stdout)
    return drivers, library, added


async def run(scale: Scale) -> list[Figure]:
    """Return the time and the memory."""
    with TemporaryDirectory() as bytecode:
        once(bytecode)
        rounds = [once(bytecode) for _ in range(_ROUNDS[scale])]
    drivers, library, added = zip(*rounds, strict=True)
    ratios = [ours / theirs for theirs, ours in zip(drivers, library, strict=True)]
    return [
        measure.spread("import assessments", library, unit="ms"),
        measure.spread("over importing asyncpg and aiosql", ratios),
        measure.spread("memory", added, unit="MiB"),
    ]
