"""``assessments explain`` prints the plan of each query, and whether it is the promised one."""

from __future__ import annotations

import asyncio
import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from assessments import plans
from assessments.cli import explain_data
from assessments.queries import folder, promised_indexes, queries
from tests.helpers.commands import run
from tests.helpers.rows import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from tests.helpers.commands import Database

SCORES = "idx_assessment_scores_response_id"


async def explain(database: Database, *arguments: object) -> str:
    """Return what the command prints of an empty table, as if scanning it were dear."""
    await database.set("enable_seqscan", "off")
    done = await asyncio.to_thread(database.run, "explain", *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


async def test_it_prints_every_plan(source: Database) -> None:
    """Each query's generic plan follows its name."""
    printed = await explain(source)

    every = {name for name in queries.available_queries if not name.endswith("_cursor")}
    check_sql = (folder("sql") / "cli" / "check.sql").read_text(encoding="utf-8")
    of_the_check = {f"cli.{name}" for name in re.findall(r"-- name: (\w+)", check_sql)}
    assert set(re.findall(r"^-- ([\w.]+)$", printed, re.MULTILINE)) == every - of_the_check
    assert "Index Cond: (anonymous_token = :anonymous_token)" in printed


async def test_it_prints_the_plans_that_are_asked_for(source: Database) -> None:
    """Named queries alone are planned, in the order given, each once."""
    printed = await explain(source, "get_scores", "cli.lock_import", "get_scores")

    assert re.findall(r"^-- ([\w.]+)$", printed, re.MULTILINE) == ["get_scores", "cli.lock_import"]


async def test_the_summary_fits_a_terminal(source: Database) -> None:
    """It has one row for each query, of at most 80 columns."""
    summary = (await explain(source)).partition("\n-- ")[0].splitlines()

    assert summary[0].split() == ["query", "cost", "rows", "indexes"]
    rows = {line[2:].split()[0]: line for line in summary[1:] if line[1:3].strip()}
    assert {"get_responses", "cli.report_totals"} <= rows.keys()
    assert rows["get_scores"].split()[-3:] == ["2", "of", "2"]
    assert max(map(len, summary)) <= 80


async def test_a_plan_is_held_against_its_promise(source: Database) -> None:
    """A promised index that is not used is named, as one that is used in its place."""
    assert "!" not in await explain(source, "get_scores", "cli.report_modules")
    await source.conn.execute(f"DROP INDEX {SCORES}")
    await source.conn.execute("CREATE INDEX another ON assessment_scores (response_id)")

    printed = await explain(source, "get_scores", "get_response")

    rows = printed.partition("\n-- ")[0].splitlines()
    assert rows[1].startswith("! get_scores ")
    assert rows[1].endswith("1 of 2")
    assert rows[2:4] == [
        f"      promised and not used: {SCORES}",
        "      used and not promised: another",
    ]
    assert rows[4].startswith("  get_response ")


async def test_a_server_without_generic_plans_says_so(
    pool: asyncpg.Pool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what is said of the query, and no failure."""
    nulls = " OR ".join(f"${number}::text IS NULL" for number in (1, 2, 3))
    condition = f"a.user_id < b.user_id OR {nulls}"  # planned for arguments of null alone
    sql = f"/* a */ SELECT FROM users AS a FULL JOIN users AS b ON {condition}"
    monkeypatch.setattr(plans, "named", lambda _: SimpleNamespace(sql=sql))

    (query,) = (await explain_data.read(pool, ["get_scores"]))["queries"]

    assert query["problem"] == "no generic plan on this server"
    assert (query["plan"], query["used"], query["runs"]) == (None, [], [])
    assert explain_data.differences(query) == []


async def test_json_has_stable_keys(source: Database) -> None:
    """Scripts find the same keys in each object, whatever is found."""
    found = json.loads(await explain(source, "--json"))

    assert found.keys() == {
        *("format", "format_version", "made_at", "assessments_version", "postgresql_version"),
        *("samples", "queries"),
    }
    assert (found["format"], found["format_version"]) == ("assessments explain", 1)
    assert {frozenset(query) for query in found["queries"]} == {
        frozenset(("name", "problem", "promised", "used", "cost", "rows", "text", "plan", "runs"))
    }
    (scores,) = (query for query in found["queries"] if query["name"] == "get_scores")
    assert scores["promised"] == scores["used"] == sorted(promised_indexes("get_scores"))
    assert scores["plan"]["Total Cost"] == scores["cost"]


COMMAND = ("explain", "--database", "postgresql://")


@pytest.mark.parametrize("text", ["", "[1]", '{"format": "another"}', '{"queries": []}'])
def test_what_is_compared_has_the_format(tmp_path: Path, text: str) -> None:
    """A file that --json did not print, or only a part of one, is refused."""
    path = tmp_path / "before.json"
    path.write_text(text.replace('{"queries"', f'{json.dumps(explain_data.FORMAT)[:-1]}, "no"'))

    done = run(*COMMAND, "--against", path)

    assert done.returncode == 2
    assert "--against: is not what --json of this version printed" in " ".join(
        done.stderr.decode().split()
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("get_respones",), "QUERY: names no query; the nearest is get_responses"),
        (("report_totals",), "QUERY: names no query; the nearest is cli.report_totals"),
        ((f"postgresql://{SECRET}@host/",), "QUERY: is a URL; the URL of a database goes to"),
        (("--html", f"postgresql://{SECRET}@host/"), "--html: is a URL"),
        (("--against", f"/{SECRET}"), "--against: cannot be read: No such file or directory"),
        (("--against", "pyproject.toml"), "--against: is not what --json of this version printed"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[str, ...], problem: str) -> None:
    """It prints the usage and the problem, quotes no value, and exits with 2."""
    done = run(*COMMAND, *arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert problem in " ".join(done.stderr.decode().split())
    assert SECRET not in done.stderr.decode()
