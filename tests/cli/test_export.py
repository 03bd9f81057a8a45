"""``assessments export`` writes what it was asked for."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4, uuid5

from assessments.cli import options
from tests.helpers.commands import ENVIRONMENT, run, terminal_output
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.helpers.commands import Database


async def test_a_line_has_the_columns_a_key_and_the_scores(source: Database, user_id: int) -> None:
    """The format of a line is fixed, and so is the key derived for a response without one."""
    created_at, scored_at = "2026-11-01T12:00:00.000005+00:00", "2026-11-03T00:00:00.000001+00:00"
    content_id, key = str(uuid4()), str(uuid4())
    columns: dict[str, Any] = {
        "question_id": 'q é "1"',
        "module_slug": "m\u2028",
        "learning_outcome_id": None,
        "content_id": content_id,
        "answer_text": "日本\n😀",
        "answer_metadata": {"n": 1e-9},
    }
    await submit(source.conn, **columns, anonymous_token=UUID(int=7))
    await submit(source.conn, **columns, user_id=user_id, submission_key=key)
    await source.conn.execute(
        """
        UPDATE assessment_responses SET created_at = '2026-11-01T12:00:00.000005Z';
        INSERT INTO assessment_scores (response_id, score_data, model_id, created_at)
        VALUES (2, '{"p": 1}', 'b', '2026-11-03T00:00:00.000001Z'),
            (2, '{"p": 1}', 'a', '2026-11-01T12:00:00.000005Z'),
            (2, '{"p": 1}', 'a', '2026-11-01T12:00:00.000005Z'),
            (2, '{"p": 1}', 'b', '2026-11-03T00:00:00.000001Z')
        """
    )

    first, second = map(json.loads, source.export().splitlines())

    columns |= {"created_at": created_at, "database": await source.identity()}
    assert first == {
        **columns,
        "response_id": 1,
        "user_id": None,
        "anonymous_token": str(UUID(int=7)),
        "submission_key": "0964e426-db4f-587a-a38b-db8db4990127",
        "scores": [],
    }
    score = {"score_data": {"p": 1}, "prompt_version": None}
    assert second == {
        **columns,
        "response_id": 2,
        "user_id": user_id,
        "anonymous_token": None,
        "submission_key": key,
        "scores": [
            {**score, "model_id": "a", "created_at": created_at},
            {**score, "model_id": "a", "created_at": created_at, "occurrence": 2},
            {**score, "model_id": "b", "created_at": scored_at},
            {**score, "model_id": "b", "created_at": scored_at, "occurrence": 2},
        ],
    }


async def test_a_line_is_the_same_byte_for_byte(source: Database) -> None:
    """Names, spaces, escapes and the derived key of a line never change."""
    await source.conn.execute(
        """
        INSERT INTO assessment_responses (
            anonymous_token, question_id, module_slug, answer_text, answer_metadata, created_at
        )
        VALUES (
            '00000000-0000-0000-0000-000000000007', 'q "1"', 'm', E'\\x01\\x7f\\n\\t\\\\ /é',
            '{"n": [1.10, null]}', '2026-11-01T12:00:00Z'
        );
        INSERT INTO assessment_scores (response_id, score_data, created_at)
        VALUES (1, '{}', '2026-11-01T12:00:00.5Z')
        """
    )
    text = "\x01\x7f\n\t\\ /é"
    parts = [1, "2026-11-01T12:00:00.000000+00:00", 'q "1"', "m", text]
    key = uuid5(UUID("0e6cdd5c-20a7-4cc7-a7bd-a6a05ea3cbc1"), json.dumps(parts))

    assert source.export().decode() == (
        '{"response_id": 1, "anonymous_token": "00000000-0000-0000-0000-000000000007", '
        '"user_id": null, "question_id": "q \\"1\\"", "module_slug": "m", '
        '"learning_outcome_id": null, "content_id": null, '
        '"answer_text": "\\u0001\x7f\\n\\t\\\\ /é", "answer_metadata": {"n": [1.10, null]}, '
        '"created_at": "2026-11-01T12:00:00.000000+00:00", '
        f'"database": "{await source.identity()}", "submission_key": "{key}", '
        '"scores": [{"score_data": {}, "model_id": null, "prompt_version": null, '
        '"created_at": "2026-11-01T12:00:00.500000+00:00"}]}\n'
    )


async def test_derived_keys_are_version_5_uuids(source: Database) -> None:
    """Whatever is in an answer, its key is that of ``uuid5``."""
    texts = ["", "plain", "\x7f", "\x1f\b\f", "é", "😀", '"\\', *map(str, range(40))]
    for text in texts:
        await submit(source.conn, "q", answer_text=text, anonymous_token=UUID(int=7))
    lines = [json.loads(line) for line in source.export().splitlines()]

    names = ("response_id", "created_at", "question_id", "module_slug", "answer_text")
    namespace = UUID("0e6cdd5c-20a7-4cc7-a7bd-a6a05ea3cbc1")
    assert [line["answer_text"] for line in lines] == texts
    assert [line["submission_key"] for line in lines] == [
        str(uuid5(namespace, json.dumps([line[name] for name in names]))) for line in lines
    ]


async def test_filters_choose_what_is_exported(source: Database, user_id: int, token: UUID) -> None:
    """Each option narrows the export, and both owners together mean either."""
    await submit(source.conn, "q1", user_id=user_id)
    await submit(source.conn, "q2", anonymous_token=token, module_slug="m2")
    await submit(source.conn, "q3", anonymous_token=uuid4())
    await source.conn.execute(
        "UPDATE assessment_responses SET created_at = '2026-11-01 12:00Z' WHERE question_id = 'q3'"
    )
    for arguments, questions in {
        (): ["q1", "q2", "q3"],
        ("--user-id", user_id): ["q1"],
        ("--anonymous-token", token): ["q2"],
        ("--user-id", user_id, "--anonymous-token", token): ["q1", "q2"],
        ("--module", "m2"): ["q2"],
        ("--question", "q3"): ["q3"],
        ("--since", "2026-11-01T12:00:00.000001Z"): ["q1", "q2"],
        ("--until", "2026-11-01T13:00:00.000001+01:00"): ["q3"],
        ("--until", "2026-11-01T12:00:00Z"): [],
        ("--until", "2026-11-02"): ["q3"],
        ("--until", "2026-11-01"): [],
        ("--until", "0001-01-01"): [],
        ("--since", "1h"): ["q1", "q2"],
        ("--until", "1h"): ["q3"],
        ("--limit", 2): ["q1", "q2"],
    }.items():
        lines = source.export(*arguments).splitlines()
        assert [json.loads(line)["question_id"] for line in lines] == questions, arguments


def test_a_date_is_its_midnight_in_utc() -> None:
    """Whatever the time zone of the machine, a date stands for one moment."""
    assert options.time("2026-11-24") == datetime(2026, 11, 24, tzinfo=timezone.utc)


async def test_a_limit_counts_responses(source: Database, token: UUID) -> None:
    """However many scores a response has, it is one, and none of them is left out."""
    for number in range(3):
        await submit(source.conn, f"q{number}", anonymous_token=token)
    await source.conn.execute(
        "INSERT INTO assessment_scores (response_id, score_data) "
        "SELECT 1 + n % 3, '{}' FROM generate_series(0, 1799) AS n"
    )

    lines = [json.loads(line) for line in source.export("--limit", 2).splitlines()]

    assert [len(line["scores"]) for line in lines] == [600, 600]
    assert len(source.export("--limit", 4).splitlines()) == 3


async def test_csv_is_a_row_a_response_with_its_latest_score(
    source: Database, user_id: int
) -> None:
    """Texts come back as they are stored, JSON is JSON, and NULL is an empty cell."""
    text = '=1+1, "é"\r\n\r;\n'
    empty = source.export("--csv").decode()
    await submit(source.conn, "q1", user_id=user_id, answer_text=text, answer_metadata={"a": 1})
    await submit(source.conn, "q2", anonymous_token=UUID(int=7), answer_text="")
    await source.conn.execute(
        """
        INSERT INTO assessment_scores (response_id, score_data, model_id, created_at)
        VALUES (1, '{"p": 2}', 'new', '2026-11-03Z'), (1, '{"p": 1}', 'old', '2026-11-01Z')
        """
    )

    exported = source.export("--csv").decode()

    first, second = csv.DictReader(io.StringIO(exported, newline=""))
    assert exported.startswith(empty)
    assert first["answer_text"] == text
    assert (first["user_id"], first["anonymous_token"]) == (str(user_id), "")
    assert json.loads(first["answer_metadata"]) == {"a": 1}
    assert (first["score_data"], first["model_id"], first["scores"]) == ('{"p": 2}', "new", "2")
    assert first["scored_at"] == "2026-11-03T00:00:00.000000+00:00"
    assert (second["score_data"], second["scored_at"], second["scores"]) == ("", "", "0")
    assert second["anonymous_token"] == str(UUID(int=7))


async def test_the_environment_names_the_database(
    source: Database, token: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``--database`` it is that of ``DATABASE_URL``."""
    await submit(source.conn, "q", anonymous_token=token)
    monkeypatch.setitem(ENVIRONMENT, "DATABASE_URL", source.url)

    assert run("export").stdout == source.export()


def test_the_version_is_printed() -> None:
    """``--version`` prints the name and the installed version."""
    done = run("--version")

    assert done.stdout.decode() == f"assessments {version('assessments')}\n"


async def test_a_reader_may_close_the_output_early(source: Database) -> None:
    """As in ``export | head``, it ends silently with the status of a broken pipe."""
    await source.fill(2000)
    process = source.start("export")
    assert process.stdout
    assert process.stdout.readline().startswith(b"{")
    process.stdout.close()
    process.stdout = None

    assert (process.communicate(timeout=30)[1], process.returncode) == (b"", 141)


async def test_a_full_disk_is_an_error(source: Database) -> None:
    """A write that fails ends the command with status 1 and one line."""
    await source.fill(3)
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 - a device
        process = source.start("export", stdout=full)
    _, errors = process.communicate(timeout=30)

    assert (process.returncode, errors) == (1, b"cannot write: No space left on device\n")


async def test_progress_is_shown_on_a_terminal_only(
    source: Database, target: Database, tmp_path: Path
) -> None:
    """On a terminal a count runs and the sum stays; in a pipe there is only the import's sum.

    Where the total is known, so are the share and the time left.
    """
    await source.fill(700)
    exported = source.export()
    file = tmp_path / "exported.jsonl"
    file.write_bytes(exported)
    purge = ("purge", "--database", source.url, "--older-than", "1d", "--yes")

    shown = [
        terminal_output("export", "--database", source.url),
        terminal_output("import", "--database", target.url, given=exported),
        terminal_output("import", "--database", target.url, file),
        terminal_output(*purge, "--batch", "300"),
    ]

    for output, done in zip(shown, (b"exported", b"imported", b"imported", b"erased"), strict=True):
        assert b"700 responses " + done in output
    assert [b"100%" in output and b"left" in output for output in shown] == [
        *(False, False, True, True)
    ]
    assert shown[0].endswith(b"exported 700 responses\r\n")
    assert shown[1].endswith(b"imported 700 responses with 350 scores; 0 were already there\r\n")
