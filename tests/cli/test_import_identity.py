"""Which stored row an imported line is, and which line a refusal names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from tests.helpers.jsonl import line
from tests.helpers.rows import SECRET

if TYPE_CHECKING:
    from tests.helpers.commands import Database

STORED = """
INSERT INTO assessment_responses (
    anonymous_token, question_id, module_slug, answer_text, created_at, submission_key
)
VALUES ($1, 'q1', 'm1', $2, '2026-11-01T12:00:00+00:00', $3)
RETURNING response_id
"""


async def store(target: Database, key: UUID | None) -> int:
    """Store what a line holds, with this key; return its id."""
    response_id: int = await target.conn.fetchval(STORED, UUID(int=7), SECRET, key)
    return response_id


@pytest.mark.parametrize(
    ("key", "changes", "count"),
    [
        (None, {}, 1),
        (None, {"created_at": "2026-11-01T12:00:00.000001+00:00"}, 2),
        (uuid4(), {}, 2),
    ],
    ids=["the same", "of another time", "with a key of its own"],
)
async def test_a_row_with_the_id_is_the_line_s_only_if_it_is_the_row_exported(
    target: Database, key: UUID | None, changes: dict[str, Any], count: int
) -> None:
    """A row without a key is known by its time and content; a row with one by its key alone."""
    response_id = await store(target, key)

    done = target.run("import", given=line(response_id=response_id, **changes))

    assert done.returncode == 0, done.stderr
    assert await target.count() == count


async def test_of_two_conflicting_lines_the_first_is_named(target: Database) -> None:
    """Whoever corrects a file begins at its beginning."""
    keys = [uuid4(), uuid4()]
    for key in keys:
        await store(target, key)
    given = [line(submission_key=str(key), answer_text=f"{SECRET}!") for key in keys]

    done = target.run("import", given=line() + b"".join(given))

    assert done.returncode == 1
    assert b"line 2: submission_key: is already used" in done.stderr


async def test_of_two_lines_of_unknown_users_the_first_is_named(target: Database) -> None:
    """As with conflicts, and nothing of the batch is stored."""
    given = [line(user_id=user, anonymous_token=None) for user in (77, 78)]

    done = target.run("import", given=line() + b"".join(given))

    assert done.returncode == 1
    assert b"line 2: there is no such user" in done.stderr
    assert await target.count() == 0
