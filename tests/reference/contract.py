"""The parameters and results of every query: a page for people, and types for type checkers."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import assessments
from assessments.queries import folder, named, queries
from tests.helpers.plans import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

_PACKAGE = Path(assessments.__file__).parent
_PYTHON = {
    "bigint": "int",
    "integer": "int",
    "double precision": "float",
    "boolean": "bool",
    "text": "str",
    "varchar": "str",
    "uuid": "UUID | str",
    "timestamptz": "datetime",
    "interval": "timedelta",
    "text[]": "Sequence[str | None]",
    "bigint[]": "Sequence[int | None]",
}
# What asyncpg calls otherwise than a query writes it.
_NAMES = {"int8": "bigint", "int4": "integer", "float8": "double precision", "bool": "boolean"}
_NOT_NULL = """
SELECT a.attname::text
FROM pg_attribute AS a
WHERE a.attrelid IN ('assessment_responses'::regclass, 'assessment_scores'::regclass)
    AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY a.attname
HAVING bool_and(a.attnotnull)
"""
_RESULTS = {
    "^": ("one row, or none", "Any"),
    "$": ("one value", "Any"),
    "!": ("the number of rows changed", "int"),
    "": ("a list of rows", "list[Record]"),
}
_INTRODUCTION = """\
# Queries

What each named query takes and returns, and which function sends it. Types are PostgreSQL's, from
preparing the text; any parameter may be null. A result column is *not null* where the column of its
name is NOT NULL in the tables and the query has no outer join and no aggregate; of the others
PostgreSQL does not tell. Written by `make reference`, the same on PostgreSQL 15 and 18, together
with `assessments/query_types.pyi`, from which type checkers know queries and parameters.
"""
_RECORDS = {
    "response": assessments.AssessmentResponse,
    "score": assessments.AssessmentScore,
}
_TYPES = """\
# The queries of sql/ as type checkers see them. Written by `make reference`: do not edit.

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Record

from assessments.queries import Adapter, Connection
"""


class Contract(NamedTuple):
    """What a query takes and returns: names and PostgreSQL's names of types."""

    operator: str
    parameters: list[tuple[str, str]]
    columns: list[tuple[str, str]]
    not_null: set[str]


async def pages(conn: asyncpg.Connection[Any]) -> dict[str, str]:
    """Return the page of the queries and the stub."""
    contracts = await collect(conn)
    return {
        "docs/reference/contract.md": "\n".join(_render(contracts)),
        "assessments/query_types.pyi": "".join(_stub(contracts)),
    }


async def collect(conn: asyncpg.Connection[Any]) -> dict[str, Contract]:
    """Return the contract of every query, by file and line."""
    required = {name for (name,) in await conn.fetch(_NOT_NULL)}
    return {name: await _contract(conn, name, required) for name in _in_order()}


def _in_order() -> list[str]:
    """Return the names by file and line."""
    places = {name: named(name).__code__ for name in NAMES}
    return sorted(NAMES, key=lambda name: (_file(name), places[name].co_firstlineno))


def _file(name: str) -> str:
    path = Path(named(name).__code__.co_filename)
    return path.relative_to(folder("sql")).as_posix()


async def _contract(conn: asyncpg.Connection[Any], name: str, required: set[str]) -> Contract:
    prepared = await conn.prepare(named(name).sql)
    names = queries.driver_adapter.var_sorted[name]
    columns = [(column.name, _type_name(column.type)) for column in prepared.get_attributes()]
    certain = not re.search(r"\b(LEFT|RIGHT|FULL) JOIN\b|pg_catalog\.(min|max)\(", named(name).sql)
    return Contract(
        _operator(name),
        [
            (each, _type_name(kind))
            for each, kind in zip(names, prepared.get_parameters(), strict=True)
        ],
        columns,
        {column for column, _ in columns if column in required and certain},
    )


def _operator(name: str) -> str:
    """Return what stands behind the parameters in the query's first line."""
    code = named(name).__code__
    lines = Path(code.co_filename).read_text(encoding="utf-8").splitlines()
    first: str = lines[code.co_firstlineno - 1]
    return first.rpartition(")")[2]


def _type_name(kind: asyncpg.Type) -> str:
    bare = kind.name.removesuffix("[]")
    return _NAMES.get(bare, bare) + ("[]" if kind.kind == "array" else "")


def _render(contracts: dict[str, Contract]) -> Iterator[str]:
    yield _INTRODUCTION
    yield _record("response", contracts["get_response"])
    yield _record("score", contracts["get_scores"]) + "\n"
    file = ""
    for name, contract in contracts.items():
        if _file(name) != file:
            file = _file(name)
            yield f"## sql/{file}\n"
        yield f"### {name.removeprefix('cli.')}\n"
        yield f"{_flat(named(name).__doc__)}\n"
        takes = ", ".join(f"`{each}` {kind}" for each, kind in contract.parameters)
        yield f"- takes {takes or 'nothing'}"
        yield f"- returns {_RESULTS[contract.operator][0]}{_columns(contract)}"
        yield f"- sent by {', '.join(f'`{caller}`' for caller in _callers()[name])}\n"


def _flat(comment: str) -> str:
    return " ".join(comment.split())


def _columns(contract: Contract) -> str:
    """Return the columns; those of a record, where they come first, by the record's name."""
    names = [name for name, _ in contract.columns]
    shown = []
    for record, kind in _RECORDS.items():
        keys = list(kind.__annotations__)
        if names[: len(keys)] == keys:
            shown = [f"*{record}*" if contract.not_null else f"*{record}*, each may be null"]
            break
    else:
        keys = []
    shown += [_column(column, contract.not_null) for column in contract.columns[len(keys) :]]
    return f": {', '.join(shown)}" if shown else ""


def _column(column: tuple[str, str], not_null: set[str]) -> str:
    name, kind = column
    return f"`{name}` {kind}{' not null' if name in not_null else ''}"


def _record(name: str, contract: Contract) -> str:
    columns = contract.columns[: len(_RECORDS[name].__annotations__)]
    shown = ", ".join(_column(column, contract.not_null) for column in columns)
    return f"- *{name}*: {shown}"


def _stub(contracts: dict[str, Contract]) -> Iterator[str]:
    yield _TYPES
    nested = {name: contract for name, contract in contracts.items() if name.startswith("cli.")}
    own = {name: contract for name, contract in contracts.items() if name not in nested}
    yield "\nclass CommandLineQueries:\n"
    yield from (_method(name.removeprefix("cli."), each) for name, each in nested.items())
    yield "\nclass Queries:\n"
    yield "    cli: CommandLineQueries\n    driver_adapter: Adapter\n"
    yield "    @property\n    def available_queries(self) -> list[str]: ...\n"
    yield from (_method(name, each) for name, each in own.items())


def _method(name: str, contract: Contract) -> str:
    lines = ["        self,", "        conn: Connection,"]
    lines += ["        *,"] if contract.parameters else []
    lines += [f"        {each}: {_python(kind)} | None," for each, kind in contract.parameters]
    if not contract.parameters:
        head = f"    async def {name}(self, conn: Connection)"
    else:
        head = f"    async def {name}(\n" + "\n".join(lines) + "\n    )"
    return f"{head} -> {_RESULTS[contract.operator][1]}: ...\n"


def _python(kind: str) -> str:
    return _PYTHON[kind]


@cache
def _callers() -> dict[str, list[str]]:
    """Return the functions in whose text each query is named, as ``module.function``."""
    found: dict[str, list[str]] = {name: [] for name in NAMES}
    for path in sorted(_PACKAGE.rglob("*.py")):
        module = path.relative_to(_PACKAGE).with_suffix("").as_posix().replace("/", ".")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for name in _named_in(node) & found.keys():
                    found[name].append(f"{module}.{node.name}")
    return found


def _named_in(function: ast.AST) -> set[str]:
    """Return ``get_scores`` for each ``queries.get_scores`` in *function*."""
    attributes = (node for node in ast.walk(function) if isinstance(node, ast.Attribute))
    return {
        ast.unparse(node).removeprefix("queries.")
        for node in attributes
        if ast.unparse(node).startswith("queries.")
    }
