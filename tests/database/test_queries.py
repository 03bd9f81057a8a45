"""The reviewed text is the executed text, and every query keeps its promise about its plan."""

from __future__ import annotations

import asyncio
import inspect
import re
from typing import TYPE_CHECKING, Any

import aiosql
import pytest

import assessments
from assessments import backoffice, responses, scores
from assessments import queries as loaded
from assessments.cli import check, transfer
from assessments.queries import Adapter, folder, named, queries
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.plans import PLANS, plan_of
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    import asyncpg

NAMES = sorted(name for name in queries.available_queries if not name.endswith("_cursor"))
FILES = sorted(folder("sql").rglob("*.sql"))
TEXT = "".join(path.read_text(encoding="utf-8") for path in FILES)
CODE = re.sub(r"--.*", "", TEXT)


def test_a_name_given_twice_is_refused_at_load(tmp_path: Path) -> None:
    """Two queries of one name, in one file or two, fail at load instead of one hiding the other."""
    (tmp_path / "a.sql").write_text("-- name: twice()\nSELECT 1;\n")
    (tmp_path / "b.sql").write_text("-- name: twice()\nSELECT 2;\n")

    with pytest.raises(ValueError, match="two queries named twice"):
        aiosql.from_path(tmp_path, Adapter)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_every_query_is_called_by_the_facade(name: str) -> None:
    """No query is left over, and none is called that is not there."""
    facade = "".join(
        inspect.getsource(module) for module in (responses, scores, backoffice, transfer, check)
    )

    called = set(re.findall(r"\bqueries\.((?:cli\.)?\w+)", facade))
    called -= {"available_queries", "driver_adapter"}
    assert called <= set(NAMES)
    assert name in called


@pytest.mark.parametrize("name", NAMES)
async def test_every_query_prepares(conn: asyncpg.Connection[Any], name: str) -> None:
    """PostgreSQL accepts every query on the migrated schema and types each parameter."""
    prepared = await conn.prepare(named(name).sql)

    assert len(prepared.get_parameters()) == len(named(name).parameters)


@pytest.mark.parametrize("record", ["AssessmentResponse", "AssessmentScore"])
async def test_rows_have_the_columns_of_their_record(
    conn: asyncpg.Connection[Any], record: str
) -> None:
    """Every query that returns rows of a table returns each column of the record, in its order."""
    keys = list(getattr(assessments, record).__annotations__)
    found = 0
    for name in NAMES:
        columns = [
            attribute.name for attribute in (await conn.prepare(named(name).sql)).get_attributes()
        ]
        if columns and columns[0] == keys[0]:
            assert columns[: len(keys)] == keys
            found += 1
    assert found


def test_every_parameter_is_cast() -> None:
    """PostgreSQL never has to guess the type of a parameter."""
    assert re.findall(r"(?<!:):\w+(?!\w|::)", CODE) == []


def test_no_query_asks_for_every_column() -> None:
    """A column that a later migration adds does not change what a query returns."""
    assert "*" not in CODE.replace("count(*)", "")


def test_every_list_ends_its_order_in_the_primary_key() -> None:
    """No two rows of a list can change places: it ends in a key, or in the place given."""
    orders = re.findall(r"ORDER BY\s+([^\n]+)", CODE)

    assert orders
    for order in orders:
        assert re.search(r"(\b(response|score|migration)_id( \+ 0)?|number)( DESC)?;?$", order), (
            order
        )


async def test_the_server_s_views_name_the_query(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], token: UUID
) -> None:
    """What pg_stat_activity shows of a running query begins with its name."""
    await conn.execute("BEGIN; LOCK TABLE assessment_responses")
    submitting = asyncio.create_task(submit(other, anonymous_token=token))
    await until_waiting_for_lock(conn, other.get_server_pid())

    shown = await conn.fetchval(
        "SELECT query FROM pg_stat_activity WHERE pid = $1", other.get_server_pid()
    )

    assert shown.startswith("/* assessments.submit_response */ INSERT")
    await conn.execute("COMMIT")
    await submitting


async def test_a_column_added_later_disturbs_no_transaction(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], token: UUID
) -> None:
    """Old code on a new schema: cached statements go on inside transactions."""
    await submit(conn, anonymous_token=token)
    await assessments.get_responses(conn, anonymous_token=token)
    await other.execute("ALTER TABLE assessment_responses ADD COLUMN later text")

    async with conn.transaction():
        await submit(conn, anonymous_token=token)
        found = await assessments.get_responses(conn, anonymous_token=token)

    assert len(found) == 2


async def test_every_query_names_its_indexes(many: asyncpg.Connection[Any]) -> None:
    """The generic plan of each query uses the indexes listed above, and scans no table."""
    of_the_check = set(
        re.findall(r"-- name: (\w+)", (folder("sql") / "cli" / "check.sql").read_text())
    )
    assert set(PLANS) == set(NAMES) - {f"cli.{name}" for name in of_the_check}
    await many.execute("SET plan_cache_mode = force_generic_plan")
    for name, indexes in PLANS.items():
        plan = await plan_of(many, name, "COSTS OFF")
        assert set(
            re.findall(r"(?:using|on) (\w+_(?:pkey|key|id|anon|question|module))\b", plan)
        ) == (indexes), f"{name}\n{plan}"
        assert "Seq Scan" not in plan, f"{name}\n{plan}"


async def test_a_page_is_read_in_order_and_not_sorted(many: asyncpg.Connection[Any]) -> None:
    """get_responses merges two ordered index scans, however many rows the owner has."""
    await many.execute("SET plan_cache_mode = force_generic_plan")

    plan = await plan_of(many, "get_responses", "COSTS OFF")

    assert "Merge Append" in plan
    assert plan.count("Sort") == plan.count("Sort Key:") == 1, plan


async def test_a_page_of_a_heavy_user_touches_few_buffers(
    many: asyncpg.Connection[Any],
) -> None:
    """The newest 20 of a user with 20,000 rows touch dozens of buffers, not thousands."""
    plan = await plan_of(many, "get_responses", "ANALYZE, BUFFERS", user_id="1", max_rows="20")

    assert "rows=20" in plan.splitlines()[0]
    buffers = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", plan)
    assert buffers
    assert sum(int(number or 0) for number in buffers.groups()) < 100


async def test_the_facade_s_files_are_where_the_loader_looks() -> None:
    """The folders of queries and migrations are found, and a wrong name is an error."""
    assert {path.name for path in FILES} >= {
        "responses.sql",
        "scores.sql",
        "backoffice.sql",
        "transfer.sql",
    }
    with pytest.raises(FileNotFoundError, match="nowhere"):
        loaded.folder("nowhere")
