"""``assessments import`` takes a user_id for this database's only where that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from tests.helpers.commands import content
from tests.helpers.jsonl import line
from tests.helpers.rows import new_user, submit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.commands import Database

REFUSED = b"user_id: is of another database or an unknown one: say who is who with --map-users FILE"
ELSEWHERE = "7712173568110312815/16384"


def users_line(user_id: int, **changes: Any) -> bytes:
    """Return the line of a user's response."""
    return line(user_id=user_id, anonymous_token=None, **changes)


async def users(database: Database) -> list[Any]:
    """Return the owners of the responses."""
    return [response["user_id"] for response, _ in await content(database.conn)]


async def test_an_export_comes_back_to_its_own_database(source: Database) -> None:
    """There, users are who they were."""
    user_id = await new_user(source.conn)
    await submit(source.conn, user_id=user_id)
    exported = source.export()
    await source.conn.execute("DELETE FROM assessment_responses")

    done = source.run("import", given=exported)

    assert done.returncode == 0, done.stderr
    assert await users(source) == [user_id]


async def test_users_of_another_database_are_refused(source: Database, target: Database) -> None:
    """The error names the line and both options, and nothing of the batch is stored."""
    await submit(source.conn, user_id=await new_user(source.conn))

    done = target.run("import", given=line() + source.export())

    assert done.returncode == 1
    assert done.stderr.startswith(b"line 2: " + REFUSED)
    assert b"--same-users" in done.stderr
    assert await target.count() == 0


@pytest.mark.parametrize("database", [..., None, ELSEWHERE])
async def test_users_of_an_unknown_database_are_refused(target: Database, database: Any) -> None:
    """A line that does not say where it is from is not taken for this database's."""
    done = target.run("import", given=users_line(1, database=database))

    assert done.stderr.startswith(b"line 1: " + REFUSED)
    assert await target.count() == 0


async def test_anonymous_responses_come_from_anywhere(target: Database) -> None:
    """Tokens are random, so that they mean the same browser in every database."""
    given = line() + line(database=ELSEWHERE) + line(database=await target.identity())

    assert target.run("import", given=given).returncode == 0
    assert {r["anonymous_token"] for r, _ in await content(target.conn)} == {UUID(int=7)}
    assert await target.count() == 3


async def test_users_can_be_the_same_in_both(target: Database) -> None:
    """With --same-users their ids are taken as they are."""
    given = users_line(2, database=ELSEWHERE) + users_line(3)

    done = target.run("import", "--same-users", given=given)

    assert done.returncode == 0, done.stderr
    assert await users(target) == [2, 3]


async def test_users_can_be_mapped(target: Database, tmp_path: Path) -> None:
    """With --map-users each line gets the user of the file, whatever database it is from."""
    path = tmp_path / "users.csv"
    path.write_text("1,3\r\n\r\n 9223372036854775807 , 1\n3,3\n", encoding="utf-8-sig")
    given = (
        users_line(1, database=await target.identity())
        + users_line(2**63 - 1, database=ELSEWHERE)
        + users_line(3)
        + line()
    )

    done = target.run("import", "--map-users", path, given=given)

    assert done.returncode == 0, done.stderr
    assert await users(target) == [3, 1, 3, None]


async def test_a_user_who_is_not_in_the_map_is_refused(target: Database, tmp_path: Path) -> None:
    """The line is named; being of this database does not make up for it."""
    path = tmp_path / "users.csv"
    path.write_text("1,3")
    given = users_line(1) + users_line(2, database=await target.identity())

    done = target.run("import", "--map-users", path, given=given)

    assert done.stderr.startswith(b"line 2: user_id: is not in the file of --map-users\n")
    assert await target.count() == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"from,to\n1,2", b"line 1: must be two user ids, FROM,TO"),
        (b"1,2\n1", b"line 2: must be two user ids, FROM,TO"),
        (b"1,2,3", b"line 1: must be two user ids, FROM,TO"),
        (b"0,1", b"line 1: must be two user ids, FROM,TO"),
        (b"1,-1", b"line 1: must be two user ids, FROM,TO"),
        (b"1,9223372036854775808", b"line 1: must be two user ids, FROM,TO"),
        ("1,٣".encode(), b"line 1: must be two user ids, FROM,TO"),
        (b"1," + b"7" * 5000, b"line 1: must be two user ids, FROM,TO"),
        (b"1,2\n\n2,2\n1,2", b"line 4: the first id is on an earlier line too"),
        (b"\xff,1", b"is not a CSV file in UTF-8"),
        (b"1," + b"7" * 200_000, b"is not a CSV file in UTF-8"),
        (None, b"No such file or directory"),
    ],
)
async def test_a_bad_map_of_users_is_an_error(
    target: Database, tmp_path: Path, content: bytes | None, problem: bytes
) -> None:
    """It is reported in one line before anything is read or stored."""
    path = tmp_path / "users.csv"
    if content is not None:
        path.write_bytes(content)

    done = target.run("import", "--map-users", path, given=line())

    assert (done.returncode, done.stderr) == (1, b"--map-users: " + problem + b"\n")
    assert await target.count() == 0


def test_users_cannot_be_both_mapped_and_the_same(target: Database) -> None:
    """The two options exclude each other."""
    done = target.run("import", "--map-users", "users.csv", "--same-users")

    assert done.returncode == 2
    assert b"--same-users: not allowed with argument --map-users" in done.stderr


async def test_the_first_of_several_unknown_users_is_named(target: Database) -> None:
    """Whoever corrects a file begins at its beginning; nothing of the batch is stored."""
    given = line() + users_line(77) + users_line(78)

    done = target.run("import", "--same-users", given=given)

    assert done.returncode == 1
    assert done.stderr.startswith(b"line 2: there is no such user")
    assert await target.count() == 0
