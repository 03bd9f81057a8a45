"""Whatever fails, no error and no log line tells an answer, a score, a token or a submission key.

Local variables hold them, of course: what prints the variables of every frame shows them.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import backoffice
from tests.calls.test_validation import GOOD, SURROGATE, called
from tests.helpers.commands import run
from tests.helpers.jsonl import line, score
from tests.helpers.observe import everything_shown, until_waiting_for_lock
from tests.helpers.rows import SECRET, submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Calls = dict[str, Callable[[Any], Awaitable[Any]]]

TOKEN = UUID("5ec2e700-70ce-4000-8000-00000000a11e")
KEY = UUID("5ec2e7ce-4e19-4000-8000-00000000b0b0")
CONTENT = UUID("5ec2e7c0-4e19-4000-8000-00000000c0c0")
METADATA = {"metadata that nobody may see": ["nor this"]}
SCORE = {"score that nobody may see": "nor that"}
HIDDEN = [
    *(SECRET, "nobody may see", "nor this", "nor that"),
    *(text for uuid in (TOKEN, KEY) for text in (str(uuid), uuid.hex, str(uuid.int))),
]
WRITES = {
    "submit_response",
    "submit_response with a key",
    "submit_responses",
    "submit_responses with keys",
}
SCORES = {"record_score", "record_scores"}


def keeps(*shown: object) -> None:
    """Check that nothing hidden is in the texts *shown*, or in all that a log of errors tells."""
    for each in shown:
        text = everything_shown(each) if isinstance(each, BaseException) else str(each)
        assert [secret for secret in HIDDEN if secret in text] == []


@pytest.fixture(autouse=True)
async def logged(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Log all that anybody says, with asyncio in debug mode, and find nothing hidden in it."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    yield
    for record in caplog.get_records("call"):
        keeps(logging.Formatter().format(record), vars(record))


@pytest.fixture
async def calls(conn: asyncpg.Connection[Any], user_id: int) -> Calls:
    """Return a call of every function, by what it is, with secrets in all that takes one."""
    stored = await submit(conn, anonymous_token=TOKEN, answer_text=SECRET)
    key = stored["response_id"]
    await backoffice.record_score(conn, response_id=key, score_data=SCORE)
    await submit(conn, anonymous_token=uuid4(), answer_text=f"{SECRET}!")
    return all_calls(user_id, key)


def all_calls(user_id: int, response_id: int) -> Calls:
    """Return a call of every function with these keys."""
    owners: dict[str, Any] = {"user_id": user_id, "anonymous_token": TOKEN}
    response: dict[str, Any] = {
        "anonymous_token": TOKEN,
        "question_id": "q1",
        "module_slug": "m1",
        "content_id": CONTENT,
        "answer_text": SECRET,
        "answer_metadata": METADATA,
    }
    once = {**response, "submission_key": KEY}
    new: Any = [response]
    new_once: Any = [once]
    scored: Any = {"response_id": response_id, "score_data": SCORE}

    async def walk(conn: Any) -> None:
        async for _ in backoffice.iter_responses(conn, **owners):
            pass

    return {
        "submit_response": lambda conn: assessments.submit_response(conn, **response),
        "submit_response with a key": lambda conn: assessments.submit_response(conn, **once),
        "submit_responses": lambda conn: assessments.submit_responses(conn, new),
        "submit_responses with keys": lambda conn: assessments.submit_responses(conn, new_once),
        "get_responses": lambda conn: assessments.get_responses(conn, **owners),
        "get_responses_with_latest_score": lambda conn: assessments.get_responses_with_latest_score(
            conn, **owners
        ),
        "get_responses_for_question": lambda conn: assessments.get_responses_for_question(
            conn, **owners, question_id="q1"
        ),
        "get_latest_responses": lambda conn: assessments.get_latest_responses(conn, **owners),
        "claim_assessment_responses": lambda conn: assessments.claim_assessment_responses(
            conn, **owners
        ),
        "get_scores": lambda conn: assessments.get_scores(conn, **owners, response_id=response_id),
        "record_score": lambda conn: backoffice.record_score(conn, **scored),
        "record_scores": lambda conn: backoffice.record_scores(conn, [scored]),
        "get_unscored_responses": backoffice.get_unscored_responses,
        "iter_responses": walk,
        "delete_responses": lambda conn: assessments.delete_responses(conn, **owners),
        "purge_anonymous_responses": lambda conn: backoffice.purge_anonymous_responses(
            conn, older_than=timedelta(microseconds=1)
        ),
    }


async def failures(calls: Calls, conn: Any) -> dict[str, BaseException]:
    """Return what each of *calls* that fails raises, having found nothing hidden in it."""
    raised: dict[str, BaseException] = {}
    for name, call in calls.items():
        try:
            await call(conn)
        except Exception as error:  # noqa: BLE001, PERF203 - whatever is raised
            keeps(error)
            raised[name] = error
    return raised


def test_every_public_function_is_called() -> None:
    """The table of calls leaves no function out."""
    functions = {
        name
        for module in (assessments, backoffice)
        for name in module.__all__
        if name.islower() and name not in ("backoffice", "create_pool")
    }

    assert {name.split()[0] for name in all_calls(1, 1)} == functions


def trigger(body: str, table: str = "responses", event: str = "INSERT OR UPDATE") -> str:
    """Return SQL that runs *body* before each row of *table* is written."""
    return (
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ DECLARE found int; BEGIN {body}; RETURN NEW; END $$; "
        f"CREATE TRIGGER refuse BEFORE {event} ON assessment_{table} "
        f"FOR EACH ROW EXECUTE FUNCTION refuse()"
    )


RESPONSES = "ALTER TABLE assessment_responses"
REFUSALS: dict[str, tuple[str, str, set[str]]] = {
    "CHECK on the answer": (
        f"{RESPONSES} ADD CONSTRAINT brief CHECK (length(answer_text) < 5) NOT VALID",
        "23514",
        WRITES | {"claim_assessment_responses"},
    ),
    "CHECK on the score": (
        "ALTER TABLE assessment_scores ADD CHECK (score_data ? 'points') NOT VALID",
        "23514",
        SCORES,
    ),
    "NOT NULL": (
        (
            f"{RESPONSES} ADD COLUMN grade int DEFAULT 1 NOT NULL; "
            f"{RESPONSES} ALTER COLUMN grade DROP DEFAULT"
        ),
        "23502",
        WRITES,
    ),
    "foreign key on the token": (
        (
            "CREATE TABLE visitors (token uuid PRIMARY KEY); "
            f"{RESPONSES} ADD FOREIGN KEY (anonymous_token) REFERENCES visitors NOT VALID"
        ),
        "23503",
        WRITES,
    ),
    "foreign key on the content": (
        (
            "CREATE TABLE contents (content_id uuid PRIMARY KEY); "
            f"{RESPONSES} ADD FOREIGN KEY (content_id) REFERENCES contents NOT VALID"
        ),
        "23503",
        WRITES,
    ),
    "unique": (f"{RESPONSES} ADD UNIQUE (anonymous_token, question_id)", "23505", WRITES),
    "unique, deferred": (
        f"{RESPONSES} ADD UNIQUE (anonymous_token, answer_text) INITIALLY DEFERRED",
        "23505",
        WRITES,
    ),
    "exclusion": (f"{RESPONSES} ADD EXCLUDE (answer_text WITH =)", "23P01", WRITES),
    "index of a cast": (
        "CREATE INDEX ON assessment_responses ((answer_text::int)) WHERE response_id > 2",
        "22P02",
        WRITES,
    ),
    "short column": (
        f"{RESPONSES} ALTER answer_text TYPE varchar(5) USING 'short'",
        "22001",
        WRITES,
    ),
    "domain with a CHECK": (
        (
            "CREATE DOMAIN brief AS text CHECK (length(value) < 5); "
            f"{RESPONSES} ALTER answer_text TYPE brief USING 'text'"
        ),
        "23514",
        WRITES,
    ),
    "view with a check": (
        (
            "ALTER TABLE assessment_responses RENAME TO stored; "
            "CREATE VIEW assessment_responses AS "
            "SELECT * FROM stored WHERE answer_text < 'a' WITH CHECK OPTION"
        ),
        "44000",
        {"submit_response", "submit_responses"},
    ),
    "trigger's cast": (trigger("found := NEW.answer_text::int"), "22P02", WRITES),
    "trigger's search": (trigger("PERFORM to_tsquery(NEW.answer_text || ' !')"), "42601", WRITES),
    "trigger's look-up": (trigger("PERFORM NEW.answer_text::regclass"), "42P01", WRITES),
    "trigger's text of SQL": (
        trigger("EXECUTE format('SELECT %L::int', NEW.answer_text) INTO found"),
        "22P02",
        WRITES,
    ),
    "trigger's strict query": (
        trigger(
            "DECLARE answer text := NEW.answer_text; "
            "BEGIN SELECT 1 INTO STRICT found WHERE answer = ''; END"
        ).replace("$$ DECLARE", "$$ #print_strict_params on\nDECLARE", 1),
        "P0002",
        WRITES,
    ),
    "trigger's own words": (
        trigger(
            "RAISE EXCEPTION 'the host refuses' USING DETAIL = NEW::text, HINT = NEW.answer_text"
        ),
        "P0001",
        WRITES,
    ),
    "trigger's own words on a score": (
        trigger("RAISE 'the host refuses' USING DETAIL = NEW, ERRCODE = '23514'", "scores"),
        "23514",
        SCORES,
    ),
    "trigger's own words on a deletion": (
        trigger("RAISE 'the host refuses' USING DETAIL = OLD", event="DELETE"),
        "P0001",
        {"delete_responses", "purge_anonymous_responses"},
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_the_host_s_database_refuses_is_not_quoted(
    conn: asyncpg.Connection[Any], calls: Calls, refusal: str
) -> None:
    """Constraints, casts and triggers of the host's fail as PostgreSQL's errors, without values."""
    added, sqlstate, refused = REFUSALS[refusal]
    await conn.execute(added)

    raised = await failures(calls, conn)

    assert refused <= raised.keys()
    assert {raised[name].sqlstate for name in refused} == {sqlstate}  # type: ignore[attr-defined]
    if "own words" in refusal:
        assert {str(raised[name]) for name in refused} == {"the host refuses"}


async def test_a_lock_that_is_not_had_tells_nothing(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], calls: Calls
) -> None:
    """Timeouts of the server's come without parameters, even where it is set to report them."""
    await conn.execute("SET log_parameter_max_length_on_error = -1")
    for setting, value, error in (
        ("lock_timeout", "20ms", asyncpg.LockNotAvailableError),
        ("statement_timeout", "200ms", asyncpg.QueryCanceledError),  # RESET runs under it as well
    ):
        await conn.execute(f"SET {setting} = '{value}'")
        async with other.transaction():
            await other.execute("LOCK TABLE assessment_responses, assessment_scores")
            raised = await failures(calls, conn)
        await conn.execute(f"RESET {setting}")

        assert {type(each) for each in raised.values()} == {error}
        assert raised.keys() == calls.keys()


@pytest.mark.parametrize("end", ["cancelled", "timed out", "terminated"])
async def test_a_call_that_ends_while_it_waits_tells_nothing(
    conn: asyncpg.Connection[Any],
    other: asyncpg.Connection[Any],
    calls: Calls,
    database: str,
    end: str,
) -> None:
    """A call cancelled, timed out by its caller or cut off by the server says no more than that."""
    async with other.transaction():
        await other.execute("LOCK TABLE assessment_responses, assessment_scores")
        for call in calls.values():
            connection = await asyncpg.connect(database)
            task = asyncio.ensure_future(call(connection))
            pid = connection.get_server_pid()
            await until_waiting_for_lock(conn, pid)
            if end == "cancelled":
                task.cancel()
            elif end == "terminated":
                await conn.execute("SELECT pg_terminate_backend($1)", pid)
            ended = asyncio.wait_for(task, 0.01 if end == "timed out" else 20)
            raised: Any = (await asyncio.gather(ended, return_exceptions=True))[0]
            connection.terminate()
            assert isinstance(raised, BaseException)
            keeps(raised)


@pytest.mark.parametrize(
    ("change", "error", "spared"),
    [
        (
            (
                "ALTER TABLE assessment_responses RENAME TO r;"
                "ALTER TABLE assessment_scores RENAME TO s"
            ),
            asyncpg.UndefinedTableError,
            set(),
        ),
        (
            (
                "ALTER TABLE assessment_responses RENAME question_id TO q;"
                "ALTER TABLE assessment_scores RENAME score_data TO s"
            ),
            asyncpg.UndefinedColumnError,
            {"delete_responses", "purge_anonymous_responses"},
        ),
        (
            "DROP INDEX idx_assessment_responses_submission_key",
            asyncpg.InvalidColumnReferenceError,
            ...,
        ),
        ("SET ROLE pg_monitor", asyncpg.InsufficientPrivilegeError, set()),
        ("SET default_transaction_read_only = on", asyncpg.ReadOnlySQLTransactionError, ...),
    ],
    ids=["no table", "no column", "no index", "no rights", "read-only"],
)
async def test_a_database_that_does_not_fit_is_named_without_values(
    conn: asyncpg.Connection[Any], calls: Calls, change: str, error: type, spared: Any
) -> None:
    """What is missing is said in PostgreSQL's own words, which name tables, columns and rights."""
    await conn.execute(change)

    raised = await failures(calls, conn)

    assert {type(each) for each in raised.values()} == {error}
    assert spared is ... or raised.keys() == calls.keys() - spared
    assert not any("left out" in str(each) for each in raised.values())


async def test_a_lost_or_wrong_connection_is_told_without_values(
    database: str, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    """A closed connection or pool, one in use, and what is no connection: each call says so."""
    pool = await asyncpg.create_pool(database, min_size=1, max_size=1)
    released = await pool.acquire()
    await pool.release(released)
    await pool.close()
    closed = await asyncpg.connect(database)
    await closed.close()
    busy = await asyncpg.connect(database)
    sleeping = asyncio.ensure_future(busy.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)

    for connection in (closed, pool, released, busy, None, database, object(), Exception):
        raised = await failures(calls, connection)
        assert raised.keys() == calls.keys()
    sleeping.cancel()
    await asyncio.gather(sleeping, return_exceptions=True)
    busy.terminate()
    assert "asyncio" in {record.name for record in caplog.records}  # so there is what to look at


async def test_what_the_connection_cannot_encode_is_not_quoted(database: str) -> None:
    """Where the client encoding lacks a letter, alone and in batches, asyncpg's error is blank."""
    connection = await asyncpg.connect(database, server_settings={"client_encoding": "latin1"})
    arrow: dict[str, Any] = {
        "anonymous_token": TOKEN,
        "question_id": "q1",
        "module_slug": "m1",
        "answer_text": f"{SECRET} \u2192",
        "answer_metadata": METADATA,
    }
    scored: Any = {"response_id": 1, "score_data": {**SCORE, "\u2192": SECRET}}
    many: Any = [arrow]
    many_once: Any = [{**arrow, "submission_key": KEY}]

    for call in (
        assessments.submit_response(connection, **arrow),
        assessments.submit_response(connection, **arrow, submission_key=KEY),
        assessments.submit_responses(connection, many),
        assessments.submit_responses(connection, many_once),
        backoffice.record_score(connection, **scored),
        backoffice.record_scores(connection, [scored]),
    ):
        with pytest.raises(asyncpg.DataError) as raised:
            await call
        keeps(raised.value)
    await connection.close()


async def test_errors_of_the_library_s_own_name_nothing(
    conn: asyncpg.Connection[Any], calls: Calls
) -> None:
    """Unknown users and responses, a taken key and an unsafe claim are told without values."""
    unknown = all_calls(10**9, 10**9)
    await calls["submit_response with a key"](conn)
    await conn.execute(
        "UPDATE assessment_responses SET answer_text = 'other' WHERE submission_key IS NOT NULL"
    )

    raised = await failures(unknown, conn)
    async with conn.transaction(isolation="repeatable_read"):
        raised |= await failures({"unsafe claim": calls["claim_assessment_responses"]}, conn)

    assert {name: type(error) for name, error in raised.items()} == {
        "submit_response with a key": assessments.SubmissionConflict,
        "submit_responses with keys": assessments.SubmissionConflict,
        "record_score": assessments.UnknownResponse,
        "record_scores": assessments.UnknownResponse,
        "claim_assessment_responses": assessments.UnknownUser,
        "unsafe claim": assessments.UnsafeIsolation,
    }


async def test_a_serialization_failure_names_nothing(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], calls: Calls
) -> None:
    """A key that another transaction stores after this one's snapshot: PostgreSQL's error, bare."""
    for name in ("submit_response with a key", "submit_responses with keys"):
        async with conn.transaction(isolation="repeatable_read"):
            await conn.fetchval("SELECT count(*) FROM assessment_responses")
            await calls[name](other)
            raised = await failures({name: calls[name]}, conn)
        assert type(raised[name]) is asyncpg.SerializationError
        await other.execute("DELETE FROM assessment_responses")


BAD_VALUES: list[Any] = [
    SECRET,
    f"{SECRET}\0",
    SECRET + SURROGATE,
    SECRET * 50_000,
    SECRET.encode(),
    [SECRET],
    (SECRET, SECRET),
    {SECRET: 1},
    {SECRET: f"{SECRET}\0"},
    {f"{SECRET}\0": 1},
    {(SECRET,): 1},
    {SECRET: (SECRET,)},
    {SECRET: [SECRET + SURROGATE]},
    {SECRET: SECRET * 10_000},
    [{SECRET: SECRET}],
    UUID(int=0),
    Exception(SECRET),
]


async def test_bad_input_is_not_quoted(conn: asyncpg.Connection[Any]) -> None:
    """Whatever argument a secret is put into by mistake, the refusal names the argument alone."""
    bad: Calls = {
        f"{function}, {parameter}, {number}": partial(
            called, function, arguments={**good, parameter: value}
        )
        for function, good in GOOD.items()
        for parameter in good
        for number, value in enumerate(BAD_VALUES)
    }
    async with conn.transaction():
        raised = await failures(bad, conn)

    refused = [each for each in raised.values() if isinstance(each, assessments.InvalidInput)]
    assert {type(each) for each in raised.values()} - {assessments.InvalidInput} <= {
        assessments.UnknownUser,
        assessments.UnknownResponse,
    }
    assert len(refused) > 500


@pytest.mark.parametrize(
    ("refusal", "arguments"),
    [
        ("trigger's own words", ["import"]),
        ("CHECK on the score", ["import"]),
        ("trigger's own words on a deletion", ["purge", "--older-than=1h", "--yes"]),
    ],
)
async def test_a_command_that_the_database_refuses_prints_no_value(
    conn: asyncpg.Connection[Any], database: str, refusal: str, arguments: list[str]
) -> None:
    """Standard error says which lines were refused and PostgreSQL's SQLSTATE, and no more."""
    refuse, sqlstate, _ = REFUSALS[refusal]
    await submit(conn, anonymous_token=TOKEN, answer_text=SECRET)
    await conn.execute("UPDATE assessment_responses SET created_at = now() - interval '1 day'")
    await conn.execute(refuse)

    given = line(anonymous_token=str(TOKEN), submission_key=str(KEY), scores=score())
    done = await asyncio.to_thread(run, *arguments, "--database", database, given=given)

    assert done.returncode == 1
    assert sqlstate.encode() in done.stderr
    keeps(done.stdout.decode(), done.stderr.decode())
