"""Whatever fails, no error and no log record discloses an answer, score, token or submission key.

Local variables hold them: whatever prints the variables of every frame discloses them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments.backoffice import record_score
from tests.helpers.calls import ERASURES, KEY, RECORDS, SUBMITS, TOKEN, Call, Subject, catalogue
from tests.helpers.commands import run
from tests.helpers.jsonl import line, score
from tests.helpers.observe import everything_shown, until_waiting_for_lock
from tests.helpers.rows import SECRET, submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Connection = asyncpg.Connection[Any]

HIDDEN = [SECRET, *(form for uuid in (TOKEN, KEY) for form in (str(uuid), uuid.hex, str(uuid.int)))]
KEYED = {"submit_response with a key", "submit_responses with keys"}


def assert_discloses_nothing(*shown: object) -> None:
    """Check that nothing hidden is in the texts *shown*, or in all that a log shows of errors."""
    for each in shown:
        text = everything_shown(each) if isinstance(each, BaseException) else str(each)
        assert [secret for secret in HIDDEN if secret in text] == []


@pytest.fixture(autouse=True)
async def _logs(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Capture every log record, with asyncio in debug mode, and find nothing hidden in it."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    yield
    for record in caplog.get_records("call"):
        assert_discloses_nothing(logging.Formatter().format(record), vars(record))


@pytest.fixture
async def calls(conn: Connection, user_id: int) -> dict[str, Call]:
    """Return a call of every function, with secrets wherever it takes one, on rows of secrets."""
    stored = await submit(conn, anonymous_token=TOKEN, answer_text=SECRET)
    response_id = stored["response_id"]
    await record_score(conn, response_id=response_id, score_data={SECRET: SECRET})
    await submit(conn, anonymous_token=uuid4(), answer_text=f"{SECRET}!")
    return catalogue(Subject(user_id=user_id, response_id=response_id))


async def failure(call: Call, conn: Any, **changes: Any) -> Exception | None:
    """Return what *call* raises, having found nothing hidden in it."""
    try:
        await call(conn, **changes)
    except Exception as error:  # noqa: BLE001 - whatever is raised
        assert_discloses_nothing(error)
        return error
    return None


async def failures(calls: dict[str, Call], conn: Any) -> dict[str, Any]:
    """Return what each of *calls* that fails raises, having found nothing hidden in it."""
    raised = {name: await failure(call, conn) for name, call in calls.items()}
    return {name: error for name, error in raised.items() if error}


ALTER = "ALTER TABLE assessment_responses"
ADD = f"{ALTER} ADD CONSTRAINT of_the_host"
VIEW = "CREATE VIEW assessment_responses AS SELECT * FROM stored WHERE answer_text < 'a'"
DOMAIN = "CREATE DOMAIN brief AS text CONSTRAINT of_the_host CHECK (length(value) < 5)"
SCORES = "ALTER TABLE assessment_scores"
INDEX = "CREATE INDEX ON assessment_responses"
RAISE = "RAISE 'refused' USING DETAIL ="
STRICT = """
    DECLARE answer text := NEW.answer_text;
    BEGIN SELECT 1 INTO STRICT found WHERE answer = ''; END
"""


def trigger(body: str, table: str = "responses", event: str = "INSERT OR UPDATE") -> str:
    """Return SQL that runs *body* before each row of *table* is written."""
    return (
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ #print_strict_params on\nDECLARE found int; BEGIN {body}; RETURN NEW; END $$; "
        f"CREATE TRIGGER refuse BEFORE {event} ON assessment_{table} "
        f"FOR EACH ROW EXECUTE FUNCTION refuse()"
    )


def foreign_key(column: str) -> str:
    """Return SQL that has *column* refer to a table of the host's."""
    table = "CREATE TABLE host (id uuid PRIMARY KEY)"
    return f"{table}; {ADD} FOREIGN KEY ({column}) REFERENCES host NOT VALID"


REFUSALS: dict[str, tuple[str, str]] = {
    "CHECK on the answer": ("23514", f"{ADD} CHECK (length(answer_text) < 5) NOT VALID"),
    "CHECK on the score": ("23514", f"{SCORES} ADD CHECK (score_data ? 'points') NOT VALID"),
    "NOT NULL": ("23502", f"{ALTER} ADD n int DEFAULT 1 NOT NULL; {ALTER} ALTER n DROP DEFAULT"),
    "foreign key on the token": ("23503", foreign_key("anonymous_token")),
    "foreign key on the content": ("23503", foreign_key("content_id")),  # and no UnknownUser
    "unique": ("23505", f"{ADD} UNIQUE (anonymous_token, question_id)"),
    "unique, deferred": (
        "23505",
        f"{ADD} UNIQUE (answer_text, anonymous_token) INITIALLY DEFERRED",
    ),
    "exclusion": ("23P01", f"{ADD} EXCLUDE (answer_text WITH =)"),
    "index of a cast": ("22P02", f"{INDEX} ((answer_text::int)) WHERE response_id > 2"),
    "short column": ("22001", f"{ALTER} ALTER answer_text TYPE varchar(5) USING 'short'"),
    "domain with a CHECK": ("23514", f"{DOMAIN}; {ALTER} ALTER answer_text TYPE brief USING 'a'"),
    "view with a check": ("44000", f"{ALTER} RENAME TO stored; {VIEW} WITH CHECK OPTION"),
    "trigger's cast": ("22P02", trigger("found := NEW.answer_text::int")),
    "trigger's search": ("42601", trigger("PERFORM to_tsquery(NEW.answer_text || ' !')")),
    "trigger's look-up": ("42P01", trigger("PERFORM NEW.answer_text::regclass")),
    "trigger's SQL": ("22P02", trigger("EXECUTE format('SELECT %L::int', NEW.answer_text)")),
    "trigger's strict query": ("P0002", trigger(STRICT)),
    "trigger's message": ("P0001", trigger(f"{RAISE} NEW::text, HINT = NEW.answer_text")),
    "trigger's message on a score": ("23514", trigger(f"{RAISE} NEW, ERRCODE = '23514'", "scores")),
    "trigger's message on a deletion": ("P0001", trigger(f"{RAISE} OLD", event="DELETE")),
}
"""What a host's database refuses: the SQLSTATE, and the SQL after which it does."""
REFUSED = {
    "CHECK on the answer": SUBMITS | {"claim_assessment_responses"},
    "CHECK on the score": RECORDS,
    "trigger's message on a score": RECORDS,
    "trigger's message on a deletion": ERASURES,
}
"""The calls that are refused, where those are not the submits."""


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_by_the_host_s_database_quotes_no_value(
    conn: Connection, calls: dict[str, Call], refusal: str
) -> None:
    """The host's constraints, casts and triggers fail as PostgreSQL's errors, without values."""
    sqlstate, added = REFUSALS[refusal]
    refused = REFUSED.get(refusal, SUBMITS)
    await conn.execute(added)

    raised = await failures(calls, conn)

    assert refused <= raised.keys()
    assert {raised[name].sqlstate for name in refused} == {sqlstate}
    if "of_the_host" in added:
        assert {raised[name].constraint_name for name in refused} == {"of_the_host"}
    if "message" in refusal:
        assert {str(raised[name]) for name in refused} == {"refused"}


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("lock_timeout = '20ms'", asyncpg.LockNotAvailableError),
        ("statement_timeout = '200ms'", asyncpg.QueryCanceledError),  # ROLLBACK has to end in time
    ],
)
async def test_a_timeout_of_the_server_discloses_nothing(
    conn: Connection, other: Connection, calls: dict[str, Call], setting: str, error: type
) -> None:
    """Its error comes without parameters, even where the server is set to report them."""
    await conn.execute(f"SET log_parameter_max_length_on_error = -1; SET {setting}")
    async with other.transaction():
        await other.execute("LOCK TABLE assessment_responses, assessment_scores")
        raised = await failures(calls, conn)

    assert {name: type(each) for name, each in raised.items()} == dict.fromkeys(calls, error)


ENDS: dict[str, tuple[type[BaseException], str]] = {
    "cancelled": (asyncio.CancelledError, ""),
    "timed out": (asyncio.TimeoutError, ""),
    "terminated": (asyncpg.ConnectionDoesNotExistError, "connection was closed"),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_call_ended_while_blocked_discloses_nothing(
    conn: Connection, other: Connection, calls: dict[str, Call], database: str, end: str
) -> None:
    """A call cancelled, timed out by its caller or terminated says that in asyncpg's words."""
    error, message = ENDS[end]
    async with other.transaction():
        await other.execute("LOCK TABLE assessment_responses, assessment_scores")
        for call in calls.values():
            connection = await asyncpg.connect(database)
            task = asyncio.ensure_future(call(connection))
            await until_waiting_for_lock(conn, pid := connection.get_server_pid())
            if end == "cancelled":
                task.cancel()
            elif end == "terminated":
                await conn.execute("SELECT pg_terminate_backend($1)", pid)
            ended = asyncio.wait_for(task, 0.01 if end == "timed out" else 20)
            raised: Any = (await asyncio.gather(ended, return_exceptions=True))[0]
            connection.terminate()
            assert isinstance(raised, error)
            assert message in str(raised)
            assert_discloses_nothing(raised)


@pytest.mark.parametrize("refusal", ["unique", "trigger's cast", "trigger's message", None])
async def test_a_call_in_a_batch_discloses_nothing(
    pool: asyncpg.Pool[Any], conn: Connection, refusal: str | None
) -> None:
    """Stored, refused or lost, alone or with others, no error and no log shows an answer."""
    if refusal:
        await conn.execute(REFUSALS[refusal][1])
    submission = catalogue()["submit_response"].arguments
    async with assessments.BatchingWriter(pool, connections=1) as writer:
        for lost in (False, True):
            async with conn.transaction():
                await conn.execute("LOCK TABLE assessment_responses IN SHARE ROW EXCLUSIVE MODE")
                calls = [
                    asyncio.ensure_future(
                        writer.submit_response(**{**submission, "submission_key": key})
                    )
                    for key in (None, KEY, KEY, None)
                ]
                waiting = "FROM pg_locks WHERE NOT granted"
                while not await conn.fetch(f"SELECT pid {waiting}"):
                    await asyncio.sleep(0.005)
                if lost:
                    calls[0].cancel()
                    await asyncio.sleep(0.1)
                    await conn.execute(f"SELECT pg_terminate_backend(pid) {waiting}")
            ended: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
            for each in ended:
                if isinstance(each, BaseException):
                    assert_discloses_nothing(each)
            assert lost or [each for each in ended if refusal and isinstance(each, dict)][1:] == []


MISFITS: dict[str, tuple[str, str, str, Any]] = {
    "no table": ("42P01", "relation", f"{ALTER} RENAME TO r; {SCORES} RENAME TO s", set()),
    "no column": (
        "42703",
        "column",
        f"{ALTER} RENAME question_id TO q; {SCORES} RENAME score_data TO s",
        ERASURES,
    ),
    "no index": (
        "42P10",
        "unique",
        "DROP INDEX idx_assessment_responses_submission_key",
        catalogue().keys() - SUBMITS,
    ),
    "no rights": ("42501", "permission denied", "SET ROLE pg_monitor", set()),
    "read-only": ("25006", "read-only", "SET default_transaction_read_only = on", ...),
}
"""The SQLSTATE, the message, the change behind it, and the calls that it does not affect."""


@pytest.mark.parametrize("misfit", MISFITS)
async def test_a_database_that_does_not_fit_is_named_without_values(
    conn: Connection, calls: dict[str, Call], misfit: str
) -> None:
    """PostgreSQL's own message, which names a table, column or right, is kept."""
    sqlstate, message, change, unaffected = MISFITS[misfit]
    await conn.execute(change)

    raised = await failures(calls, conn)

    assert {each.sqlstate for each in raised.values()} == {sqlstate}
    assert unaffected is ... or raised.keys() == calls.keys() - unaffected
    assert all(message in str(each) for each in raised.values())


async def test_a_connection_that_cannot_be_used_is_named_without_values(
    database: str, calls: dict[str, Call], caplog: pytest.LogCaptureFixture
) -> None:
    """A closed connection or pool, one in use, and what is no connection: every call fails."""
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
        assert (await failures(calls, connection)).keys() == calls.keys()
    sleeping.cancel()
    await asyncio.gather(sleeping, return_exceptions=True)
    busy.terminate()
    assert "asyncio" in {record.name for record in caplog.records}  # or the logs were not captured


async def test_a_value_that_the_connection_cannot_encode_is_not_quoted(database: str) -> None:
    """Where the client encoding lacks a letter, asyncpg's error holds no value."""
    connection = await asyncpg.connect(database, server_settings={"client_encoding": "latin1"})
    calls = catalogue(Subject(text=f"{SECRET} \u2192"))

    raised = await failures({name: calls[name] for name in SUBMITS | RECORDS}, connection)

    assert raised.keys() == SUBMITS | RECORDS
    assert all(isinstance(each, asyncpg.DataError) for each in raised.values())
    await connection.close()


async def test_the_library_s_own_errors_hold_no_value(
    conn: Connection, calls: dict[str, Call]
) -> None:
    """Unknown users and responses, a used key and an unsafe claim are named without values."""
    unknown = catalogue(Subject(user_id=10**9, response_id=10**9))
    await calls["submit_response with a key"](conn)
    await conn.execute(
        "UPDATE assessment_responses SET answer_text = 'other' WHERE submission_key IS NOT NULL"
    )

    raised = await failures(unknown, conn)
    async with conn.transaction(isolation="repeatable_read"):
        raised |= await failures({"unsafe claim": calls["claim_assessment_responses"]}, conn)

    assert {name: type(error) for name, error in raised.items()} == {
        **dict.fromkeys(KEYED, assessments.SubmissionConflict),
        **dict.fromkeys(RECORDS, assessments.UnknownResponse),
        "claim_assessment_responses": assessments.UnknownUser,
        "unsafe claim": assessments.UnsafeIsolation,
    }


@pytest.mark.parametrize("name", sorted(KEYED))
async def test_a_serialization_failure_holds_no_value(
    conn: Connection, other: Connection, calls: dict[str, Call], name: str
) -> None:
    """A key stored after the transaction's snapshot is PostgreSQL's error, without the key."""
    async with conn.transaction(isolation="repeatable_read"):
        await conn.fetchval("SELECT count(*) FROM assessment_responses")
        await calls[name](other)
        raised = await failure(calls[name], conn)

    assert type(raised) is asyncpg.SerializationError


BAD_VALUES: list[Any] = [
    *(SECRET, f"{SECRET}\0", f"{SECRET}\ud800", SECRET * 50_000, SECRET.encode(), UUID(int=0)),
    *([SECRET], (SECRET, SECRET), [{SECRET: SECRET}], Exception(SECRET)),
    *({SECRET: 1}, {SECRET: f"{SECRET}\0"}, {f"{SECRET}\0": 1}, {(SECRET,): 1}),
    *({SECRET: (SECRET,)}, {SECRET: [f"{SECRET}\ud800"]}, {SECRET: SECRET * 10_000}),
]


@pytest.mark.parametrize("writer", [{"user_id": 1}, {"anonymous_token": TOKEN}], ids=str)
async def test_invalid_input_is_not_quoted(conn: Connection, writer: dict[str, Any]) -> None:
    """Whatever argument a secret is passed as by mistake, the error names the argument alone."""
    raised: list[Any] = []
    async with conn.transaction():
        for call in catalogue(Subject(writer=writer)).values():
            for value in BAD_VALUES:
                changed = call.each_argument_as(value)
                raised += [await failure(call, conn, **changes) for changes in changed]

    refused = [each for each in raised if isinstance(each, assessments.InvalidInput)]
    assert {type(each) for each in raised} <= {
        *(type(None), assessments.InvalidInput),
        *(assessments.UnknownUser, assessments.UnknownResponse, assessments.SubmissionConflict),
    }
    assert len(refused) > 1400


@pytest.mark.parametrize(
    ("refusal", "arguments"),
    [
        ("trigger's message", ["import"]),
        ("CHECK on the score", ["import"]),
        ("trigger's message on a deletion", ["purge", "--older-than=1h", "--yes"]),
    ],
)
async def test_a_command_that_the_database_refuses_prints_no_value(
    conn: Connection, database: str, refusal: str, arguments: list[str]
) -> None:
    """Standard error names the lines that were refused and PostgreSQL's SQLSTATE, and no more."""
    sqlstate, added = REFUSALS[refusal]
    await submit(conn, anonymous_token=TOKEN, answer_text=SECRET)
    await conn.execute("UPDATE assessment_responses SET created_at = now() - interval '1 day'")
    await conn.execute(added)

    given = line(anonymous_token=str(TOKEN), submission_key=str(KEY), scores=score())
    done = await asyncio.to_thread(run, *arguments, "--database", database, given=given)

    assert done.returncode == 1
    assert sqlstate.encode() in done.stderr
    assert_discloses_nothing(done.stdout.decode(), done.stderr.decode())
