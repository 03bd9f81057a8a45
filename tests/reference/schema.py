"""What the migrations build, as a dump. The same text on every server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg

_TABLES = ("assessment_responses", "assessment_scores")
_COLUMNS = """
SELECT
    a.attname AS name,
    format_type(a.atttypid, a.atttypmod) AS type,
    a.attnotnull AS is_required,
    CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END AS identity,
    pg_get_expr(d.adbin, d.adrelid) AS default_value,
    col_description(a.attrelid, a.attnum) AS comment
FROM pg_attribute AS a
LEFT JOIN pg_attrdef AS d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
# From PostgreSQL 18 on, NOT NULL is a constraint too.
_CONSTRAINTS = """
SELECT conname AS name, pg_get_constraintdef(oid) AS definition
FROM pg_constraint
WHERE conrelid = $1::text::regclass AND contype <> 'n'
ORDER BY position(contype::text IN 'pufcx'), conname
"""
_INDEXES = """
SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index AS i
JOIN pg_class AS c ON i.indexrelid = c.oid
WHERE i.indrelid = $1::text::regclass AND NOT i.indisprimary
ORDER BY c.relname
"""
_INTRODUCTION = """\
-- What the migrations build, for reading. Nothing runs this file: `yoyo apply` runs migrations/.
-- Written by `make reference` from the catalogue, the same on PostgreSQL 15 and 18.
--
-- The host's users (user_id) is referenced, and not created here.
"""


async def pages(conn: asyncpg.Connection[Any]) -> dict[str, str]:
    """Return the dump."""
    dump = [_INTRODUCTION]
    for table in _TABLES:
        columns = await conn.fetch(_COLUMNS, table)
        constraints = await conn.fetch(_CONSTRAINTS, table)
        indexes = await conn.fetch(_INDEXES, table)
        comment = await conn.fetchval("SELECT obj_description($1::text::regclass)", table)
        dump += [
            _create(table, columns, constraints),
            *(_statement(index["definition"]) for index in indexes),
            f"COMMENT ON TABLE {table} IS\n{_literal(comment)};",
            *(
                f"COMMENT ON COLUMN {table}.{column['name']} IS\n{_literal(column['comment'])};"
                for column in columns
            ),
            "",
        ]
    return {"docs/reference/schema.sql": "\n".join(dump).rstrip() + "\n"}


def _create(table: str, columns: list[Any], constraints: list[Any]) -> str:
    lines = [f"{column['name']} {_type(column)}" for column in columns]
    lines += [f"CONSTRAINT {each['name']} {each['definition']}" for each in constraints]
    body = ",\n".join(f"    {line}" for line in lines)
    return f"CREATE TABLE {table} (\n{body}\n);\n"


def _type(column: Any) -> str:
    parts = [column["type"]]
    if column["identity"]:
        parts.append(f"GENERATED {column['identity']} AS IDENTITY")
    if column["default_value"]:
        parts.append(f"DEFAULT {column['default_value']}")
    if column["is_required"]:
        parts.append("NOT NULL")
    return " ".join(parts)


def _statement(definition: str) -> str:
    """Return an index's definition without its schema, over several lines where it is long."""
    shown = definition.replace(" ON public.", "\nON ").replace(" USING btree", "")
    return shown.replace(" WHERE ", "\nWHERE ") + ";\n"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
