"""What ``assessments explain`` finds, as JSON holds it, and what has changed since another run."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import asyncpg

from assessments import __version__, checks
from assessments.cli import explain_nodes, explain_runs
from assessments.plans import plan_query
from assessments.queries import promised_indexes, queries

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = {"format": "assessments explain", "format_version": 1}
"""What the document is; the number grows when a key goes away or changes its meaning."""

NOT_ALLOWED = "not for this role"
NOT_GENERIC = "no generic plan on this server"
_FACTOR, _LEAST = 2, 5  # what is less than the least differs by more without a meaning


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
        "assessments_version": __version__,
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


def failures(query: dict[str, Any]) -> list[str]:
    """Return which runs of the query failed, and why, each in a line."""
    return [f"{run['sample']}: {run['problem']}" for run in query["runs"] if run["problem"]]


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, str]]:
    """Return what has changed between two runs in the plans of the queries that both have."""
    old = {query["name"]: query for query in before["queries"]}
    return [
        {"query": query["name"], "what": what, "before": was or "none", "after": now or "none"}
        for query in after["queries"]
        if query["name"] in old
        for what, was, now in _changes(old[query["name"]], query)
    ]


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if before["problem"] != after["problem"]:
        yield "plan", before["problem"] or "planned", after["problem"] or "planned"
    if before["plan"] is None or after["plan"] is None:
        return
    used = [Counter(query["used"]) for query in (before, after)]
    nodes = [Counter(explain_nodes.kinds(query["plan"])) for query in (before, after)]
    for what, (was, now) in (("index", used), ("nodes", nodes)):
        if was != now:
            yield what, _join(was - now), _join(now - was)
    yield from _factor("cost", before["cost"], after["cost"])
    runs = {run["sample"]: run for run in before["runs"]}
    for run in after["runs"]:
        name, was = run["sample"], runs.get(run["sample"], run)
        if was["problem"] != run["problem"]:
            yield name, was["problem"] or "ran", run["problem"] or "ran"
        elif not run["problem"]:
            yield from _factor(f"buffers, {name}", was["buffers"], run["buffers"])


def _join(names: Counter[str]) -> str:
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in names.items())


def _factor(what: str, before: float, after: float) -> Iterator[tuple[str, str, str]]:
    low, high = sorted((before, after))
    if high > _FACTOR * max(low, _LEAST):
        yield what, f"{before:,.0f}", f"{after:,.0f}"
