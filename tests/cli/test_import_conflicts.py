"""``assessments import`` of a line whose key or id another response has at the target."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from assessments.cli.jsonl import LineFormatter, parse_timestamp
from tests.helpers.commands import content
from tests.helpers.jsonl import line, score
from tests.helpers.rows import SECRET, questions

if TYPE_CHECKING:
    from tests.helpers.commands import Database

CONFLICT = b": submission_key: is already used by a different response"
AGAIN = b" responses were stored before; run it again, what is there is not stored twice\n"


@pytest.mark.parametrize("name", ["question_id", "module_slug", "answer_text"])
async def test_a_key_used_by_a_different_response_is_an_error(target: Database, name: str) -> None:
    """The line is named, and nothing of its batch is stored."""
    key = str(uuid4())
    target.run("import", given=line(submission_key=key))
    changed = line(submission_key=key, **{name: SECRET + "!"})

    done = target.run("import", given=line() + changed)

    assert (done.returncode, done.stderr) == (1, b"line 2" + CONFLICT + b"\n0" + AGAIN)
    assert await target.count() == 1


async def test_a_key_used_twice_in_a_file_is_an_error(target: Database) -> None:
    """The second of two different responses is named, and what stands before it is stored."""
    key = str(uuid4())
    given = line(submission_key=key) + line() + line(submission_key=key, answer_text="another")

    done = target.run("import", given=given)

    assert (done.returncode, done.stderr) == (1, b"line 3" + CONFLICT + b"\n2" + AGAIN)


async def taken(target: Database) -> list[str]:
    """Store responses under two keys, and return the keys."""
    keys = [str(uuid4()), str(uuid4())]
    given = b"".join(line(submission_key=key, question_id="taken") for key in keys)
    assert target.run("import", given=given).returncode == 0
    return keys


async def test_the_first_of_several_conflicts_is_named(target: Database) -> None:
    """Whatever their order in the database, the first line of the file is reported."""
    for keys in (await taken(target), reversed(await taken(target))):
        given = line() + b"".join(line(submission_key=key) for key in keys)

        done = target.run("import", given=given)

        assert done.stderr.startswith(b"line 2" + CONFLICT)


async def test_conflicts_can_be_skipped(target: Database) -> None:
    """With --skip-conflicts each is reported by its line, and all others are stored."""
    first, second = await taken(target)
    changed = line(submission_key=first, scores=score()), line(submission_key=second)
    given = changed[0] + line(scores=score()) + b"\n" + changed[1] + line(question_id="last")

    done = target.run("import", "--skip-conflicts", given=given)

    assert (done.returncode, done.stderr) == (
        0,
        b"line 1" + CONFLICT + b": skipped\n"
        b"line 4" + CONFLICT + b": skipped\n"
        b"imported 2 responses with 2 scores; 0 were already there; 2 were skipped\n",
    )
    stored = await content(target.conn)
    assert questions(r for r, _ in stored) == ["taken", "taken", "q1", "last"]
    assert [len(scores) for _, scores in stored] == [0, 0, 2, 0]


async def test_a_skipped_line_needs_no_user(target: Database) -> None:
    """A conflict of a user who is not known here is skipped like any other."""
    (key, _) = await taken(target)
    given = line(submission_key=key, anonymous_token=None, user_id=77) + line()

    done = target.run("import", "--skip-conflicts", "--same-users", given=given)

    assert done.returncode == 0
    assert await target.count() == 3


CREATED_AT = "2026-11-01T12:00:00+00:00"


@pytest.mark.parametrize(
    ("stored", "is_same"),
    [
        ({}, True),
        ({"created_at": "2026-11-01T12:00:00.000001+00:00"}, False),
        ({"answer_text": "another"}, False),
        ({"question_id": "another"}, False),
        ({"module_slug": "another"}, False),
        ({"submission_key": str(uuid4())}, False),
    ],
)
async def test_a_response_without_a_key_is_known_by_its_id(
    target: Database, stored: dict[str, Any], *, is_same: bool
) -> None:
    """Its id, time and content say that it is the one exported; with a key of its own it is not."""
    columns = {
        "created_at": CREATED_AT,
        "question_id": "q1",
        "module_slug": "m1",
        "answer_text": SECRET,
        "submission_key": None,
        **stored,
    }
    await target.conn.execute(
        "INSERT INTO assessment_responses (response_id, anonymous_token, created_at, question_id,"
        " module_slug, answer_text, submission_key) OVERRIDING SYSTEM VALUE"
        " VALUES (5, $1, $2::text::timestamptz, $3, $4, $5, $6)",
        UUID(int=7),
        *columns.values(),
    )

    done = target.run("import", given=line(response_id=5, created_at=CREATED_AT))

    assert done.returncode == 0
    assert await target.count() == (1 if is_same else 2)


def test_the_key_of_a_response_without_one_never_changes() -> None:
    """It is derived from id, time, question, module and answer, and from nothing else."""
    row: dict[str, Any] = {
        **dict.fromkeys(("anonymous_token", "learning_outcome_id", "content_id", "submission_key")),
        "answer_metadata": "{}",
        "score_data": None,
        "response_id": 1,
        "created_at": parse_timestamp("created_at", "2026-11-01T13:00:00.000005+01:00"),
        "question_id": "q é",
        "module_slug": "m",
        "answer_text": "日本\n😀",
        "user_id": 7,
    }
    changes = {
        "response_id": 2,
        "created_at": parse_timestamp("created_at", "2026-11-01T13:00:00.000006+01:00"),
        "question_id": "q",
        "module_slug": "n",
        "answer_text": "",
    }

    def key(**changes: Any) -> Any:
        lines = LineFormatter("database")
        (written,) = [*lines.add([row | changes]), *lines.end()]
        return json.loads(written)["submission_key"]

    keys = {key(**{name: value}) for name, value in changes.items()}

    assert key() == "3dc94895-86fe-55ac-8b38-28077d8fd256"
    assert key(user_id=8) == key()
    assert len(keys | {key()}) == 6
