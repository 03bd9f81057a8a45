"""The nodes of a plan, as a line of text and a page show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_AGGREGATES = {"Sorted": "GroupAggregate", "Hashed": "HashAggregate", "Mixed": "MixedAggregate"}
_CONDITIONS = (
    *("Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "One-Time Filter"),
    *("Filter", "Sort Key", "Presorted Key", "Group Key", "Cache Key", "Conflict Resolution"),
    "Conflict Arbiter Indexes",
)
_FIGURES = ("Rows Removed by Filter", "Rows Removed by Join Filter", "Heap Fetches")


class Described(NamedTuple):
    """A node: its place in its parent, what it does to what, how, and at what cost."""

    place: str
    title: str
    details: list[str]
    figures: str


def kinds(node: dict[str, Any]) -> Iterator[str]:
    """Yield what *node* and those below it do, in EXPLAIN's order."""
    yield _kind(node)
    for child in node.get("Plans", ()):
        yield from kinds(child)


def describe(node: dict[str, Any]) -> Described:
    """Return what a page shows of *node*."""
    details = [f"{key}: {_join(node[key])}" for key in _CONDITIONS if key in node]
    details += [f"{key}: {node[key]:,.0f}" for key in _FIGURES if node.get(key)]
    title = f"{_kind(node)} {_target(node)}".rstrip()
    return Described(node.get("Subplan Name", ""), title, details, _figures(node))


def _kind(node: dict[str, Any]) -> str:
    kind = str(node["Node Type"])
    if kind == "ModifyTable":
        return str(node["Operation"])
    if kind == "Aggregate":
        return _AGGREGATES.get(node["Strategy"], kind)
    if node.get("Parallel Aware"):
        kind = f"Parallel {kind}"
    join = node.get("Join Type", "Inner")
    if join == "Inner":
        return kind
    return f"{kind} {join} Join" if kind == "Nested Loop" else kind.replace("Join", f"{join} Join")


def _target(node: dict[str, Any]) -> str:
    name = node.get("Relation Name") or node.get("CTE Name") or node.get("Function Name")
    using = node.get("Index Name")
    if name is None:
        return f"on {using}" if using else ""
    alias = node.get("Alias", name)
    on = f"on {name}" + (f" {alias}" if alias != name else "")
    return f"using {using} {on}" if using else on


def _join(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _figures(node: dict[str, Any]) -> str:
    if "Actual Loops" not in node:
        return f"cost {node['Total Cost']:,.2f}, rows {node['Plan Rows']:,}"
    loops = node["Actual Loops"]
    if not loops:
        return "never executed"
    buffers = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
    times = f" x {loops:,}" if loops > 1 else ""
    return (
        f"rows {node['Actual Rows']:,.0f}{times}, estimated {node['Plan Rows']:,}, "
        f"buffers {buffers:,}, {node['Actual Total Time'] * loops:,.2f} ms"
    )
