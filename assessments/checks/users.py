"""Checks before the migrations: where the tables go, and which table holds the host's users."""

from __future__ import annotations

from typing import Any

from assessments.checks.findings import Finding
from assessments.queries import queries

_INTEGERS = ("smallint", "integer", "bigint")
_RIGHTS = "docs/reviewing.md#rights"
# Headings of the page on users tables: what fits a database that has no users (user_id).
_EXPECTED = "docs/users.md#what-is-expected"
_COLUMN = "docs/users.md#a-column-in-your-table"
_MAPPING = "docs/users.md#a-mapping-table"
_OTHER_SCHEMA = "docs/users.md#another-schema"
_STAND_IN = "docs/users.md#no-users-table"


def check_schema(facts: Any) -> Finding:
    """Say whether this role may create tables in the first schema of its path."""
    schema, role, path = facts["schema_name"], facts["role_name"], facts["search_path"]
    if schema is None or schema.startswith("pg_temp"):
        message = f"schema: none on search_path ({path}) exists, or {role} has no USAGE on it"
    elif not facts["may_create"]:
        message = f"schema: {role} may not create tables in {schema}, the first on search_path"
    else:
        return Finding("schema", "ok", f"schema: tables are created in {schema}")
    return Finding("schema", "error", message, remedy=_RIGHTS)


async def check_users(conn: Any, facts: Any) -> Finding:
    """Say whether the users table fits, or which recipe of the page does."""
    tables = await queries.cli.get_users_tables(conn)
    if tables and tables[0]["is_found"]:
        problem = _find_users_problem(tables[0], facts["role_name"])
        message = f"{_describe(tables[0])}{problem}"
        return Finding("users", "error" if problem else "ok", f"users: {message}")
    found = "; ".join(f"found {_describe(table)}: {_find_recipe(table)}" for table in tables)
    message = f"users: no table users with a column user_id on search_path ({facts['search_path']})"
    return Finding("users", "error", f"{message}; {found or f'none: {_STAND_IN}'}")


def _describe(table: Any) -> str:
    """Return the table's name, and its column user_id or else its key, with the type."""
    name, column = table["qualified_name"], table["key_name"]
    if table["user_id_type"] is not None:
        return f"{name} (user_id {table['user_id_type']})"
    return f"{name} ({column} {table['key_type']})" if column else str(name)


def _find_users_problem(table: Any, role: str) -> str:
    """Return why migration 0001 would refuse *table*, the users on search_path; empty if not."""
    if table["user_id_type"] is None:
        return f" has no column user_id: {_COLUMN if table['key_name'] else _MAPPING}"
    if table["user_id_type"] not in _INTEGERS:
        return f": user_id is not an integer: {_MAPPING}"
    if not table["is_unique"]:
        return f": user_id has no unique index of its own: {_EXPECTED}"
    if not table["may_reference"]:
        return f": {role} has no REFERENCES (user_id) on it: {_EXPECTED}"
    return ""


def _find_recipe(table: Any) -> str:
    """Return where the page says what to do with *table*, which is not found as users."""
    fits = table["table_name"] == "users" and table["user_id_type"] in _INTEGERS
    return _OTHER_SCHEMA if fits else _MAPPING
