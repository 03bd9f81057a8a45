"""The plan of each query, and what it reads in each combination of its filters."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from assessments.queries import folder, named
from tests.helpers import plans
from tests.reference.calls import CASES, EXCEPTIONS, OWNERS, Arguments, Case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import asyncpg

    from tests.helpers.plans import Call

VERSIONS = (15, 18)
"""The servers whose plans are on file."""

LEFT_OUT = plans.names_in("cli/check.sql") | {"cli.report_updates"}
"""Queries of the catalogue and of statistics views, whose plans are PostgreSQL's business."""

Calls: TypeAlias = "dict[tuple[str, ...], dict[str, Call]]"
"""The calls of a query: by the filters given, then by column."""


class Facts(NamedTuple):
    """The plans and the calls of all queries on a server, by name."""

    version: int
    plans: dict[str, str]
    calls: dict[str, Calls]
    planned_anew: set[tuple[str, tuple[str, ...], str]]
    """An owner's reads that PostgreSQL plans at each call: query, filters and column."""


async def pages(conn: asyncpg.Connection[Any]) -> dict[str, str]:
    """Return the page of this server's version, if there is to be one."""
    version = conn.get_server_version().major
    return {file(version): render(await collect(conn))} if version in VERSIONS else {}


def file(version: int) -> str:
    """Return the path of the page of a server's *version*."""
    return f"docs/reference/plans-{version}.txt"


async def collect(conn: asyncpg.Connection[Any]) -> Facts:
    """Load the data set, plan every query and run every call."""
    await plans.load(conn)
    shown = {name: await plans.generic_plan(conn, name) for name in plans.NAMES}
    planned_anew = {
        (name, given, column)
        for name in CASES
        if name.startswith("get_") and CASES[name].columns.keys() == OWNERS.keys()
        for given, column, arguments in _calls(CASES[name])
        if await plans.is_planned_anew(conn, name, arguments)
    }
    calls: dict[str, Calls] = {}
    # What writes comes last: it leaves dead rows and larger indexes, although it is rolled back.
    for name in sorted(CASES, key=lambda name: plans.writes(shown[name])):
        calls[name] = {}
        for given, column, arguments in _calls(CASES[name]):
            call = await plans.measure(conn, name, arguments)
            calls[name].setdefault(given, {})[column] = call
    return Facts(conn.get_server_version().major, shown, calls, planned_anew)


def _calls(case: Case) -> Iterator[tuple[tuple[str, ...], str, Arguments]]:
    for number in range(len(case.filters) + 1):
        for given in combinations(case.filters, number):
            for column, arguments in case.columns.items():
                merged = case.always | arguments
                for each in given:
                    merged |= case.filters[each]
                yield given, column, merged


def is_beyond(call: Call) -> bool:
    """Return whether a call reads, touches or sorts more than what it returns or changes."""
    return (
        call.rows_read > 200 + 10 * call.rows_returned
        or call.buffers > 100 + 30 * call.rows_returned
        or call.rows_sorted > 200 + 2 * call.rows_returned
    )


_HEADER = """\
The generic plan of every query on PostgreSQL {version}, and what a call reads.
Written by `make reference`; explained in docs/reviewing.md.

The data set (tests/helpers/plans.py): 60,000 responses, 5 minutes apart, from 1 January 2025 on.
Every second one is user 1's; 1,500 other users and 1,500 tokens have ten each. 500 questions, of
which everybody has answered `welcome` (user 1 60 times); 48 modules, of which `biology` has 70 % of
the responses and `module-7` 0.6 %. All but the newest 100 responses have a score by model-1 with
p1, one in ten a person's too; one in five has a submission key.

A plan is the one that PostgreSQL keeps for any arguments: plan_cache_mode = force_generic_plan. So
no argument changes it; arguments decide how much of it runs. So below each plan is a table: a
column for each kind of call and a row for each combination of filters, where a filter in
parentheses changes no figure of the row. In each
  buffers   how many times a page of a table, an index or TOAST was asked for
  read      index entries found, and rows of sequential scans; foreign keys' too
  out       rows returned, or changed
with two significant digits from 100 on. * marks a call that reads, touches or sorts more than what
it returns explains (is_beyond in tests/reference/plans.py); the reason is below the table.
$0 and the like in plans of PostgreSQL 15 are results of its InitPlans.
"""


def render(facts: Facts) -> str:
    """Return the page."""
    lines = _HEADER.format(version=facts.version).splitlines()
    for path in _files():
        names = [name for name in _order(path) if name not in LEFT_OUT]
        if names:
            lines += ["", f"=== {path.relative_to(folder('sql').parent).as_posix()}"]
        for name in names:
            lines += ["", f"--- {name}", *facts.plans[name].splitlines()]
            if name in facts.calls:
                lines += ["", *_table(name, CASES[name], facts.calls[name])]
    return "\n".join(lines) + "\n"


def _files() -> list[Path]:
    order = (
        *("submissions", "responses", "scores", "scored_responses", "backoffice", "transfer"),
        *("report", "explain", "check"),
    )
    return sorted(folder("sql").rglob("*.sql"), key=lambda path: order.index(path.stem))


def _order(path: Path) -> list[str]:
    """Return the names of the queries of a file, in its order."""
    code = {name: named(name).__code__ for name in plans.NAMES}
    names = [name for name in plans.NAMES if Path(code[name].co_filename) == path]
    return sorted(names, key=lambda name: code[name].co_firstlineno)


def _table(name: str, case: Case, calls: Calls) -> list[str]:
    rows = _merge_rows(case, calls)
    idle = [
        each
        for place, each in enumerate(case.filters)
        if all(states[place] == "either" for states in rows)
    ]
    labels = [_label(case, states, idle) for states in rows]
    width = max(map(len, labels))
    lines = [
        " " * width + "".join(f"  {column:^26}" for column in case.columns),
        " " * width + f"  {'buffers':>8}{'read':>9}{'out':>8} " * len(case.columns),
    ]
    lines += [
        f"{label:{width}}{figures}" for label, figures in zip(labels, rows.values(), strict=True)
    ]
    lines += [f"The same with and without {each}." for each in idle]
    lines += [f"* {reason}" for reason in dict.fromkeys(EXCEPTIONS.get(name, {}).values())]
    return [line.rstrip() for line in lines]


def _merge_rows(case: Case, calls: Calls) -> dict[tuple[str, ...], str]:
    """Return the figures by the state of each filter: given, not, or either without a change."""
    rows = {
        tuple("given" if each in given else "not" for each in case.filters): "".join(
            map(_cell, row.values())
        )
        for given, row in calls.items()
    }
    for place in reversed(range(len(case.filters))):
        for key in [key for key in rows if key[place] == "not"]:
            pair = (*key[:place], "given", *key[place + 1 :])
            if rows[key] == rows.get(pair):
                del rows[pair]
                either = (*key[:place], "either", *key[place + 1 :])
                rows = {either if each == key else each: row for each, row in rows.items()}
    return rows


def _label(case: Case, states: tuple[str, ...], idle: list[str]) -> str:
    shown = {"given": "{}", "either": "({})"}
    filters = zip(case.filters, states, strict=True)
    given = [shown[state].format(each) for each, state in filters if state in shown]
    return ", ".join(label for label in given if label.strip("()") not in idle) or "-"


def _cell(call: Call) -> str:
    buffers, read, out = (_rounded(number) for number in call[:3])
    return f"  {buffers:>8}{read:>9}{out:>8}{'*' if is_beyond(call) else ' '}"


def _rounded(number: int) -> str:
    step = 10 ** max(0, len(str(number)) - 2)
    return f"{round(number / step) * step:,}"
