"""The page of ``explain --html``: a table of the queries, and each plan as a tree that opens."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from markupsafe import Markup, escape

from assessments.cli import explain_data, explain_nodes, pages
from assessments.queries import named


def render(found: dict[str, Any]) -> str:
    """Return the page of what `explain_data.read` has found."""
    queries = [query | _figures(query) for query in found["queries"]]
    groups = [
        (title, members)
        for title, is_command in (("The service", False), ("The command line", True))
        if (members := [each for each in queries if each["name"].startswith("cli.") == is_command])
    ]
    return pages.render(
        "explain.html.j2",
        {
            "count": lambda number: f"{number:,.0f}",
            "ms": lambda number: f"{number:,.1f} ms",
            "breakable": lambda name: escape(name).replace("_", Markup("_<wbr>")),
            "time": lambda text: f"{datetime.fromisoformat(text):%-d %B %Y, %H:%M} UTC",
        },
        found=found,
        changes=[
            (name, list(changes))
            for name, changes in groupby(found.get("changes", ()), key=itemgetter("query"))
        ],
        queries=queries,
        groups=groups,
        has_runs=bool(found["samples"]),
        describe=explain_nodes.describe,
    )


def _figures(query: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of *query* beside its own keys."""
    ran = [run for run in query["runs"] if not run["problem"]]
    promised, used = query["promised"], query["used"]
    return {
        "promise": " ".join(named(query["name"]).__doc__.split()),
        "indexes": [(name, name in promised, name in used) for name in sorted({*promised, *used})],
        "failures": explain_data.failures(query),
        "is_different": bool(explain_data.differences(query)),
        "buffers": max((run["buffers"] for run in ran), default=None),
        "milliseconds": max((run["milliseconds"] for run in ran), default=None),
    }
