"""``assessments import`` stores what was exported: all of it, once, in its order."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import backoffice
from tests.helpers.commands import INTERRUPTIBLE, active_backend, content, summary
from tests.helpers.jsonl import line, score
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.polling import until
from tests.helpers.rows import SECRET, questions, submit, submit_all

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.commands import Database

ODD_TEXTS = [
    "",
    " \n\r\t ",
    "two\u2028lines\u2029more\x85",
    '"quotes" \\ \\u0000 \\n / <b>',
    "\x01\x1b[31m\x7f",
    "e\u0301 is not é",
    "\ufeffmarked",
    "\uffff 👩\u200d👩\u200d👧 𝔘",
    "עברית 日本語 हिन्दी",
    "long " * 30_000,
]
ODD_JSON: list[dict[str, Any]] = [
    {},
    {"": None, "n": [1, -0.5, 1e-9, 2**70, True]},
    {"deep": {"er": [{"é\n": "\u2028\x01\x7f"}]}},
]
STORED = "SELECT count(*) FROM assessment_responses"
IN_TRANSACTION = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""


async def test_everything_comes_back_equal(
    source: Database, target: Database, user_id: int, token: UUID
) -> None:
    """Texts, JSON, scores, owners and microseconds: all but the ids is equal after an import."""
    for number, text in enumerate(ODD_TEXTS):
        response = await submit(
            source.conn,
            f"q {text[:9]}é",
            **{"user_id": user_id} if number % 2 else {"anonymous_token": token},
            answer_text=text,
            answer_metadata=ODD_JSON[number % 3],
            learning_outcome_id=(text[:9] or None),
            content_id=uuid4() if number % 3 else None,
        )
        for data in ODD_JSON[: number % 4]:
            await backoffice.record_score(
                source.conn, response_id=response["response_id"], score_data=data, model_id="m é"
            )
    before = await content(source.conn)

    done = target.run("import", "--same-users", given=source.export())

    assert done.returncode == 0, done.stderr
    assert await content(target.conn) == before
    assert len({each["created_at"].microsecond for each, _ in before}) > 1
    assert target.export().count(b"\n") == len(ODD_TEXTS)


async def test_a_line_is_stored_once(source: Database, target: Database) -> None:
    """Repeated within a batch, in another batch or by another import, it adds nothing."""
    await source.fill(700)
    exported = source.export()
    doubled = b"".join(each + b"\n" + each for each in exported.splitlines(keepends=True))

    first = target.run("import", given=doubled)
    second = target.run("import", given=exported + exported)

    assert (first.returncode, first.stderr) == (0, summary(700, 350, 700))
    assert (second.returncode, second.stderr) == (0, summary(0, 0, 1400))
    assert await content(target.conn) == await content(source.conn)


async def test_json_has_the_sums(source: Database, target: Database) -> None:
    """A script reads what was stored, also where the import stopped at a line."""
    await source.fill(2)
    exported = source.export()

    done = [target.run("import", "--json", given=each) for each in (exported, b"no\n")]

    first, second = (json.loads(each.stdout) for each in done)
    assert [each.returncode for each in done] == [0, 1]
    assert done[0].stderr == b""
    assert first == {
        "format": "assessments import",
        "format_version": 1,
        "is_complete": True,
        "imported": 2,
        "imported_scores": 1,
        "already_stored": 0,
        "skipped": 0,
    }
    assert second == {**first, "is_complete": False, "imported": 0, "imported_scores": 0}


async def test_a_killed_import_is_completed_by_another(source: Database, target: Database) -> None:
    """After a kill -9 half-way the same command stores the rest: none twice, none missing."""
    await source.fill(1500)
    exported = source.export()
    process = target.start("import")
    assert process.stdin
    process.stdin.write(b"".join(exported.splitlines(keepends=True)[:1200]))
    process.stdin.flush()
    await until(target.conn, STORED)
    process.kill()
    process.communicate()
    stored = await target.count()

    done = target.run("import", given=exported)

    assert 0 < stored < 1500
    assert f"; {stored:,} were already there".encode() in done.stderr
    assert await content(target.conn) == await content(source.conn)


async def test_concurrent_imports_store_a_file_once(source: Database, target: Database) -> None:
    """Imports of one file at the same time share the work, and their sums add up."""
    await source.fill(1000)
    exported = source.export()
    await target.conn.execute("BEGIN; LOCK TABLE assessment_responses IN SHARE MODE")
    processes = [target.start("import") for _ in range(2)]
    running = [
        asyncio.create_task(asyncio.to_thread(process.communicate, exported))
        for process in processes
    ]
    while await target.conn.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < 2:
        await asyncio.sleep(0.01)
    await target.conn.execute("COMMIT")  # both have seen an empty table

    errors = [errors for _, errors in await asyncio.gather(*running)]

    assert [process.returncode for process in processes] == [0, 0], errors
    assert sum(int(each.split()[1].replace(b",", b"")) for each in errors) == 1000
    stored, given = [await content(database.conn) for database in (target, source)]
    assert sorted(questions(r for r, _ in stored)) == sorted(questions(r for r, _ in given))
    assert await target.count("assessment_scores") == 500


@pytest.mark.parametrize("answer", [SECRET, "another"])
async def test_a_key_stored_by_a_concurrent_transaction_counts(
    target: Database, answer: str
) -> None:
    """A key that commits during the statement is there, or a conflict, like any other."""
    key = str(uuid4())
    await target.conn.execute("BEGIN")
    await submit(target.conn, user_id=1, answer_text=answer, submission_key=key)
    process = target.start("import")
    given = line(submission_key=key) + line()
    running = asyncio.create_task(asyncio.to_thread(process.communicate, given))
    watcher = await asyncpg.connect(target.url)  # a transaction sees pg_stat_activity frozen
    await until_waiting_for_lock(watcher, await active_backend(watcher))
    await watcher.close()
    await target.conn.execute("COMMIT")

    _, errors = await running

    if answer == SECRET:
        assert errors == summary(1, 0, 1)
    else:
        assert errors.startswith(b"line 1: submission_key: is already used by a different ")
        assert errors.splitlines()[1].startswith(b"0 responses")


async def test_a_claim_changes_no_key(
    source: Database, target: Database, user_id: int, token: UUID
) -> None:
    """Claimed in either database, a response keeps its key and its owner when imported again."""
    await submit_all(source.conn, ("q1", "q2"), anonymous_token=token)
    exported = source.export()
    target.run("import", given=exported)
    for database, user in ((source, user_id), (target, 2)):
        await assessments.claim_assessment_responses(
            database.conn, anonymous_token=token, user_id=user
        )

    keys = [
        [json.loads(each)["submission_key"] for each in written.splitlines()]
        for written in (exported, source.export(), target.export())
    ]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys[0])) == 2
    assert target.run("import", given=exported).stderr == summary(0, 0, 2)
    assert [response["user_id"] for response, _ in await content(target.conn)] == [2, 2]


async def test_an_import_restores_only_what_was_erased(source: Database) -> None:
    """What is there is found by its key or by its id, and counts once where both are there."""
    await source.fill(3)
    exported = source.export()
    await source.conn.execute("DELETE FROM assessment_responses WHERE question_id = 'q2'")

    assert source.run("import", given=exported).stderr == summary(1, 1, 2)
    assert questions(r for r, _ in await content(source.conn)) == ["q1", "q3", "q2"]

    await source.conn.execute(
        "INSERT INTO assessment_responses (response_id, anonymous_token, question_id, "
        "module_slug, answer_text, created_at) OVERRIDING SYSTEM VALUE SELECT 2, anonymous_token, "
        "question_id, module_slug, answer_text, created_at FROM assessment_responses "
        "WHERE question_id = 'q2'"
    )
    assert source.run("import", given=exported).stderr == summary(0, 0, 3)


@pytest.mark.parametrize("table", ["assessment_responses", "assessment_scores"])
async def test_an_import_whose_rows_are_dropped_stores_nothing(
    target: Database, table: str
) -> None:
    """Where a trigger of the host's drops rows, it names the lines and stores none of the batch."""
    column = {"assessment_responses": "question_id = 'q2'", "assessment_scores": "model_id = 'q2'"}
    await target.conn.execute(
        f"""
        CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER drop_row BEFORE INSERT ON {table}
        FOR EACH ROW WHEN (NEW.{column[table]}) EXECUTE FUNCTION drop_row();
        """
    )
    lines = [line(question_id=each, scores=score(model_id=each)) for each in ("q1", "q2", "q3")]

    done = target.run("import", given=b"".join(lines))

    assert done.returncode == 1
    assert done.stderr.startswith(b"lines 1 to 3: something keeps PostgreSQL from storing all\n")
    assert (await target.count(), await target.count("assessment_scores")) == (0, 0)


BAD_LINES = [
    (b"{\n", "is not JSON"),
    (b'{"answer_text": "' + SECRET.encode(), "is not JSON"),
    (b"9" * 5000 + b"\n", "is not JSON"),
    (b"\xff\n", "is not UTF-8"),
    (b"[" * 100_000 + b"\n", "is nested too deep"),
    (b"[]\n", "is not a JSON object"),
    (b"x" * (64 * 1024 * 1024 + 1), "must not exceed 67108864 bytes"),
    (line(**{SECRET: 1}), "may have no other keys than response_id, anonymous_token, user_id, que"),
    (line(question_id=...), "question_id: is missing"),
    (line(scores=...), "scores: is missing"),
    (line(database=5), "database: must be a str"),
    (line(submission_key=None), "submission_key: must be a UUID or its string of 36"),
    (line(response_id=SECRET), "response_id: must be an int"),
    (line(user_id=1), "user_id: give exactly one of user_id and anonymous_token"),
    (line(anonymous_token=...), "user_id: give exactly one of user_id and anonymous_token"),
    (line(anonymous_token=str(UUID(int=0))), "anonymous_token: must not be the nil UUID"),
    (line(question_id=""), "question_id: must not be empty"),
    (line(answer_text=17), "answer_text: must be a str"),
    (line(answer_text="\0"), "answer_text: must not contain a NUL character"),
    (line(answer_text="\ud800"), "answer_text: must not contain a lone surrogate"),
    (line(answer_metadata=[]), "answer_metadata: must be a dict"),
    (line(answer_metadata={"a": float("nan")}), "answer_metadata: must not contain NaN"),
    (line(created_at="2026-11-01T12:00:00"), "created_at: must be a timestamp in ISO 8601"),
    (line(created_at=SECRET), "created_at: must be a timestamp in ISO 8601"),
    (line(created_at=5), "created_at: must be a timestamp in ISO 8601"),
    (line(scores={}), "scores: must be a list"),
    (line(scores=[SECRET]), "scores[0]: is not a JSON object"),
    (line(scores=score(score_data=...)), "scores[1].score_data: is missing"),
    (line(scores=score(score_data="x")), "scores[1].score_data: must be a dict"),
    (line(scores=score(model_id="")), "scores[1].model_id: must not be empty"),
    (line(scores=score(created_at="")), "scores[1].created_at: must be a timestamp"),
    (line(scores=score(occurrence=0)), "scores[1].occurrence: must be from 1 to"),
    (line(scores=score(occurrence="2")), "scores[1].occurrence: must be an int"),
    (line(scores=score(score=1)), "scores[1]: may have no other keys than score_data"),
    (line(user_id=77, anonymous_token=None), "there is no such user in the host's users table"),
]


async def test_a_bad_line_is_named_and_not_quoted(target: Database) -> None:
    """The error names the line and the field, quotes no value, and nothing is stored."""
    for bad, problem in BAD_LINES:
        done = target.run("import", "--same-users", given=line() + b"\n" + bad)

        first, second = done.stderr.decode().splitlines()
        assert (done.returncode, first[: 8 + len(problem)]) == (1, f"line 3: {problem}")
        assert second.startswith("0 responses were stored before; run it again")
        assert SECRET not in done.stderr.decode()
        assert await target.count() == 0


def test_csv_is_refused_with_what_is_expected(source: Database) -> None:
    """The first line of ``export --csv`` says that import does not read it."""
    done = source.run("import", given=source.export("--csv"))

    expected = "import reads JSON Lines as export writes them, not the CSV of export --csv"
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"line 1: is not JSON; {expected}\n")


async def test_batches_before_a_bad_line_stay(target: Database, tmp_path: Path) -> None:
    """It reports how many were stored before the error; the corrected file stores the rest."""
    good = [line(question_id=f"q{number}") for number in range(600)]
    bad = tmp_path / "bad.jsonl"  # of which lines are read ahead
    bad.write_bytes(b"".join(good) + b"{}")

    failed = target.run("import", bad)
    completed = target.run("import", given=b"".join(good))

    first, second = failed.stderr.splitlines()
    assert first == b"line 601: question_id: is missing"
    assert second.startswith(b"500 responses were stored before; run it again")
    assert completed.stderr == summary(100, 0, 500)
    assert questions(r for r, _ in await content(target.conn)) == [f"q{n}" for n in range(600)]


async def test_a_file_is_read_by_its_name(target: Database, tmp_path: Path) -> None:
    """FILE is read in place of standard input, a dash is standard input, no file is an error."""
    path = tmp_path / "responses.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line().rstrip())  # as some editors leave it

    assert target.run("import", path).returncode == 0
    assert target.run("import", "-", given=line()).returncode == 0
    missing = target.run("import", tmp_path / "nowhere")

    assert missing.returncode == 1
    assert missing.stderr.endswith(b"nowhere: No such file or directory\n")
    assert missing.stderr.count(b"\n") == 1
    assert await target.count() == 2


async def test_ctrl_c_ends_an_import_that_waits_for_input(target: Database) -> None:
    """It waits in no transaction and not for the next line, and reports what is stored."""
    process = target.start("import", **INTERRUPTIBLE)
    assert process.stdin
    assert process.stderr
    process.stdin.write(b"".join(line() for _ in range(501)))
    process.stdin.flush()
    await until(target.conn, STORED)
    assert not await target.conn.fetchval(IN_TRANSACTION)
    process.send_signal(signal.SIGINT)

    assert process.wait(10) == 130
    errors = process.stderr.read()
    assert errors.startswith(b"500 responses were stored before; run it again")
    assert errors.endswith(b"\ninterrupted\n")
    with suppress(BrokenPipeError):  # the end of the last line may still be here
        process.stdin.close()
    process.stdin = None
    process.communicate()
