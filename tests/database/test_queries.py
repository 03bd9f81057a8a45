"""The reviewed text is the executed text, and it keeps to the form of sql/README.md."""

from __future__ import annotations

import asyncio
import re
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiosql
import asyncpg
import pytest

import assessments
from assessments.queries import Adapter, folder, named, queries
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.plans import NAMES
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from uuid import UUID

FILES = sorted(folder("sql").rglob("*.sql"))
CODE = re.sub(r"--.*", "", "".join(path.read_text(encoding="utf-8") for path in FILES))


def test_a_name_used_twice_is_rejected_at_load(tmp_path: Path) -> None:
    """Two queries of one name, in one file or two, fail at load instead of one hiding the other."""
    (tmp_path / "a.sql").write_text("-- name: twice()\nSELECT 1;\n")
    (tmp_path / "b.sql").write_text("-- name: twice()\nSELECT 2;\n")

    with pytest.raises(ValueError, match="two queries named twice"):
        aiosql.from_path(tmp_path, Adapter)  # type: ignore[arg-type]


def test_the_loader_finds_its_folders() -> None:
    """Every file of queries is loaded from where a reviewer reads it; a wrong name is an error."""
    assert {"responses", "scores", "backoffice", "transfer"} <= {path.stem for path in FILES}
    with pytest.raises(FileNotFoundError, match="nowhere"):
        folder("nowhere")


def test_the_loader_reads_what_aiosqls_own_reads() -> None:
    """Our loader gives every query the text, comment, parameters and line that aiosql's gives."""
    whole = aiosql.from_path(folder("sql"), Adapter, encoding="utf-8")  # type: ignore[arg-type]

    assert whole.available_queries == queries.available_queries
    for name in whole.available_queries:
        expected, found = attrgetter(name)(whole), named(name)
        for aspect in ("sql", "__doc__", "__signature__", "operation", "parameters"):
            assert getattr(found, aspect) == getattr(expected, aspect)
        assert found.__code__.co_firstlineno == expected.__code__.co_firstlineno


def test_the_facade_calls_every_query() -> None:
    """No query is unused, and every query that is called exists."""
    modules = Path(assessments.__file__).parent.rglob("*.py")
    source = "".join(path.read_text(encoding="utf-8") for path in modules)
    called = set(re.findall(r"\bqueries\.((?:cli\.)?\w+)", source))

    called -= {"available_queries", "driver_adapter"}
    assert called - set(NAMES) == set(), "Python calls a query that sql/ does not have"
    assert set(NAMES) - called == set(), "no Python calls this query of sql/: call it or delete it"


@pytest.mark.parametrize("name", NAMES)
def test_every_query_has_its_promise(name: str) -> None:
    """Under each query's name stands what it promises a reviewer."""
    promise = (named(name).__doc__ or "").strip()
    assert promise.endswith("."), (
        f"{name}: write under its name, as comments in sentences, whose rows it takes, in which "
        "order, through which index and how many (sql/README.md)"
    )


@pytest.mark.parametrize("name", NAMES)
async def test_every_query_prepares(conn: asyncpg.Connection[Any], name: str) -> None:
    """PostgreSQL accepts every query on the migrated schema and types each parameter."""
    try:
        prepared = await conn.prepare(named(name).sql)
    except asyncpg.PostgresError as error:
        pytest.fail(f"PostgreSQL does not prepare {name} on what the migrations build: {error}")

    assert len(prepared.get_parameters()) == len(named(name).parameters)


def test_every_statement_has_its_name_at_both_ends() -> None:
    """What cuts off a text's end, a comment in front or what follows a semicolon leaves a name."""
    texts = {name: named(name).sql for name in NAMES}

    for name, text in texts.items():
        comment = f"/* assessments.{name} */"
        assert (text.startswith(f"{comment} "), text.endswith(f" {comment}")) == (True, True), name
    assert [name for name, text in texts.items() if ";" in text] == []


@pytest.mark.parametrize("record", ["AssessmentResponse", "AssessmentScore"])
async def test_rows_have_the_columns_of_their_record(
    conn: asyncpg.Connection[Any], record: str
) -> None:
    """Every query that returns rows of a table returns each column of the record, in its order."""
    keys = list(getattr(assessments, record).__annotations__)
    returned = [
        [column.name for column in (await conn.prepare(named(name).sql)).get_attributes()]
        for name in NAMES
    ]

    heads = [columns[: len(keys)] for columns in returned if columns[:1] == keys[:1]]
    assert heads
    assert all(head == keys for head in heads), heads


def test_every_parameter_is_cast() -> None:
    """PostgreSQL never has to guess the type of a parameter."""
    assert re.findall(r"(?<!:):\w+(?!\w|::)", CODE) == []


def test_no_query_selects_every_column() -> None:
    """A column that a later migration adds does not change what a query returns."""
    stars = re.findall(r"[^\n]*(?:SELECT|RETURNING|,|\.)\s*\*[^\n]*", CODE)
    assert stars == [], "name the columns: those that a later migration adds are not asked for"


def test_no_insert_locks_the_rows_that_it_reads() -> None:
    """A row lock is taken in a CTE of its own: Citus refuses INSERT … SELECT … FOR KEY SHARE."""
    lock = re.compile(r"\bFOR (?:(?:NO KEY )?UPDATE|(?:KEY )?SHARE)\b")
    code, parts = CODE, []
    while inner := re.findall(r"\(([^()]*)\)", code):
        parts += inner
        code = re.sub(r"\([^()]*\)", "", code)
    locking = [part for part in [*parts, *code.split(";")] if lock.search(part)]

    assert locking
    assert [part for part in locking if "INSERT INTO" in part] == []


def test_every_list_has_a_total_order() -> None:
    """Every ORDER BY of rows ends in a key of theirs or in the position in the input."""
    orders = re.findall(r"(?<!WITHIN GROUP \()ORDER BY\s+((?:\([^()]*\)|[^\n()])+)", CODE)
    total = re.compile(
        r"(\b(response|score|migration)_id( \+ 0)?|number|\bpid"
        r"|(trigger|role|module|qualified|table|column)_name"
        r"|\b([ab]_prompt|prompt_version|owner_id))( ASC| DESC)?;?$"  # of rows grouped by it
    )

    assert orders
    assert [order for order in orders if not total.search(order)] == []


async def test_pg_stat_activity_names_the_query(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], token: UUID
) -> None:
    """The text of a running query begins with its name."""
    pid = other.get_server_pid()
    async with conn.transaction():
        await conn.execute("LOCK TABLE assessment_responses")
        submitting = asyncio.create_task(submit(other, anonymous_token=token))
        await until_waiting_for_lock(conn, pid)
        shown = await conn.fetchval("SELECT query FROM pg_stat_activity WHERE pid = $1", pid)
    await submitting

    assert shown.startswith("/* assessments.submit_response */ INSERT")


async def test_a_column_added_later_disturbs_no_transaction(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], token: UUID
) -> None:
    """Old code on a new schema: cached statements work inside transactions."""
    await submit(conn, anonymous_token=token)
    await assessments.get_responses(conn, anonymous_token=token)
    await other.execute("ALTER TABLE assessment_responses ADD COLUMN later text")

    async with conn.transaction():
        await submit(conn, anonymous_token=token)
        assert len(await assessments.get_responses(conn, anonymous_token=token)) == 2
