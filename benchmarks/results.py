"""The figures that the repository keeps, in ``benchmarks/results/latest.json``."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FILE = Path(__file__).parent / "results" / "latest.json"
_PACKAGES = ("asyncpg", "aiosql", "psycopg", "sqlalchemy", "django")


def load(file: Path = FILE) -> dict[str, Any]:
    """Return what *file* holds, section by section."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def store(name: str, scale: str, figures: Sequence[Figure], seconds: float) -> None:
    """Put the figures of a section in the place of its former ones."""
    kept = load() | {
        name: {
            "measured": datetime.now(timezone.utc).date().isoformat(),
            "scale": scale,
            "seconds": round(seconds),
            "machine": machine(),
            "versions": versions(),
            "figures": [figure.as_json() for figure in figures],
        }
    }
    FILE.parent.mkdir(exist_ok=True)
    text = json.dumps(dict(sorted(kept.items())), indent=2, ensure_ascii=False)
    FILE.write_text(text + "\n", encoding="utf-8")


def figures_of(kept: Mapping[str, Any]) -> dict[str, list[Figure]]:
    """Return the figures of each section."""
    return {
        name: [Figure(**figure) for figure in section["figures"]] for name, section in kept.items()
    }


def machine() -> str:
    """Return the kind of machine, and how busy it was, as no other thing says so much."""
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}{busy}"


def versions() -> str:
    """Return the versions of what was measured."""
    installed = {each.name.lower(): each.version for each in distributions()}
    found = [f"Python {sys.version.partition(' ')[0]}", f"PostgreSQL {_postgresql()}"]
    found += [f"{name} {installed[name]}" for name in _PACKAGES if name in installed]
    return ", ".join(found)


def _postgresql() -> str:
    from assessments.testing import server  # noqa: PLC0415

    binaries = server.find_binaries()
    if binaries is None:
        return "none"
    folder = next((part for part in binaries.parts if part.startswith("pginstall")), "")
    return folder.removeprefix("pginstall") or binaries.parent.name
