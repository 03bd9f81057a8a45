"""What others create in a schema on the search_path changes nothing that the library runs."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from assessments.queries import folder
from tests.helpers.calls import Subject, catalogue
from tests.helpers.commands import Database
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import asyncpg

    Connection = asyncpg.Connection[Any]

CODE = "".join(
    re.sub(r"--.*|'[^']*'", "", path.read_text(encoding="utf-8"))
    for path in folder("sql").rglob("*.sql")
)
FUNCTIONS = sorted({*re.findall(r"pg_catalog\.(\w+)\(", CODE)})
OPERATORS = sorted({*re.findall(r"(?<=\s)[-+*/<>=!~|&?@#%^]+(?=\s)", CODE)})
TYPES = (
    *("int2", "int4", "int8", "text", "varchar", "name", '"char"', "uuid", "timestamptz", "jsonb"),
    *("interval", "bool", "oid", "regclass", "text[]", "int8[]", "uuid[]"),
)
# Syntax, tables and the one function that is safe only while it is not qualified: PostgreSQL itself
# makes pg_catalog.unnest of an unnest with several arguments.
UNQUALIFIED = {
    *("any", "coalesce", "exists", "greatest", "least", "nullif", "unnest"),
    *("assessment_responses", "assessment_scores", "g", "p"),
}

# For every function of these names, one for any other types; and every operator for any two types.
# Each fails with `shadowed` when it is called.
SHADOWS = """
DO $do$
DECLARE
    f record;
    l text;
    r text;
    o text;
    body CONSTANT text := 'LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION ''shadowed''; END$$';
    types CONSTANT text[] := '{types}';
BEGIN
    FOR f IN
        SELECT DISTINCT proname, pronargs FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY ('{functions}')
    LOOP
        IF f.pronargs = 0 THEN
            EXECUTE format('CREATE FUNCTION public.%I() RETURNS text %s', f.proname, body);
        END IF;
        FOREACH l IN ARRAY types LOOP
            IF f.pronargs = 1 THEN
                EXECUTE format(
                    'CREATE FUNCTION public.%I(%s) RETURNS %s %s', f.proname, l, l, body
                );
            END IF;
            FOREACH r IN ARRAY types LOOP
                IF f.pronargs = 2 THEN
                    EXECUTE format(
                        'CREATE FUNCTION public.%I(%s, %s) RETURNS %s %s', f.proname, l, r, l, body
                    );
                END IF;
            END LOOP;
        END LOOP;
    END LOOP;
    FOREACH l IN ARRAY types LOOP
        FOREACH r IN ARRAY types LOOP
            EXECUTE format('CREATE FUNCTION public.f(%s, %s) RETURNS bool %s', l, r, body);
            FOREACH o IN ARRAY '{operators}'::text[] LOOP
                EXECUTE format(
                    'CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.f)',
                    o, l, r
                );
            END LOOP;
        END LOOP;
    END LOOP;
END $do$
"""


def array(texts: Any) -> str:
    """Return *texts* as an array literal."""
    return "{" + ",".join(f'"{text}"'.replace('""char""', r'"\"char\""') for text in texts) + "}"


@pytest.fixture
async def attacked(conn: Connection) -> AsyncIterator[Connection]:
    """Return a connection to a database in which an unprivileged role has done its worst."""
    role = f"r{uuid4().hex}"
    await conn.execute(f"CREATE ROLE {role}; GRANT CREATE, USAGE ON SCHEMA public TO {role}")
    await conn.execute(f"SET ROLE {role}")
    shadows = SHADOWS.replace("{types}", array(TYPES)).replace("{operators}", array(OPERATORS))
    await conn.execute(shadows.replace("{functions}", array([*FUNCTIONS, "unnest"])))
    await conn.execute("RESET ROLE")
    yield conn
    await conn.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("key", ["bigint", "integer", "smallint"])
async def test_no_call_runs_what_others_have_created(
    attacked: Connection, token: UUID, user_id: int, key: str
) -> None:
    """Every query of the library finds PostgreSQL's own functions and operators."""
    await attacked.execute(f"ALTER TABLE users ALTER user_id TYPE {key}")
    for response_id in (1, 2):
        await submit(attacked, f"q{response_id}", anonymous_token=token)
    for name, call in catalogue(Subject(user_id, token, 1, {"anonymous_token": token})).items():
        await call(attacked)
        if name == "purge_anonymous_responses":
            await call(attacked, dry_run=True)


@pytest.mark.usefixtures("attacked")
async def test_no_command_runs_what_others_have_created(
    database: str, conn: Connection, token: UUID
) -> None:
    """Every query of the command line finds PostgreSQL's own functions and operators."""
    await submit(conn, anonymous_token=token, submission_key=uuid4())
    this = Database(database, conn)
    exported = await asyncio.to_thread(this.export)

    for name, *arguments in (
        ("check",),
        ("explain",),
        ("import",),
        ("purge", "--older-than", "90d"),
        ("purge", "--older-than", "90d", "--yes"),
    ):
        done = await asyncio.to_thread(this.run, name, *arguments, given=exported)
        assert done.returncode == 0, (name, done.stdout, done.stderr)


def test_every_function_is_qualified() -> None:
    """No name of a function is looked up on the search_path."""
    called = set(re.findall(r"(?<![\w.])([a-z]\w*)\s*\(", CODE))

    assert called <= UNQUALIFIED
