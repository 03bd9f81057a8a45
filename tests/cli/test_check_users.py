"""Before the migrations, ``assessments check`` names the host's users table and the recipe."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from assessments.checks import check, check_before_apply
from tests.helpers.commands import run
from tests.helpers.yoyo import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assessments import Finding

    Connection = asyncpg.Connection[Any]

PAGE = "docs/users.md"
NO_COLUMN = f"has no column user_id: {PAGE}#a-column-in-your-table"
NO_KEY = f": user_id has no unique index of its own: {PAGE}#what-is-expected"
WRONG_TYPE = f": user_id is not an integer: {PAGE}#a-mapping-table"


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[Connection]:
    """Return a connection to a database with nothing in it."""
    conn = await asyncpg.connect(empty_database)
    await conn.execute("SET search_path = public, pg_temp")
    yield conn
    await conn.close()


async def find(conn: Connection, subject: str) -> Finding:
    """Return the one finding on *subject* before the migrations."""
    (found,) = [each for each in await check_before_apply(conn) if each.subject == subject]
    return found


async def can_apply(conn: Connection) -> bool:
    """Say whether migration 0001 can be applied."""
    migration = (MIGRATIONS / "assessments-0001-responses.sql").read_text(encoding="utf-8")
    try:
        async with conn.transaction():
            await conn.execute(migration)
    except asyncpg.PostgresError:
        return False
    return True


FITS = "public.users (user_id {})"


@pytest.mark.parametrize(
    ("create", "message"),
    [
        ("users (user_id smallint PRIMARY KEY)", FITS.format("smallint")),
        ("users (user_id integer UNIQUE)", FITS.format("integer")),
        ("users (id uuid PRIMARY KEY, user_id bigint UNIQUE)", FITS.format("bigint")),
        (
            (
                "users (user_id bigint UNIQUE); CREATE SCHEMA accounts;"
                " CREATE TABLE accounts.users (id uuid PRIMARY KEY)"
            ),
            FITS.format("bigint"),
        ),
        ("users (id integer PRIMARY KEY)", f"public.users (id integer) {NO_COLUMN}"),
        ("users (id uuid PRIMARY KEY)", f"public.users (id uuid) {NO_COLUMN}"),
        ("users ()", f"public.users has no column user_id: {PAGE}#a-mapping-table"),
        ("users (user_id uuid PRIMARY KEY)", f"public.users (user_id uuid){WRONG_TYPE}"),
        ("users (user_id numeric(9) UNIQUE)", f"public.users (user_id numeric(9,0)){WRONG_TYPE}"),
        ("users (user_id bigint)", f"public.users (user_id bigint){NO_KEY}"),
        (
            "users (user_id bigint, tenant bigint, PRIMARY KEY (user_id, tenant))",
            f"public.users (user_id bigint){NO_KEY}",
        ),
        (
            "users (user_id bigint UNIQUE DEFERRABLE)",
            f"public.users (user_id bigint){NO_KEY}",
        ),
        (
            "users (user_id bigint); CREATE UNIQUE INDEX ON users (user_id) WHERE user_id > 0",
            f"public.users (user_id bigint){NO_KEY}",
        ),
        (
            (
                "users (user_id bigint UNIQUE); UPDATE pg_index SET indisvalid = FALSE"
                " WHERE indexrelid = 'users_user_id_key'::regclass"
            ),
            f"public.users (user_id bigint){NO_KEY}",
        ),
        (
            "users (user_id bigint); CREATE UNIQUE INDEX ON users ((user_id + 0))",
            f"public.users (user_id bigint){NO_KEY}",
        ),
        (
            "people (id integer); CREATE VIEW users AS SELECT id AS user_id FROM people",
            f"public.users (user_id integer){NO_KEY}",
        ),
    ],
)
async def test_what_is_found_as_users_is_judged_as_the_migration_does(
    empty: Connection, create: str, message: str
) -> None:
    """What does not fit is named with what is wrong and a recipe; 0001 agrees on what fits."""
    await empty.execute(f"CREATE TABLE {create}")

    found = await find(empty, "users")

    assert found.message == f"users: {message}"
    assert (found.level == "ok") == await can_apply(empty)


SEVERAL = """
CREATE TABLE auth_user (id integer PRIMARY KEY);
CREATE TABLE power_users ();
CREATE TABLE users_of_old (id integer PRIMARY KEY);
CREATE TEMP TABLE my_users (id integer PRIMARY KEY);
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY);
"""
NOTHING = "users: no table users with a column user_id on search_path (public, pg_temp); "


@pytest.mark.parametrize(
    ("create", "message"),
    [
        ("SELECT", f"none: {PAGE}#no-users-table"),
        (
            "CREATE TABLE auth_user (id integer PRIMARY KEY)",
            f"found public.auth_user (id integer): {PAGE}#a-mapping-table",
        ),
        (
            "CREATE TABLE app_users (user_id integer PRIMARY KEY)",
            f"found public.app_users (user_id integer): {PAGE}#a-mapping-table",
        ),
        (
            'CREATE TABLE "user" (id uuid PRIMARY KEY)',
            f'found public."user" (id uuid): {PAGE}#a-mapping-table',
        ),
        (
            "CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid PRIMARY KEY)",
            f"found auth.users (id uuid): {PAGE}#a-mapping-table",
        ),
        (
            "CREATE SCHEMA accounts; CREATE TABLE accounts.users (user_id integer PRIMARY KEY)",
            f"found accounts.users (user_id integer): {PAGE}#another-schema",
        ),
        (
            SEVERAL,
            (
                f"found auth.users (id uuid): {PAGE}#a-mapping-table; "
                f"found public.auth_user (id integer): {PAGE}#a-mapping-table"
            ),
        ),
    ],
)
async def test_other_tables_that_may_hold_the_users_are_named(
    empty: Connection, create: str, message: str
) -> None:
    """Where search_path leads to no users, tables of such names and with a key are found."""
    await empty.execute(create)

    found = await find(empty, "users")

    assert (found.level, found.message) == ("error", NOTHING + message)


async def test_missing_rights_of_the_migrations_are_named(empty: Connection) -> None:
    """CREATE on the first schema of the path, and REFERENCES on users."""
    role = f"r{uuid4().hex}"
    await empty.execute(f"CREATE ROLE {role}; CREATE TABLE users (user_id bigint PRIMARY KEY)")
    try:
        await empty.execute(f"SET ROLE {role}")
        schema, users = await find(empty, "schema"), await find(empty, "users")
        await empty.execute("SET search_path = nowhere, pg_temp")
        nowhere = await find(empty, "schema")
    finally:
        await empty.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")

    what = "schema: {} may not create tables in public, the first on search_path"
    assert (schema.level, schema.message) == ("error", what.format(role))
    recipe = f"{PAGE}#what-is-expected"
    assert users.level == "error"
    assert users.message.endswith(f": {role} has no REFERENCES (user_id) on it: {recipe}")
    path = "schema: none on search_path (nowhere, pg_temp) exists, or "
    assert (nowhere.level, nowhere.message) == ("error", f"{path}{role} has no USAGE on it")


async def test_the_command_prints_it(empty: Connection, empty_database: str) -> None:
    """It is what a check of a database without the library's tables ends with, status 1."""
    await empty.execute("CREATE TABLE users (id integer PRIMARY KEY)")

    done = await asyncio.to_thread(run, "check", "--database", empty_database)

    found = [each.message for each in await check(empty)]
    assert found[1:] == [
        "migrations: none is applied",
        "schema: tables are created in public",
        f"users: public.users (id integer) {NO_COLUMN}",
    ]
    lines = done.stdout.decode().splitlines()
    printed = [line[9:] for line in lines if line[0] != " "]
    assert (done.returncode, printed) == (1, found)
