"""``explain --html`` writes one page that asks nothing of the network."""

from __future__ import annotations

import asyncio
import re
import stat
from typing import TYPE_CHECKING

from tests.helpers.html import Page
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from tests.helpers.commands import Database

MARKUP = "<script>alert(1)</script>"


async def page(database: Database, *arguments: object) -> Page:
    """Return the page that the command writes to standard output."""
    done = await asyncio.to_thread(database.run, "explain", "--html", "-", *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    return Page(done.stdout)


async def test_the_page_shows_every_plan(source: Database) -> None:
    """Each query is in a table and has a tree that opens; nothing is loaded and no script runs."""
    shown = await page(source)

    shown.assert_self_contained()
    names = [given.get("id") for tag, given in shown.elements if tag == "details"]
    links = [given["href"] for tag, given in shown.elements if tag == "a"]
    assert links == [f"#{name}" for name in names if name]
    assert {"#get_responses", "#cli.report_totals"} <= set(links)
    assert "The scores of one response, newest first" in shown.text
    assert "Filter: ((user_id = :user_id) OR (anonymous_token = :anonymous_token))" in shown.text
    assert "No query was run." in shown.text
    assert "What has changed" not in shown.text


async def test_the_heavy_one_has_the_longest_bar(source: Database, token: UUID) -> None:
    """In each table the largest cost and the largest buffers fill their bars."""
    await submit(source.conn, anonymous_token=token)

    shown = await page(source, "--analyze")

    bars = [given for tag, given in shown.elements if tag == "i"]
    full = [given for given in bars if given["style"] == "width: 100.0%"]
    assert len(full) >= 4
    assert {given.get("class") for given in full} == {"heavy"}
    tables = shown.source.split("<table>")[1:]
    assert len(tables) == 2
    for table in tables:
        rows = re.findall(r"<td class=\"bar\">([\d,]+)<i[^>]*width: ([\d.]+)%", table)
        costs = [int(cost.replace(",", "")) for cost, _ in rows[::2]]
        widths = [float(width) for _, width in rows[::2]]
        assert costs[widths.index(100.0)] == max(costs)
    assert "the heaviest owner has 0 responses signed in and 1 under a token" in shown.text


async def test_a_plan_that_is_not_as_promised_stands_out(source: Database) -> None:
    """It is counted at the top, and marked in the table and at its tree; names are text."""
    await source.set("enable_seqscan", "off")
    await source.conn.execute(
        "DROP INDEX idx_assessment_scores_response_id;"
        f'CREATE INDEX "{MARKUP}" ON assessment_scores (response_id, created_at, score_id)'
    )

    shown = await page(source, "get_scores", "get_response")

    assert "1 of 2 plans use other indexes than their queries promise" in shown.text
    assert "get_scores !" in shown.text
    assert "idx_assessment_scores_response_id: not used" in shown.text
    assert f"{MARKUP}: not promised" in shown.text
    assert shown.count("script") == 0
    assert "get_scores not as promised" in shown.text


async def test_the_page_is_a_whole_file(source: Database, tmp_path: Path) -> None:
    """It is written for its owner only, and nothing is printed."""
    path = tmp_path / "plans.html"

    done = await asyncio.to_thread(source.run, "explain", "--html", path, "get_scores")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert path.read_bytes().endswith(b"</html>\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
