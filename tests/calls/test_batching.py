"""Bursts: concurrent calls share a statement and a commit, and each has its own outcome."""

from __future__ import annotations

import asyncio
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import BatchingWriter, backoffice
from tests.helpers.calls import Subject, catalogue
from tests.helpers.polling import until
from tests.helpers.rows import ids, new_response, submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    Connection = asyncpg.Connection[Any]

BLOCK = "LOCK TABLE assessment_responses IN SHARE ROW EXCLUSIVE MODE"
LOST = (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError)
created_at, answer = itemgetter("created_at"), itemgetter("answer_text")


@pytest.fixture
async def writer(pool: asyncpg.Pool[Any]) -> AsyncIterator[BatchingWriter]:
    """Return a writer on one connection: what is called while that is in use becomes a batch."""
    async with BatchingWriter(pool, connections=1) as writer:
        yield writer


@pytest.fixture
async def patient(
    pool: asyncpg.Pool[Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BatchingWriter]:
    """Return a writer on three connections; few calls wait for as long as many are being stored."""
    monkeypatch.setattr("assessments.batching._MOMENT", 60)
    async with BatchingWriter(pool, connections=3) as writer:
        yield writer


def new(question_id: str = "q1", **changes: Any) -> Any:
    """Return a submission of which only *changes* matter; its owner is new unless among them."""
    owner = {} if "user_id" in changes else {"anonymous_token": uuid4()}
    return new_response(question_id, **owner | changes)


async def start(
    writer: BatchingWriter, observer: Connection, *calls: Awaitable[Any], **owner: Any
) -> list[asyncio.Future[Any]]:
    """Start a submission and, while that waits for a lock, *calls*; return them all."""
    first = asyncio.ensure_future(writer.submit_response(**new(**owner)))
    while not await observer.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.005)
    started: list[asyncio.Future[Any]] = [first, *(asyncio.ensure_future(call) for call in calls)]
    await asyncio.sleep(0)
    return started


async def in_one_batch(
    writer: BatchingWriter, other: Connection, *calls: Awaitable[Any]
) -> list[Any]:
    """Return the rows and errors of *calls*, which are made while another one is blocked."""
    async with other.transaction():
        await other.execute(BLOCK)
        started = await start(writer, other, *calls)
        assert [call for call in started if call.done() and not call.exception()] == []
    _, *outcomes = await asyncio.gather(*started, return_exceptions=True)
    return outcomes


async def stored(conn: Connection) -> list[str]:
    """Return all answers, oldest first."""
    rows = await conn.fetch("SELECT answer_text FROM assessment_responses ORDER BY response_id")
    return [answer(row) for row in rows]


async def batches(conn: Connection) -> list[int]:
    """Return how many responses each transaction stored, the fewest first."""
    rows = await conn.fetch(
        "SELECT count(*) FROM assessment_responses GROUP BY xmin::text ORDER BY count(*)"
    )
    return [row["count"] for row in rows]


async def waiting_queries(conn: Connection) -> list[str]:
    """Return the names of the statements that wait for a lock, once there are any."""
    waiting = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    for _ in range(1000):
        if rows := await conn.fetch(waiting):
            return [row["query"].split()[1] for row in rows]
        await asyncio.sleep(0.005)
    raise TimeoutError


async def test_a_call_returns_what_the_plain_function_returns(
    writer: BatchingWriter, conn: Connection, other: Connection, user_id: int
) -> None:
    """Alone and in a batch, a submission and a score come back with every column as given."""
    calls = catalogue(Subject(user_id=user_id, writer={"user_id": user_id}))
    submission = calls["submit_response with a key"].arguments
    plain = await calls["submit_response"](conn)
    score = {**calls["record_score"].arguments, "response_id": plain["response_id"]}
    plain_score = await backoffice.record_score(conn, **score)

    alone = [
        await writer.submit_response(**{**submission, "submission_key": uuid4()}),
        await writer.record_score(**score),
    ]
    batch = await in_one_batch(
        writer,
        other,
        *(writer.submit_response(**{**submission, "submission_key": uuid4()}) for _ in range(2)),
        *(writer.record_score(**score) for _ in range(2)),
    )

    changing = {"response_id": 0, "score_id": 0, "created_at": 0}
    assert {type(row["created_at"]) for row in batch} == {type(plain["created_at"])}
    for row in (alone[0], *batch[:2]):
        assert row | changing == plain | changing
    for row in (alone[1], *batch[2:]):
        assert row | {"score_id": 0, "created_at": 0} == plain_score | {
            "score_id": 0,
            "created_at": 0,
        }
    assert [row["score_id"] for row in batch[2:]] == sorted(row["score_id"] for row in batch[2:])


async def test_concurrent_calls_share_a_commit_in_the_order_of_calls(
    writer: BatchingWriter, conn: Connection, other: Connection, token: UUID
) -> None:
    """Calls made while another is in progress are one transaction, with ids in their order."""
    calls = (
        writer.submit_response(**new(f"q{n}", anonymous_token=token, answer_text=f"{n}"))
        for n in range(20)
    )

    rows = await in_one_batch(writer, other, *calls)

    assert [answer(row) for row in rows] == [str(n) for n in range(20)]
    assert ids(rows) == sorted(ids(rows))
    assert len(set(map(created_at, rows))) == 1
    assert len(await assessments.get_responses(conn, anonymous_token=token)) == 20


async def test_a_lone_call_goes_the_plain_way(
    writer: BatchingWriter, conn: Connection, other: Connection
) -> None:
    """With no call beside it, the statement is the plain function's."""
    async with other.transaction():
        await other.execute(BLOCK)
        alone = asyncio.ensure_future(writer.submit_response(**new()))
        assert await waiting_queries(conn) == ["assessments.submit_response"]

    assert (await alone)["question_id"] == "q1"


@pytest.mark.parametrize("connections", [1, 2])
async def test_no_more_connections_are_used_than_allowed(
    pool: asyncpg.Pool[Any], conn: Connection, other: Connection, connections: int
) -> None:
    """However many calls wait, *connections* of the pool's are in use."""
    async with BatchingWriter(pool, connections=connections) as writer:
        async with other.transaction():
            await other.execute(BLOCK)
            started = await start(
                writer, other, *(writer.submit_response(**new()) for _ in range(20))
            )
            while len(await waiting_queries(conn)) < connections:
                await asyncio.sleep(0.005)
            assert pool.get_size() - pool.get_idle_size() == connections
        await asyncio.gather(*started)


async def test_a_few_calls_join_the_next_batch(
    pool: asyncpg.Pool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that go on come to share a commit, however their first calls were spread."""
    monkeypatch.setattr("assessments.batching._MOMENT", 60)
    times = set()
    async with BatchingWriter(pool, connections=2) as writer:

        async def go_on() -> None:
            for _ in range(10):
                times.add(created_at(await writer.submit_response(**new())))

        await asyncio.gather(*(go_on() for _ in range(12)))

    assert len(times) <= 12  # the first call alone, 11 others beside it


async def test_many_calls_are_stored_on_two_connections(
    patient: BatchingWriter, conn: Connection, other: Connection
) -> None:
    """Two statements store half of them each, so that PostgreSQL and the callers work at once."""
    async with other.transaction():
        await other.execute(BLOCK)
        calls = (patient.submit_response(**new()) for _ in range(40))
        started = await start(patient, other, *calls)  # one alone, forty in halves
        await until(conn, "SELECT count(*) = 3 FROM pg_locks WHERE NOT granted")
    await asyncio.gather(*started)

    assert await batches(conn) == [1, 20, 20]


async def test_only_few_calls_wait_for_many(
    patient: BatchingWriter, conn: Connection, other: Connection
) -> None:
    """With a connection free, calls wait unless half as many as are being stored."""
    async with other.transaction():
        await other.execute(BLOCK)
        calls = (patient.submit_response(**new()) for _ in range(9))
        started = await start(patient, other, *calls)  # one alone, nine together
        while len(await waiting_queries(conn)) < 2:
            await asyncio.sleep(0.005)
        few = asyncio.ensure_future(patient.submit_response(**new()))
        for _ in range(50):  # in which one of its own would be sent
            await conn.fetchval("SELECT 1")
        assert len(await waiting_queries(conn)) == 2
        more = [asyncio.ensure_future(patient.submit_response(**new())) for _ in range(4)]
        await until(conn, "SELECT count(*) = 3 FROM pg_locks WHERE NOT granted")
    await asyncio.gather(*started, few, *more)


async def test_a_server_out_of_reach_is_tried_for_all_at_once() -> None:
    """A batch that gets no connection is no smaller than another: each try may be a timeout."""
    tries = 0

    def refuse(_: object, to_client: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        to_client.close()

    server = await asyncio.start_server(refuse, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    url = f"postgresql://nobody@127.0.0.1:{port}/nowhere?sslmode=disable"
    async with (
        server,
        asyncpg.create_pool(url, min_size=0) as pool,
        BatchingWriter(pool) as writer,
    ):
        calls = (writer.submit_response(**new()) for _ in range(201))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert {isinstance(each, LOST) for each in outcomes} == {True}
    assert tries <= 3  # by the first alone, and on either connection for the others


async def test_a_blocked_batch_does_not_keep_a_few_calls_waiting(
    pool: asyncpg.Pool[Any], other: Connection, user_id: int
) -> None:
    """While a batch waits for a lock, later calls are stored on another connection."""
    async with BatchingWriter(pool, connections=3) as writer:
        async with other.transaction():
            await other.execute("SELECT FROM users FOR UPDATE")
            calls = (writer.submit_response(**new(user_id=user_id)) for _ in range(9))
            blocked = await start(writer, other, *calls, user_id=user_id)
            while await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < 2:
                await asyncio.sleep(0.005)
            await asyncio.wait_for(writer.submit_response(**new()), 20)
            assert [call for call in blocked if call.done()] == []
        await asyncio.gather(*blocked)


async def test_each_call_has_its_own_error(
    writer: BatchingWriter, conn: Connection, other: Connection, user_id: int
) -> None:
    """Invalid, unknown, conflicting and repeated items get what they would get alone."""
    key, taken = uuid4(), uuid4()
    again = new(submission_key=key, answer_text="stored before")
    first = await submit(conn, **again)
    await submit(conn, **new(submission_key=taken, answer_text="another's"))
    twice = new(submission_key=uuid4(), answer_text="twice")

    outcomes = await in_one_batch(
        writer,
        other,
        writer.submit_response(**new(user_id=user_id, answer_text="good")),
        writer.submit_response(**new(user_id=10**9)),
        writer.submit_response(**new(submission_key=taken)),
        writer.submit_response(**again),
        writer.submit_response(**new(answer_text="a\0b")),
        writer.submit_response(**twice),
        writer.submit_response(**twice),
        writer.submit_response(**{**twice, "answer_text": "other"}),
        writer.submit_response(**new(submission_key=uuid4(), answer_text="good too")),
    )

    conflict = assessments.SubmissionConflict
    assert [type(each) for each in outcomes] == [
        *(dict, assessments.UnknownUser, conflict, dict, assessments.InvalidInput),
        *(dict, dict, conflict, dict),
    ]
    assert outcomes[3] == first
    assert outcomes[5] == outcomes[6]
    assert [getattr(each, "parameter", "") for each in outcomes[1:5]] == [
        *(None, None, "", "answer_text")
    ]
    assert (await stored(conn))[3:] == ["good", "twice", "good too"]


async def test_under_row_level_security_an_unknown_user_is_nobody_else_s_conflict(
    database: str, conn: Connection, other: Connection
) -> None:
    """A key that a policy may hide counts as taken only where its own row was refused."""
    await conn.execute("""
        GRANT SELECT, INSERT ON assessment_responses, users TO pg_monitor;
        ALTER TABLE assessment_responses ENABLE ROW LEVEL SECURITY;
        CREATE POLICY everything ON assessment_responses TO pg_monitor USING (true)
    """)
    settings = {"role": "pg_monitor"}
    owners: list[Any] = [{}, {"user_id": 10**9}, {}]
    async with (
        asyncpg.create_pool(database, min_size=1, server_settings=settings) as pool,
        BatchingWriter(pool, connections=1) as writer,
    ):
        calls = (writer.submit_response(**new(submission_key=uuid4(), **by)) for by in owners)
        outcomes = await in_one_batch(writer, other, *calls)

    assert [type(each) for each in outcomes] == [dict, assessments.UnknownUser, dict]


async def test_each_score_has_its_own_error(
    writer: BatchingWriter, conn: Connection, other: Connection, token: UUID
) -> None:
    """A score of an unknown response, or an invalid one, keeps no other from being stored."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]

    good: dict[str, Any] = {"response_id": response_id, "score_data": {"points": 1}}
    outcomes = await in_one_batch(
        writer,
        other,
        writer.record_score(**good),
        writer.record_score(**{**good, "response_id": 10**9}),
        writer.record_score(**{**good, "score_data": {"points": float("nan")}}),
        writer.record_score(**good),
    )

    assert [type(each) for each in outcomes] == [
        *(dict, assessments.UnknownResponse, assessments.InvalidInput, dict)
    ]
    scores = await backoffice.get_scores(conn, response_id=response_id)
    assert scores == [outcomes[3], outcomes[0]]


TRIGGER = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF {row}::text LIKE '%bad%' THEN {then}; END IF; RETURN NEW; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON {table}
    FOR EACH ROW EXECUTE FUNCTION refuse()
"""
REFUSALS = {"RAISE 'refused'": asyncpg.RaiseError, "RETURN NULL": assessments.NotStored}


@pytest.mark.parametrize("then", REFUSALS)
async def test_what_a_trigger_refuses_harms_no_other_item(
    writer: BatchingWriter, conn: Connection, other: Connection, then: str
) -> None:
    """The items that the host's trigger refuses or drops get that error; the others are stored."""
    response_id = (await submit(conn, **new()))["response_id"]
    for table, row in (
        ("assessment_responses", "NEW.answer_text"),
        ("assessment_scores", "NEW.score_data"),
    ):
        trigger = TRIGGER.format(table=table, row=row, then=then)
        await conn.execute(trigger.replace("refuse()", f"refuse_{table}()"))
    answers = ["good" if n % 7 else "bad" for n in range(20)]

    keyed = await in_one_batch(
        writer,
        other,
        *(writer.submit_response(**new(answer_text=a, submission_key=uuid4())) for a in answers),
    )
    keyless = await in_one_batch(
        writer, other, *(writer.submit_response(**new(answer_text=each)) for each in answers)
    )
    scores = await in_one_batch(
        writer,
        other,
        *(writer.record_score(response_id=response_id, score_data={"is": a}) for a in answers),
    )

    expected = [dict if each == "good" else REFUSALS[then] for each in answers]
    for outcomes in (keyed, keyless, scores):
        assert [type(each) for each in outcomes] == expected
    assert (await stored(conn)).count("good") == 2 * answers.count("good")


async def test_an_error_at_the_commit_is_its_item_s_alone(
    writer: BatchingWriter, conn: Connection, other: Connection
) -> None:
    """Nothing is acknowledged before its commit, which a deferred constraint may refuse."""
    await conn.execute(
        "ALTER TABLE assessment_responses ADD UNIQUE (answer_text) DEFERRABLE INITIALLY DEFERRED"
    )
    await submit(conn, **new(answer_text="there"))

    outcomes = await in_one_batch(
        writer,
        other,
        *(writer.submit_response(**new(answer_text=text)) for text in ("a", "there", "b", "c")),
    )

    assert [type(each) for each in outcomes] == [dict, asyncpg.UniqueViolationError, dict, dict]
    assert sorted(await stored(conn)) == ["Because.", "Because.", "a", "b", "c", "there"][1:]


@pytest.mark.parametrize("locked", ["a user", "the table"])
async def test_a_lock_timeout_is_its_item_s_alone_unless_all_are_blocked(
    database: str, conn: Connection, other: Connection, user_id: int, locked: str
) -> None:
    """A locked user's submission fails and no other; behind a locked table, all fail."""
    settings = {"lock_timeout": "100ms"}
    owners: list[dict[str, Any]] = [
        {"user_id": user_id},
        *({"anonymous_token": uuid4()} for _ in range(40)),
    ]
    async with (
        asyncpg.create_pool(database, min_size=1, server_settings=settings) as pool,
        BatchingWriter(pool, connections=1) as writer,
        other.transaction(),
    ):
        lock = "SELECT FROM users FOR UPDATE" if locked == "a user" else BLOCK
        await other.execute(lock)
        _, *calls = await start(
            writer,
            other,
            *(writer.submit_response(**new(**by)) for by in owners),
            user_id=user_id,
        )
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    refused = [isinstance(each, asyncpg.LockNotAvailableError) for each in outcomes]
    if locked == "a user":
        assert refused == [True, *[False] * 40]
        assert len(await stored(conn)) == 40
    else:
        assert all(refused)
        assert len({id(each) for each in outcomes}) == len(outcomes)


async def test_a_row_that_cannot_be_decoded_is_stored_once(
    database: str, conn: Connection, other: Connection
) -> None:
    """Where a codec of the host's is at fault, the calls say so, and nothing is retried."""

    async def init(connection: Connection) -> None:
        await connection.set_type_codec(
            "timestamptz", schema="pg_catalog", encoder=str, decoder=lambda _: "?"
        )

    async with (
        asyncpg.create_pool(database, min_size=1, init=init) as pool,
        BatchingWriter(pool, connections=1) as writer,
    ):
        calls = (writer.submit_response(**new(answer_text=f"{n}")) for n in range(4))
        async with other.transaction():
            await other.execute(BLOCK)
            started = await start(writer, other, *calls)
        outcomes = await asyncio.gather(*started, return_exceptions=True)

    assert {type(each) for each in outcomes} == {assessments.UnsupportedCodec}
    assert await stored(conn) == ["Because.", *"0123"]


async def test_a_half_is_no_larger_than_a_batch_may_be(
    pool: asyncpg.Pool[Any], conn: Connection
) -> None:
    """However many calls are made at once, on however many connections."""
    async with BatchingWriter(pool, max_batch=3) as writer:
        await asyncio.gather(*(writer.submit_response(**new()) for _ in range(40)))

    assert max(await batches(conn)) == 3


@pytest.mark.parametrize("limit", [{"max_batch": 3}, {"max_waiting": 3}])
async def test_the_limits_of_a_batch_and_of_the_queue_hold(
    pool: asyncpg.Pool[Any], conn: Connection, other: Connection, limit: dict[str, int]
) -> None:
    """Calls beyond them wait, in order, and all are stored."""
    async with BatchingWriter(pool, connections=1, **limit) as writer:
        calls = (writer.submit_response(**new(answer_text=f"{n}")) for n in range(9))
        rows = await in_one_batch(writer, other, *calls)

    assert [answer(row) for row in rows] == list("012345678")
    assert await stored(conn) == ["Because.", *"012345678"]
    times = [created_at(row) for row in rows]
    assert [times.count(each) for each in dict.fromkeys(times)] == [3, 3, 3]


async def test_long_answers_make_smaller_batches(writer: BatchingWriter, other: Connection) -> None:
    """However long the answers, a statement holds a few MiB at most."""
    long = "x" * 900_000

    rows = await in_one_batch(
        writer, other, *(writer.submit_response(**new(answer_text=long)) for _ in range(6))
    )

    times = [created_at(row) for row in rows]
    assert [times.count(each) for each in dict.fromkeys(times)] == [2, 2, 2]


async def test_scores_and_submissions_take_turns(
    pool: asyncpg.Pool[Any], other: Connection, conn: Connection
) -> None:
    """A long queue of the one does not keep the other waiting until it is empty."""
    response_id = (await submit(conn, **new()))["response_id"]
    async with BatchingWriter(pool, connections=1, max_batch=2) as writer:
        submits = [writer.submit_response(**new()) for _ in range(8)]
        score = writer.record_score(response_id=response_id, score_data={})
        *rows, scored = await in_one_batch(writer, other, *submits, score)

    assert scored["created_at"] < max(map(created_at, rows))


async def test_a_cancelled_call_that_waits_is_not_stored(
    pool: asyncpg.Pool[Any], conn: Connection, other: Connection
) -> None:
    """Cancelled in the queue, or before it was admitted to it; the calls behind move up."""
    async with BatchingWriter(pool, connections=1, max_waiting=2) as writer:
        async with other.transaction():
            await other.execute(BLOCK)
            calls = (writer.submit_response(**new(answer_text=f"{n}")) for n in range(6))
            started = await start(writer, other, *calls)
            for index in (1, 2, 4, 5):  # the first, 0, has been sent; 1 and 2 fill the queue
                started[index].cancel()
        outcomes = await asyncio.wait_for(asyncio.gather(*started, return_exceptions=True), 20)

        assert [type(each) is dict for each in outcomes] == [1, 0, 0, 1, 0, 0, 1]
        assert await stored(conn) == ["Because.", "2", "5"]
        later = (writer.submit_response(**new()) for _ in range(9))
        assert len(await asyncio.wait_for(asyncio.gather(*later), 20)) == 9


@pytest.mark.parametrize("cancelled", [[2], [1, 2, 3]], ids=["one", "all"])
async def test_a_call_cancelled_in_a_batch_harms_no_other(
    writer: BatchingWriter, conn: Connection, other: Connection, cancelled: list[int]
) -> None:
    """The batch that is being stored is finished for the other callers, or for none."""
    async with other.transaction():
        await other.execute(BLOCK)
        answers = (new(answer_text=f"in {n}") for n in range(3))
        first, *calls = await start(
            writer, other, *(writer.submit_response(**each) for each in answers)
        )
        first.cancel()  # then the rest are a batch
        while await waiting_queries(conn) != ["assessments.submit_responses"]:
            await asyncio.sleep(0.005)
        for index in cancelled:
            calls[index - 1].cancel()
        await asyncio.sleep(0.02)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(each) is dict for each in outcomes] == [n not in cancelled for n in (1, 2, 3)]
    assert (await writer.submit_response(**new(answer_text="later")))["answer_text"] == "later"


async def test_a_call_cancelled_in_a_refused_batch_is_not_stored(
    writer: BatchingWriter, conn: Connection, other: Connection
) -> None:
    """What was cancelled before its batch was refused is not stored with a half of it."""
    await conn.execute("ALTER TABLE assessment_responses ADD CHECK (answer_text <> 'bad')")
    answers = ("cancelled", "good", "bad", "good")
    async with other.transaction():
        await other.execute(BLOCK)
        first, *calls = await start(
            writer, other, *(writer.submit_response(**new(answer_text=each)) for each in answers)
        )
        first.cancel()  # then the rest are a batch
        while await waiting_queries(conn) != ["assessments.submit_responses"]:
            await asyncio.sleep(0.005)
        calls[0].cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(each) is dict for each in outcomes] == [each == "good" for each in answers]
    assert await stored(conn) == ["good", "good"]


async def test_a_lost_connection_is_the_error_of_its_batch_alone(
    writer: BatchingWriter, conn: Connection, other: Connection
) -> None:
    """Each call of the batch raises the connection's error; the next calls have a new one."""
    async with other.transaction():
        await other.execute(BLOCK)
        keyed = [new(submission_key=uuid4()) for _ in range(5)]
        first, *calls = await start(
            writer, other, *(writer.submit_response(**each) for each in keyed)
        )
        first.cancel()
        while await waiting_queries(conn) != ["assessments.submit_responses"]:
            await asyncio.sleep(0.005)
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [each for each in outcomes if not isinstance(each, LOST)] == []
    assert len({id(each) for each in outcomes}) == 5
    again = await asyncio.gather(*(writer.submit_response(**each) for each in keyed))
    assert len(set(ids(again))) == 5
    assert len(await stored(conn)) == 5


async def test_a_pool_without_connections_fails_the_calls(database: str) -> None:
    """Where the pool is closed, each call raises asyncpg's error, and leaving does not wait."""
    pool = await asyncpg.create_pool(database, min_size=1, max_size=1)
    async with BatchingWriter(pool) as writer:
        await pool.close()
        calls = (writer.submit_response(**new()) for _ in range(5))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(each) for each in outcomes] == [asyncpg.InterfaceError] * 5


async def test_leaving_finishes_what_was_accepted(
    pool: asyncpg.Pool[Any], conn: Connection, other: Connection
) -> None:
    """Calls made before are stored, even where the block failed; new ones are refused."""
    writer = BatchingWriter(pool, connections=1, max_waiting=2)
    with pytest.raises(RuntimeError, match="not open"):
        await writer.submit_response(**new())

    failing = asyncio.Event()

    async def leave() -> None:
        async with writer:
            await start(writer, other, *(writer.submit_response(**new()) for _ in range(5)))
            failing.set()
            raise KeyError

    async with other.transaction():
        await other.execute(BLOCK)
        leaving = asyncio.ensure_future(leave())
        await failing.wait()
        assert not leaving.done()
        with pytest.raises(RuntimeError, match="not open"):
            await writer.record_score(response_id=1, score_data={})
    with pytest.raises(KeyError):
        await asyncio.wait_for(leaving, 20)

    assert len(await stored(conn)) == 6
    assert pool.get_size() == pool.get_idle_size()


async def test_leaving_that_is_cancelled_ends_every_call(
    pool: asyncpg.Pool[Any], conn: Connection, other: Connection
) -> None:
    """Calls in a batch have an unknown outcome, queued ones are not sent, and none hangs."""
    writer = BatchingWriter(pool, connections=1, max_batch=2, max_waiting=3)
    started: list[Any] = []

    async def leave() -> None:
        async with writer:
            calls = (writer.submit_response(**new()) for _ in range(6))
            started.extend(await start(writer, other, *calls))
            started[0].cancel()

    async with other.transaction():
        await other.execute(BLOCK)
        leaving = asyncio.ensure_future(leave())
        while await waiting_queries(conn) != ["assessments.submit_responses"]:
            await asyncio.sleep(0.005)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(leaving, 20)
        outcomes = await asyncio.wait_for(asyncio.gather(*started, return_exceptions=True), 20)

    unknown, unsent = asyncpg.InterfaceError, RuntimeError
    assert [type(each) for each in outcomes[1:]] == [*[unknown] * 2, *[unsent] * 4]
    assert await stored(conn) == []


async def test_it_works_in_a_pool_for_a_transaction_pooler(
    database: str, other: Connection, token: UUID
) -> None:
    """Without a statement cache, batches are stored as with one."""
    async with (
        assessments.create_pool(database, pooler="transaction") as pool,
        BatchingWriter(pool, connections=1) as writer,
    ):
        calls = (writer.submit_response(**new(anonymous_token=token)) for _ in range(5))
        rows = await in_one_batch(writer, other, *calls)

    assert len(set(ids(rows))) == 5
    assert len(set(map(created_at, rows))) == 1


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("pool", value) for value in (None, "postgresql://host/db", object())),
        *(("connections", value) for value in (0, True, "2")),
        *(("max_batch", value) for value in (0, 10_001, 1.5)),
        *(("max_waiting", value) for value in (0, None)),
    ],
)
async def test_invalid_options_are_refused(
    pool: asyncpg.Pool[Any], parameter: str, value: Any
) -> None:
    """The error names the argument."""
    options: dict[str, Any] = {"pool": pool, parameter: value}

    with pytest.raises(assessments.InvalidInput) as caught:
        BatchingWriter(**options)

    assert caught.value.parameter == parameter


async def test_an_argument_that_the_plain_function_does_not_take_is_refused(
    writer: BatchingWriter,
) -> None:
    """It is a TypeError, as with the plain function."""
    unknown: dict[str, Any] = {"score": 1}

    with pytest.raises(TypeError, match="score"):
        await writer.submit_response(**new(), **unknown)
    with pytest.raises(TypeError, match="score"):
        await writer.record_score(response_id=1, score_data={}, **unknown)
