"""What is exported is imported: all of it, once, in its order, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import backoffice
from tests.helpers.commands import backend_of_command, content, run, said_on_a_terminal, started
from tests.helpers.jsonl import line, score
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import SECRET, new_user, submit, submit_all
from tests.helpers.servers import database_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

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
    {"deep": {"er": [{"é\n": "\u2028"}]}},
]


@pytest.fixture
async def elsewhere(server: str, template: str) -> AsyncIterator[str]:
    """Return the URL of another migrated database, with three users."""
    name = f"assessments_{uuid4().hex}"
    administrator = await asyncpg.connect(server)
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    conn = await asyncpg.connect(database_url(server, name))
    for _ in range(3):
        await new_user(conn)
    await conn.close()
    yield database_url(server, name)
    await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await administrator.close()


@pytest.fixture
async def there(elsewhere: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Return a connection to the other database."""
    conn = await asyncpg.connect(elsewhere)
    yield conn
    await conn.close()


async def fill(conn: asyncpg.Connection[Any], count: int) -> None:
    """Store *count* responses of visitors', one by one in time, and score every other one."""
    await conn.execute(
        """
        INSERT INTO assessment_responses
            (anonymous_token, question_id, module_slug, answer_text, created_at)
        SELECT md5(n::text)::uuid, 'q' || n, 'm', repeat('answer ', 40),
            now() - n * interval '1.000001 seconds'
        FROM generate_series(1, $1::bigint) AS n ORDER BY n
        """,
        count,
    )
    await conn.execute(
        "INSERT INTO assessment_scores (response_id, score_data) "
        "SELECT response_id, '{\"points\": 1}' FROM assessment_responses "
        "WHERE response_id % 2 = 0 ORDER BY response_id"
    )


def names(folder: Path) -> set[str]:
    """Return the names of what is in *folder*."""
    return {each.name for each in folder.iterdir()}


def exported(url: str, *arguments: object) -> list[dict[str, Any]]:
    """Return what an export writes, parsed."""
    done = run("export", "--database", url, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(each) for each in done.stdout.splitlines()]


async def test_everything_comes_back_equal(
    *,
    conn: asyncpg.Connection[Any],
    there: asyncpg.Connection[Any],
    database: str,
    elsewhere: str,
    user_id: int,
    token: UUID,
) -> None:
    """Odd texts and JSON, several scores, both owners, microseconds: all but the keys is equal."""
    for number, text in enumerate(ODD_TEXTS):
        owner = {"user_id": user_id} if number % 2 else {"anonymous_token": token}
        response = await submit(
            conn,
            f"q {text[:9]}é",
            **owner,
            answer_text=text,
            answer_metadata=ODD_JSON[number % 3],
            learning_outcome_id=(text[:9] or None),
            content_id=uuid4() if number % 3 else None,
        )
        for data in ODD_JSON[: number % 4]:
            await backoffice.record_score(
                conn, response_id=response["response_id"], score_data=data, model_id="m é"
            )
    before = await content(conn)

    written = run("export", "--database", database)
    done = run("import", "--database", elsewhere, given=written.stdout)

    assert done.returncode == 0, done.stderr
    assert await content(there) == before
    assert len({each["created_at"].microsecond for each, _ in before}) > 1
    assert run("export", "--database", elsewhere).stdout.count(b"\n") == len(ODD_TEXTS)


async def test_a_line_has_the_columns_a_key_and_the_scores(
    conn: asyncpg.Connection[Any], database: str, user_id: int
) -> None:
    """The form of a line is fixed: strings for UUIDs and moments, scores oldest first."""
    key = uuid4()
    content_id = uuid4()
    row = await submit(conn, user_id=user_id, content_id=content_id)
    moment = "2026-11-01T12:00:00.000000+00:00"
    await conn.execute(
        "UPDATE assessment_responses SET submission_key = $1, created_at = $2::text::timestamptz",
        key,
        moment,
    )
    for created_at, model in (("2026-11-03T00:00:00.000001Z", "b"), (moment, "a")):
        await conn.execute(
            "INSERT INTO assessment_scores (response_id, score_data, model_id, created_at) "
            "VALUES ($1, '{\"p\": 1}', $2, $3::text::timestamptz)",
            row["response_id"],
            model,
            created_at,
        )

    assert exported(database) == [
        {
            "response_id": row["response_id"],
            "anonymous_token": None,
            "user_id": user_id,
            "question_id": "q1",
            "module_slug": "m1",
            "learning_outcome_id": None,
            "content_id": str(content_id),
            "answer_text": "Because.",
            "answer_metadata": {},
            "created_at": moment,
            "submission_key": str(key),
            "scores": [
                {
                    "score_data": {"p": 1},
                    "model_id": model,
                    "prompt_version": None,
                    "created_at": created_at,
                }
                for model, created_at in (
                    ("a", moment),
                    ("b", "2026-11-03T00:00:00.000001+00:00"),
                )
            ],
        }
    ]


async def test_a_second_import_stores_nothing(
    conn: asyncpg.Connection[Any], there: asyncpg.Connection[Any], database: str, elsewhere: str
) -> None:
    """The same file again, or doubled within, adds no response and no score."""
    await fill(conn, 700)
    written = run("export", "--database", database).stdout

    first = run("import", "--database", elsewhere, given=written)
    again = run("import", "--database", elsewhere, given=written + written)

    said = b"imported 700 responses with 350 scores; 0 were already there\n"
    assert (first.returncode, first.stderr) == (0, said)
    said = b"imported 0 responses with 0 scores; 1,400 were already there\n"
    assert (again.returncode, again.stderr) == (0, said)
    assert await content(there) == await content(conn)


async def test_a_file_that_says_a_line_twice_stores_it_once(
    there: asyncpg.Connection[Any], elsewhere: str
) -> None:
    """Within one batch, too, a key is one response with one set of scores."""
    twice = line(scores=score())

    done = run("import", "--database", elsewhere, given=twice + b"\n" + twice)

    assert done.stderr == b"imported 1 responses with 2 scores; 1 were already there\n"
    assert await there.fetchval("SELECT count(*) FROM assessment_scores") == 2


async def test_a_killed_import_is_run_again(
    conn: asyncpg.Connection[Any], there: asyncpg.Connection[Any], database: str, elsewhere: str
) -> None:
    """After a kill -9 half-way the same command brings the rest: none twice, none missing."""
    await fill(conn, 1500)
    written = run("export", "--database", database).stdout
    process = started("import", "--database", elsewhere)
    assert process.stdin
    process.stdin.write(b"".join(written.splitlines(keepends=True)[:1200]))
    process.stdin.flush()
    while not await there.fetchval("SELECT count(*) FROM assessment_responses"):
        await asyncio.sleep(0.01)
    process.kill()
    process.communicate()
    half_way = await there.fetchval("SELECT count(*) FROM assessment_responses")

    done = run("import", "--database", elsewhere, given=written)

    assert 0 < half_way < 1500
    assert f"; {half_way:,} were already there".encode() in done.stderr
    assert await content(there) == await content(conn)


async def test_two_imports_at_once_store_it_once(
    conn: asyncpg.Connection[Any], there: asyncpg.Connection[Any], database: str, elsewhere: str
) -> None:
    """Imports of one file at the same time share the work, and what each stored adds up."""
    await fill(conn, 1000)
    written = run("export", "--database", database).stdout
    await there.execute("BEGIN; LOCK TABLE assessment_responses IN SHARE MODE")
    processes = [started("import", "--database", elsewhere) for _ in range(2)]
    saying = [asyncio.to_thread(process.communicate, written) for process in processes]
    waiting = asyncio.gather(*saying)
    count = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while await there.fetchval(count) < 2:
        await asyncio.sleep(0.01)
    await there.execute("COMMIT")  # both have seen an empty table

    said = b"".join(stderr for _, stderr in await waiting)

    assert [process.returncode for process in processes] == [0, 0], said
    stored = [int(each.split()[1].replace(b",", b"")) for each in said.splitlines()]
    assert sum(stored) == 1000
    key = "question_id"
    assert sorted(r[key] for r, _ in await content(there)) == sorted(
        r[key] for r, _ in await content(conn)
    )
    assert await there.fetchval("SELECT count(*) FROM assessment_scores") == 500


@pytest.mark.parametrize("answer", [SECRET, "another"])
async def test_a_response_that_appears_meanwhile_is_looked_at(
    there: asyncpg.Connection[Any], elsewhere: str, answer: str
) -> None:
    """A key that somebody else stores during the statement is there, or taken, as any other."""
    key = uuid4()
    await there.execute("BEGIN")
    await there.execute(
        "INSERT INTO assessment_responses (submission_key, user_id, question_id, module_slug, "
        "answer_text) VALUES ($1, 1, 'q1', 'm1', $2)",
        key,
        answer,
    )
    process = started("import", "--database", elsewhere)
    given = line(submission_key=str(key)) + line()
    answered = asyncio.create_task(asyncio.to_thread(process.communicate, given))
    watcher = await asyncpg.connect(elsewhere)  # what a transaction sees of activity stands still
    await until_waiting_for_lock(watcher, await backend_of_command(watcher))
    await watcher.close()
    await there.execute("COMMIT")

    _, said = await answered

    if answer == SECRET:
        assert said == b"imported 1 responses with 0 scores; 1 were already there\n"
    else:
        assert said.startswith(b"line 1: submission_key: is taken by another answer\n1 responses")


async def test_what_was_claimed_meanwhile_stays_claimed(
    conn: asyncpg.Connection[Any],
    there: asyncpg.Connection[Any],
    database: str,
    elsewhere: str,
    token: UUID,
) -> None:
    """A response imported, then claimed, is already there, and its owner is the user."""
    await submit(conn, anonymous_token=token)
    written = run("export", "--database", database).stdout
    run("import", "--database", elsewhere, given=written)
    await assessments.claim_assessment_responses(there, anonymous_token=token, user_id=2)

    done = run("import", "--database", elsewhere, given=written)

    assert done.stderr == b"imported 0 responses with 0 scores; 1 were already there\n"
    assert [response["user_id"] for response, _ in await content(there)] == [2]


async def test_a_key_is_the_same_in_every_export(
    conn: asyncpg.Connection[Any], database: str, elsewhere: str, user_id: int, token: UUID
) -> None:
    """A response without a key gets the same one before and after a claim and an import."""
    await submit_all(conn, ("q1", "q2"), anonymous_token=token)
    before = [each["submission_key"] for each in exported(database)]
    await assessments.claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
    written = run("export", "--database", database).stdout
    run("import", "--database", elsewhere, given=written)

    assert [each["submission_key"] for each in exported(database)] == before
    assert [each["submission_key"] for each in exported(elsewhere)] == before
    assert len(set(before)) == 2


async def test_what_was_lost_is_brought_back_where_it_was(
    conn: asyncpg.Connection[Any], database: str
) -> None:
    """An import into the database exported from stores only what is not there any more."""
    await fill(conn, 3)
    written = run("export", "--database", database).stdout
    await conn.execute("DELETE FROM assessment_responses WHERE question_id = 'q2'")

    done = run("import", "--database", database, given=written)

    assert done.stderr == b"imported 1 responses with 1 scores; 2 were already there\n"
    assert [response["question_id"] for response, _ in await content(conn)] == ["q1", "q3", "q2"]


async def test_what_is_there_twice_is_there(
    conn: asyncpg.Connection[Any], there: asyncpg.Connection[Any], database: str, elsewhere: str
) -> None:
    """A row with the key and the very row exported, both in one database, count once."""
    await fill(conn, 1)
    await there.execute("ALTER TABLE assessment_responses ALTER response_id RESTART WITH 100")
    written = run("export", "--database", database).stdout
    run("import", "--database", elsewhere, given=written)
    await there.execute(
        "INSERT INTO assessment_responses (response_id, anonymous_token, question_id, "
        "module_slug, answer_text, created_at) OVERRIDING SYSTEM VALUE SELECT 1, anonymous_token, "
        "question_id, module_slug, answer_text, created_at FROM assessment_responses"
    )

    done = run("import", "--database", elsewhere, given=written)

    assert done.stderr == b"imported 0 responses with 0 scores; 1 were already there\n"


async def test_an_import_that_is_kept_from_storing_ends(
    there: asyncpg.Connection[Any], elsewhere: str
) -> None:
    """Where a trigger of the host's drops rows, it says which lines, and does not try for ever."""
    await there.execute(
        """
        CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER drop_row BEFORE INSERT ON assessment_responses
        FOR EACH ROW EXECUTE FUNCTION drop_row();
        """
    )

    done = run("import", "--database", elsewhere, given=line() + line())

    assert done.returncode == 1
    assert done.stderr.startswith(b"lines 1 to 2: something keeps PostgreSQL from storing all\n")


@pytest.mark.parametrize("name", ["question_id", "module_slug", "answer_text"])
@pytest.mark.parametrize("together", [False, True])
async def test_a_key_that_is_taken_by_another_answer_is_an_error(
    there: asyncpg.Connection[Any], elsewhere: str, name: str, *, together: bool
) -> None:
    """The line is named, and nothing of its batch is stored."""
    key = str(uuid4())
    taken, changed = line(submission_key=key), line(submission_key=key, **{name: SECRET + "!"})
    batches = [taken + line() + changed] if together else [taken, line() + line() + changed]

    done = [run("import", "--database", elsewhere, given=given) for given in batches][-1]

    assert done.returncode == 1
    assert done.stderr == (
        b"line 3: submission_key: is taken by another answer\n"
        b"0 responses were stored before; run it again, what is there is not stored twice\n"
    )
    stored = await there.fetchval("SELECT count(*) FROM assessment_responses")
    assert stored == (0 if together else 1)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"{\n", "is not JSON"),
        (b'{"answer_text": "' + SECRET.encode(), "is not JSON"),
        (b"9" * 5000 + b"\n", "is not JSON"),
        (b"\xff\n", "is not UTF-8"),
        (b"[" * 100_000 + b"\n", "is nested too deep"),
        (b"[]\n", "is not a JSON object"),
        (b"x" * (64 * 1024 * 1024 + 1), "must not exceed 67108864 bytes"),
        (
            line(**{SECRET: 1}),
            "may have no other keys than response_id, anonymous_token, user_id, question_id",
        ),
        (line(question_id=...), "question_id: is missing"),
        (line(scores=...), "scores: is missing"),
        (line(submission_key=None), "submission_key: must be a UUID or its string of 36"),
        (line(response_id=SECRET), "response_id: must be an int"),
        (line(user_id=1), "user_id: give exactly one of user_id and anonymous_token, not both"),
        (line(anonymous_token=...), "user_id: user_id or anonymous_token is needed"),
        (line(anonymous_token=str(UUID(int=0))), "anonymous_token: must not be the nil UUID"),
        (line(question_id=""), "question_id: must not be empty"),
        (line(answer_text=17), "answer_text: must be a str"),
        (line(answer_text="\0"), "answer_text: must not contain a NUL character"),
        (line(answer_text="\ud800"), "answer_text: must not contain a lone surrogate"),
        (line(answer_metadata=[]), "answer_metadata: must be a dict"),
        (line(answer_metadata={"a": float("nan")}), "answer_metadata: must not contain NaN"),
        (line(created_at="2026-11-01T12:00:00"), "created_at: must be a moment in ISO 8601"),
        (line(created_at=SECRET), "created_at: must be a moment in ISO 8601"),
        (line(created_at=5), "created_at: must be a moment in ISO 8601"),
        (line(scores={}), "scores: must be a list"),
        (line(scores=[SECRET]), "scores[0]: is not a JSON object"),
        (line(scores=score(score_data=...)), "scores[1].score_data: is missing"),
        (line(scores=score(score_data="x")), "scores[1].score_data: must be a dict"),
        (line(scores=score(model_id="")), "scores[1].model_id: must not be empty"),
        (line(scores=score(created_at="")), "scores[1].created_at: must be a moment"),
        (line(scores=score(score=1)), "scores[1]: may have no other keys than score_data"),
        (
            line(user_id=77, anonymous_token=None),
            "there is no such user in the host's users table",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "line",
)
async def test_a_bad_line_is_named_and_not_quoted(
    there: asyncpg.Connection[Any], elsewhere: str, bad: bytes, problem: str
) -> None:
    """The error names the line and the field; what stood there is not said, nor stored."""
    done = run("import", "--database", elsewhere, given=line() + b"\n" + bad)

    assert done.returncode == 1
    first, second = done.stderr.decode().splitlines()
    assert first.startswith(f"line 3: {problem}")
    assert second.startswith("0 responses were stored before; run it again")
    assert SECRET not in done.stderr.decode()
    assert await there.fetchval("SELECT count(*) FROM assessment_responses") == 0


async def test_batches_before_a_bad_line_stay(
    there: asyncpg.Connection[Any], elsewhere: str
) -> None:
    """It says how many were stored before the error; mended, the file goes on from there."""
    good = [line(question_id=f"q{number}") for number in range(600)]

    done = run("import", "--database", elsewhere, given=b"".join(good) + b"{}")
    assert done.stderr.splitlines()[0] == b"line 601: submission_key: is missing"
    assert done.stderr.splitlines()[1].startswith(b"500 responses were stored before; run it again")

    done = run("import", "--database", elsewhere, given=b"".join(good))
    assert done.stderr == b"imported 100 responses with 0 scores; 500 were already there\n"
    stored = [response["question_id"] for response, _ in await content(there)]
    assert stored == [f"q{number}" for number in range(600)]


async def test_a_file_is_read_by_its_name(
    there: asyncpg.Connection[Any], elsewhere: str, tmp_path: Path
) -> None:
    """FILE stands for standard input; one that is not there is an error, and a dash is stdin."""
    path = tmp_path / "responses.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line().rstrip())  # as some editors leave it

    assert run("import", "--database", elsewhere, path).returncode == 0
    assert run("import", "--database", elsewhere, "-", given=line()).returncode == 0
    missing = run("import", "--database", elsewhere, tmp_path / "nowhere")

    assert missing.returncode == 1
    assert b"nowhere: No such file or directory\n" in missing.stderr
    assert await there.fetchval("SELECT count(*) FROM assessment_responses") == 2


async def test_filters_choose_what_is_exported(
    conn: asyncpg.Connection[Any], database: str, user_id: int, token: UUID
) -> None:
    """Each option narrows the export, and both owners together mean either."""
    await submit(conn, "q1", user_id=user_id)
    await submit(conn, "q2", anonymous_token=token, module_slug="m2")
    await submit(conn, "q3", anonymous_token=uuid4())
    await conn.execute(
        "UPDATE assessment_responses SET created_at = '2026-11-01 12:00+00' WHERE "
        "question_id = 'q3'"
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
    }.items():
        found = [each["question_id"] for each in exported(database, *arguments)]
        assert found == questions, arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ("--user-id", "x"),
        ("--user-id", "0"),
        ("--anonymous-token", SECRET),
        ("--module", ""),
        ("--since", "2026-11-01"),
        ("--until", "yesterday"),
        ("--database", ""),
    ],
)
def test_a_bad_option_is_a_usage_error(arguments: tuple[str, str]) -> None:
    """It exits with 2, names the option and does not repeat what was given."""
    done = run("export", "--database", "postgresql://", *arguments)

    assert done.returncode == 2
    assert f"error: argument {arguments[0]}: must" in done.stderr.decode()
    assert SECRET not in done.stderr.decode()


@pytest.mark.parametrize("name", ["export", "import", "purge"])
def test_a_command_without_a_database_is_a_usage_error(name: str) -> None:
    """Without --database and DATABASE_URL there is nothing to work on."""
    done = run(name, *(("--older-than", "1d") if name == "purge" else ()))

    assert done.returncode == 2
    assert b"required: --database" in done.stderr


async def test_a_reader_may_go_early(conn: asyncpg.Connection[Any], database: str) -> None:
    """As in ``export | head``: it ends quietly, with the status of a broken pipe."""
    await fill(conn, 2000)
    process = started("export", "--database", database)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().startswith(b"{")
    process.stdout.close()

    assert process.wait(30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.stdin
    process.stdin.close()


async def test_progress_is_for_those_who_watch(
    conn: asyncpg.Connection[Any], database: str, elsewhere: str
) -> None:
    """On a terminal a count runs and the sum stays; in a pipe there is nothing but the sum."""
    await fill(conn, 700)
    written = run("export", "--database", database)

    assert written.stderr == b""
    said = said_on_a_terminal("export", "--database", database)
    assert b"700 responses exported" in said
    assert said.endswith(b"exported 700 responses\r\n")
    said = said_on_a_terminal("import", "--database", elsewhere, given=written.stdout)
    assert b"responses imported" in said
    assert said.endswith(b"imported 700 responses with 350 scores; 0 were already there\r\n")


async def test_a_file_appears_when_it_is_complete(
    conn: asyncpg.Connection[Any], database: str, tmp_path: Path
) -> None:
    """With --output the file before it stays until the new one, for its owner only, is whole."""
    await fill(conn, 3)
    path = tmp_path / "out.jsonl"
    path.write_text("before")

    done = run("export", "--database", database, "--output", path)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert path.read_bytes() == run("export", "--database", database).stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == {"out.jsonl"}


@pytest.mark.parametrize(
    ("ending", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9), (None, 1)],
    ids=["SIGTERM", "Ctrl-C", "SIGKILL", "lost"],
)
async def test_an_export_that_ends_early_leaves_the_file_before_it(
    *,
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    database: str,
    tmp_path: Path,
    ending: signal.Signals | None,
    status: int,
) -> None:
    """However it ends, FILE is what it was, and only kill -9 leaves FILE.part behind."""
    await fill(conn, 3)
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    await conn.execute("BEGIN; LOCK TABLE assessment_responses")
    process = started(
        "export",
        "--database",
        database,
        "--output",
        path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    blocked = await backend_of_command(other)
    await until_waiting_for_lock(other, blocked)
    assert names(tmp_path) == {"out.jsonl", "out.jsonl.part"}

    if ending:
        process.send_signal(ending)
    else:
        await other.execute("SELECT pg_terminate_backend($1)", blocked)
    _, said = process.communicate(timeout=30)
    await conn.execute("ROLLBACK")

    assert process.returncode == status
    assert b"Traceback" not in said
    assert path.read_text() == "before"
    assert path.with_name("out.jsonl.part").exists() == (ending == signal.SIGKILL)


@pytest.mark.parametrize("output", ["nowhere/out.jsonl", "."])
async def test_an_output_that_cannot_be_written_is_an_error(
    database: str, tmp_path: Path, output: str
) -> None:
    """It says so in one line."""
    done = run("export", "--database", database, "--output", tmp_path / output)

    assert done.returncode == 1
    assert done.stderr.startswith(b"--output: ")
    assert done.stderr.count(b"\n") == 1
    assert names(tmp_path) == set()


async def test_a_full_disk_is_an_error(conn: asyncpg.Connection[Any], database: str) -> None:
    """What cannot be written is said in one line."""
    await fill(conn, 3)
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 - a device
        process = started("export", "--database", database, stdout=full)
    _, said = process.communicate(timeout=30)

    assert (process.returncode, said) == (1, b"cannot write: No space left on device\n")


async def test_ctrl_c_ends_an_import_that_waits_for_input(
    there: asyncpg.Connection[Any], elsewhere: str
) -> None:
    """It does not wait for the next line, and says what is stored."""
    process = started(
        "import",
        "--database",
        elsewhere,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin
    process.stdin.write(b"".join(line() for _ in range(501)))
    process.stdin.flush()
    while not await there.fetchval("SELECT count(*) FROM assessment_responses"):
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)

    assert process.wait(10) == 130
    assert process.stderr
    said = process.stderr.read()
    assert said.startswith(b"500 responses were stored before; run it again")
    assert said.endswith(b"\ninterrupted\n")
    for pipe in (process.stdout, process.stderr):
        assert pipe
        pipe.close()
    with suppress(BrokenPipeError):  # the end of the last line may still be here
        process.stdin.close()


async def test_a_server_that_goes_is_an_error(
    there: asyncpg.Connection[Any], elsewhere: str
) -> None:
    """A connection that is cut in the middle of an import ends it in one line and the sum."""
    await there.execute("BEGIN; LOCK TABLE assessment_responses")
    process = started("import", "--database", elsewhere)
    answered = asyncio.create_task(asyncio.to_thread(process.communicate, line()))
    administrator = await asyncpg.connect(elsewhere)
    await administrator.execute(
        "SELECT pg_terminate_backend($1)", await backend_of_command(administrator)
    )
    _, said = await answered
    await there.execute("ROLLBACK")
    await administrator.close()

    assert process.returncode == 1
    first, second = said.splitlines()
    assert first.startswith(b"no connection to the server: connection was closed in the middle")
    assert second.startswith(b"0 responses were stored before; run it again")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "--database: not a postgresql:// URL"),
        ("mysql://u:hunter2@h/d", "--database: not a postgresql:// URL"),
        ("postgresql://u:hunter2#s@h/d", "--database: not a postgresql:// URL"),
        ("postgresql://u:hunter2@[::1/d", "--database: not a postgresql:// URL"),
        ("postgresql://u:hunter2@h:port/d", "--database: not a postgresql:// URL"),
        ("postgresql://u:hunter2@127.0.0.1:1/d", "no connection to the server: Connection ref"),
        ("postgresql://u:hunter2@/d?host=/nowhere", "no connection to the server: No such file"),
        ("postgresql://u:hunter2@no.invalid/d", "no connection to the server: "),
    ],
)
@pytest.mark.parametrize("name", ["export", "import"])
def test_a_server_that_is_not_there_is_an_error(name: str, url: str, said: str) -> None:
    """One line says what is wrong with the URL or the way to the server, without the password."""
    done = run(name, "--database", url)

    assert done.returncode == 1
    assert done.stderr.decode().startswith(said)
    assert done.stderr.count(b"\n") == 1
    assert b"hunter2" not in done.stderr


@contextmanager
def refusing(code: str, message: str) -> Iterator[int]:
    """Listen as a server that refuses everybody; yield the port."""
    fields = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("28P01", "password authentication failed for user", "PostgreSQL says: password auth"),
        ("53300", "too many connections", "PostgreSQL says: too many connections"),
        ("22P02", SECRET, "PostgreSQL refused with SQLSTATE 22P02"),
    ],
)
def test_a_server_that_refuses_is_an_error(code: str, message: str, said: str) -> None:
    """What PostgreSQL says is passed on, unless it could quote somebody's data."""
    with refusing(code, message) as port:
        done = run(
            "export", "--database", f"postgresql://u:hunter2@127.0.0.1:{port}/d?sslmode=disable"
        )

    assert done.returncode == 1
    assert done.stderr.decode().startswith(said)
    assert done.stderr.count(b"\n") == 1
    assert SECRET.encode() not in done.stderr


async def test_a_database_that_is_not_ready_is_an_error(
    conn: asyncpg.Connection[Any], empty_database: str, database: str, server: str
) -> None:
    """No such database, no migrations, no rights: each is said, with what to do or which table."""
    role = f"assessments_{uuid4().hex}"
    await conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")
    parts = urlsplit(database)
    place = parts.netloc.rpartition("@")[2]
    poor = parts._replace(netloc=f"{role}:hunter2@{place}").geturl()
    try:
        for url, said in {
            database_url(server, "nowhere"): 'database "nowhere" does not exist',
            empty_database: 'relation "assessment_responses" does not exist: apply the migrations',
            poor: "permission denied for table assessment_responses",
        }.items():
            for name in ("export", "import"):
                done = run(name, "--database", url, given=line())
                assert done.returncode == 1
                assert said in done.stderr.decode().splitlines()[0]
                assert b"Traceback" not in done.stderr
    finally:
        await conn.execute(f"DROP ROLE {role}")
