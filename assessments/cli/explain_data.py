"""What ``assessments explain`` finds, as JSON holds it, and what has changed since another run."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments import checks
from assessments.cli import explain_runs
from assessments.cli.explain_nodes import describe, walk
from assessments.plans import plan_query
from assessments.queries import promised_indexes, queries

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = {"format": "assessments explain", "format_version": 1}
"""What the document is; the number grows when a key goes away or changes its meaning."""

NOT_ALLOWED = "not for this role"
NOT_GENERIC = "no generic plan on this server"
# Smaller costs and fewer buffers differ by more than a factor of 2 without a meaning.
_LEAST = 10


async def read(
    pool: asyncpg.Pool[Any], names: list[str], *, with_runs: bool = False
) -> dict[str, Any]:
    """Plan the queries *names*, and run them too if asked for; return what is found.

    Raises:
        CommandError: They are to be run and there are no responses.
    """
    samples = await explain_runs.read_samples(pool) if with_runs else []
    async with checks.nothing_changed(pool) as conn:
        facts = await queries.cli.get_server_facts(conn)
        found = [await _plan(conn, name) for name in names]
    for each in found:
        if samples and each["plan"]:
            each["runs"] = await explain_runs.measure(pool, each["name"], samples)
    return {
        **FORMAT,
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "assessments_version": metadata.version("assessments"),
        "postgresql_version": facts["postgresql_version"],
        "samples": [
            {
                "name": sample.name,
                "user_responses": sample.user_responses,
                "anonymous_responses": sample.anonymous_responses,
            }
            for sample in samples[:2]
        ],
        "queries": found,
    }


async def _plan(conn: Any, name: str) -> dict[str, Any]:
    promised = sorted(promised_indexes(name))
    found = {"name": name, "problem": None, "promised": promised, "used": [], "cost": None}
    found |= {"rows": None, "text": None, "plan": None, "runs": []}
    try:
        plan = await plan_query(conn, name)
    except asyncpg.InsufficientPrivilegeError:
        return found | {"problem": NOT_ALLOWED}
    if plan is None:
        return found | {"problem": NOT_GENERIC}
    top = plan.top["Plan"]
    return found | {
        "used": sorted(plan.indexes),
        "cost": top["Total Cost"],
        "rows": top["Plan Rows"],
        "text": plan.text,
        "plan": top,
    }


def differences(query: dict[str, Any]) -> list[str]:
    """Return in what the plan differs from the promise, each in a line."""
    if query["plan"] is None or not query["promised"]:
        return []
    promised, used = set(query["promised"]), set(query["used"])
    return [f"promised and not used: {name}" for name in sorted(promised - used)] + [
        f"used and not promised: {name}" for name in sorted(used - promised)
    ]


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[str]]:
    """Return what has changed between two runs, by query: one line a change."""
    old = {query["name"]: query for query in before["queries"]}
    changes = {
        query["name"]: list(_changes(old[query["name"]], query))
        for query in after["queries"]
        if query["name"] in old
    }
    return {name: lines for name, lines in changes.items() if lines}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    if before["problem"] != after["problem"]:
        yield f"{before['problem'] or 'planned'} -> {after['problem'] or 'planned'}"
    if before["plan"] is None or after["plan"] is None:
        return
    for name in sorted(set(before["used"]) - set(after["used"])):
        yield f"index no longer used: {name}"
    for name in sorted(set(after["used"]) - set(before["used"])):
        yield f"index now used: {name}"
    nodes = [
        Counter(describe(node).kind for node in walk(each["plan"])) for each in (before, after)
    ]
    if nodes[0] != nodes[1]:
        gone, new = (_count(nodes[a] - nodes[b]) for a, b in ((0, 1), (1, 0)))
        yield f"nodes: {gone or 'none'} -> {new or 'none'}"
    yield from _factor("cost", before["cost"], after["cost"])
    runs = {run["sample"]: run for run in before["runs"]}
    for run in after["runs"]:
        was = runs.get(run["sample"], run)
        if was["problem"] != run["problem"]:
            yield f"{run['sample']}: {was['problem'] or 'ran'} -> {run['problem'] or 'ran'}"
        elif not run["problem"]:
            yield from _factor(f"buffers, {run['sample']}", was["buffers"], run["buffers"])


def _count(nodes: Counter[str]) -> str:
    return ", ".join(f"{count} x {kind}" if count > 1 else kind for kind, count in nodes.items())


def _factor(what: str, before: float, after: float) -> Iterator[str]:
    low, high = sorted((before, after))
    if high > 2 * max(low, _LEAST / 2):
        yield f"{what}: {before:,.0f} -> {after:,.0f}"
