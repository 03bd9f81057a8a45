"""``explain --against`` shows what has changed between two runs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from assessments.cli.explain_data import compare
from tests.helpers.html import Page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.commands import Database

INDEX = "idx_assessment_responses_user_question"


@pytest.fixture
async def before(source: Database, tmp_path: Path) -> Path:
    """Return what --json printed of a database where a scan of a table is dear."""
    await source.set("enable_seqscan", "off")
    path = tmp_path / "before.json"
    done = await asyncio.to_thread(source.run, "explain", "--json")
    path.write_bytes(done.stdout)
    return path


async def test_nothing_has_changed(source: Database, before: Path) -> None:
    """Two runs on one database have the same plans: status 0."""
    done = await asyncio.to_thread(source.run, "explain", "--against", before)
    as_json = await asyncio.to_thread(source.run, "explain", "--against", before, "--json")

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"No plan has changed.\n")
    assert json.loads(as_json.stdout)["changes"] == []


async def test_another_index_is_a_change(source: Database, before: Path, tmp_path: Path) -> None:
    """Text, JSON and page name the query, what was used and what is: status 1."""
    await source.conn.execute(f"DROP INDEX {INDEX}")
    path = tmp_path / "changes.html"

    text = await asyncio.to_thread(source.run, "explain", "--against", before)
    as_json = await asyncio.to_thread(source.run, "explain", "--against", before, "--json")
    page = await asyncio.to_thread(
        source.run, "explain", "--against", before, "--html", path, "get_responses_for_question"
    )

    assert (text.returncode, as_json.returncode, page.returncode) == (1, 1, 1)
    change = {"query": "get_responses_for_question", "what": "index", "before": INDEX}
    (other,) = (
        found["after"]
        for found in json.loads(as_json.stdout)["changes"]
        if change == {key: found[key] for key in change}
    )
    lines = f"get_responses_for_question has changed\n      index: {INDEX} -> {other}\n"
    assert other.startswith("idx_assessment_responses_")
    assert lines in text.stdout.decode()
    assert page.stdout.decode().startswith(lines)
    assert "\n-- " not in page.stdout.decode()
    shown = Page(path.read_bytes())
    assert f"get_responses_for_question index {INDEX} {other}" in shown.text


def document(**changes: Any) -> dict[str, Any]:
    """Return what a run found of one query that ran for one sample."""
    plan: dict[str, Any] = {"Node Type": "Limit", "Plans": [{"Node Type": "Index Scan"}]}
    run = {"sample": "any owner", "problem": None, "buffers": 100} | changes.pop("run", {})
    query: dict[str, Any] = {"name": "q", "problem": None, "used": ["a"], "cost": 100.0}
    return {"queries": [query | {"plan": plan, "runs": [run]} | changes]}


HASHED = {"Node Type": "Aggregate", "Strategy": "Hashed"}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"name": "another"}, []),
        ({"cost": 200.0, "run": {"buffers": 50}}, []),
        ({"cost": 201.0}, [("cost", "100", "201")]),
        ({"cost": 49.0}, [("cost", "100", "49")]),
        ({"run": {"buffers": 201}}, [("buffers, any owner", "100", "201")]),
        ({"run": {"sample": "another", "buffers": 1000}}, []),
        ({"run": {"problem": "timeout"}}, [("any owner", "ran", "timeout")]),
        ({"used": ["a", "b"]}, [("index", "none", "b")]),
        ({"used": []}, [("index", "a", "none")]),
        ({"plan": HASHED}, [("nodes", "Limit, Index Scan", "HashAggregate")]),
        ({"plan": None, "problem": "denied"}, [("plan", "planned", "denied")]),
    ],
)
def test_what_counts_as_a_change(
    changes: dict[str, Any], found: list[tuple[str, str, str]]
) -> None:
    """Another index or node, a query that cannot run, and cost or buffers beyond a factor of 2."""
    shown = compare(document(), document(**changes))

    assert [(each["what"], each["before"], each["after"]) for each in shown] == found


def test_small_figures_are_no_change() -> None:
    """Below 10, a cost is twice another without a meaning."""
    assert compare(document(cost=1.0), document(cost=10.0)) == []
    assert len(compare(document(cost=1.0), document(cost=10.1))) == 1
