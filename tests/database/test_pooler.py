"""Behind a transaction-mode pooler every call is right, and leaves nothing on the server."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

import assessments
from assessments import claim_assessment_responses, create_pool
from tests.helpers import commands, pgbouncer
from tests.helpers.calls import FUNCTIONS
from tests.helpers.polling import until
from tests.helpers.pooler_clients import CLIENTS, Client, behind, load, load_from_processes
from tests.helpers.rows import ids, new_user, questions, submit, submit_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from uuid import UUID

    Connection = asyncpg.Connection[Any]
    Pool = asyncpg.Pool[Any]

pytestmark = pytest.mark.skipif(
    pgbouncer.binary() is None, reason="PgBouncer is not installed (apt install pgbouncer)"
)
SERVERS = 3


@pytest.fixture(scope="module")
def pooler(server: str) -> Iterator[str]:
    """Return the URL of a pooler that has three server connections for each database."""
    with pgbouncer.running(server, default_pool_size=SERVERS) as url:
        yield url


@pytest.fixture(scope="module")
def hosted_pooler(server: str) -> Iterator[str]:
    """Return the URL of a pooler on TCP, with TLS and a password."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the pooler's certificate, is not installed")
    with pgbouncer.running_as_hosted(server) as url:
        yield url


@pytest.fixture
def pooled(pooler: str, database: str) -> str:
    """Return the URL of this test's database behind the pooler."""
    return urlsplit(pooler)._replace(path=urlsplit(database).path).geturl()


@pytest.fixture
def hosted(hosted_pooler: str, database: str) -> str:
    """Return the URL of this test's database behind the pooler on TCP."""
    return urlsplit(hosted_pooler)._replace(path=urlsplit(database).path).geturl()


@pytest.fixture
async def clients(pooled: str) -> AsyncIterator[Pool]:
    """Return a pool of 16 clients of the pooler."""
    async with behind(pooled) as created:
        yield created


SESSION = r"""
SELECT 'setting ' || name || ' ' || setting FROM pg_settings WHERE source = 'session'
UNION ALL SELECT 'statement ' || name FROM pg_prepared_statements
UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE name <> ''
UNION ALL SELECT 'listens to ' || channel FROM pg_listening_channels() AS channel
UNION ALL SELECT 'temporary ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()
UNION ALL SELECT 'lock ' || locktype FROM pg_locks
WHERE pid = pg_backend_pid() AND locktype = 'advisory'
ORDER BY 1
"""


async def sessions(url: str) -> dict[int, list[str]]:
    """Return the session state of each of the pooler's server connections."""
    found = {}
    async with AsyncExitStack() as stack:
        for _ in range(SERVERS):  # a transaction holds the server connection that it is given
            conn = await asyncpg.connect(url, statement_cache_size=0, timeout=10)
            stack.push_async_callback(conn.close)
            await asyncio.wait_for(stack.enter_async_context(conn.transaction()), 10)
            pid = await conn.fetchval("SELECT pg_backend_pid()")
            found[pid] = [line for (line,) in await conn.fetch(SESSION)]
    assert len(found) == SERVERS
    return found


OTHERS = """
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


async def until_nothing_is_open(conn: Connection) -> None:
    """Return once no other connection to the database is in a transaction; fail after 10 s."""
    opened = f"SELECT state, query {OTHERS} AND (state <> 'idle' OR xact_start IS NOT NULL)"
    for _ in range(1000):
        if not (left := await conn.fetch(opened)):
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"still open: {left}")


async def until_a_claim_waits(conn: Connection) -> None:
    """Return once some claim in this database waits for another; fail after 10 seconds."""
    waiting = (
        "SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_database AS d ON d.oid = database"
        " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted)"
    )
    await until(conn, waiting, seconds=10)


@pytest.mark.parametrize("processes", [1, 2])
async def test_every_call_of_16_clients_on_3_servers_returns_its_own_rows(
    pooled: str, conn: Connection, processes: int, scale: int, figures: Callable[..., None]
) -> None:
    """Every public function is right, also where two processes give statements the same names."""
    counted = await load_from_processes(processes, pooled, 4 * scale)

    wrong = {name: count for name, count in counted.items() if name not in FUNCTIONS}
    errors = sum(wrong.values())
    title = f"pooler, {processes} x {CLIENTS} clients on {SERVERS} servers"
    figures(title, calls=counted.total() - errors, errors_or_wrong_answers=errors)
    assert wrong == {}
    assert counted.keys() == FUNCTIONS.keys()
    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0
    assert await conn.fetchval(f"SELECT count(*) {OTHERS}") == SERVERS


async def test_calls_and_commands_leave_no_session_state(pooled: str, conn: Connection) -> None:
    """After every call, check and explain no server connection holds a statement or setting."""
    before = await sessions(pooled)

    assert (await load(pooled, 2)).keys() == FUNCTIONS.keys()
    assert await sessions(pooled) == before
    await submit(conn, anonymous_token=uuid4())
    for name, *options in (("check",), ("explain",), ("explain", "--analyze")):
        done = await asyncio.to_thread(commands.run, name, "--database", pooled, *options)
        assert done.returncode == 0, done.stderr
        assert name == "explain" or b"note     a pooler stands in between" in done.stdout
    assert await sessions(pooled) == before


async def test_a_claim_waits_for_the_user_s_other_claim(
    clients: Pool, conn: Connection, user_id: int
) -> None:
    """One user, two tokens, through the pooler: the second claim waits, then takes nothing."""
    tokens, claim = (uuid4(), uuid4()), claim_assessment_responses
    for token in tokens:
        await submit_all(clients, ("q1", "q2"), anonymous_token=token)

    async with clients.acquire() as first:
        async with first.transaction():
            assert await claim(first, anonymous_token=tokens[0], user_id=user_id) == 2
            second = asyncio.create_task(claim(clients, anonymous_token=tokens[1], user_id=user_id))
            await until_a_claim_waits(conn)
        assert await asyncio.wait_for(second, 10) == 0

    assert len(await assessments.get_responses(conn, anonymous_token=tokens[1])) == 2


async def race(clients: Pool, chance: Random) -> bool:
    """Claim two tokens for one user concurrently; say whether each question has one source."""
    user_id, tokens = await new_user(clients), (uuid4(), uuid4())
    source: dict[int, UUID] = {}
    for token in tokens:
        for question in chance.choices(["q1", "q2", "q3", "q4"], k=chance.randint(1, 4)):
            stored = await submit(clients, question, anonymous_token=token)
            source[stored["response_id"]] = token
    claims = (
        claim_assessment_responses(clients, anonymous_token=token, user_id=user_id)
        for token in tokens
    )
    claimed = await asyncio.gather(*claims)
    taken = await assessments.get_responses(clients, user_id=user_id)
    left = [
        row
        for token in tokens
        for row in await assessments.get_responses(clients, anonymous_token=token)
    ]
    sources = {(row["question_id"], source[row["response_id"]]) for row in taken}
    return (
        sum(claimed) == len(taken)
        and sorted(ids(taken) + ids(left)) == sorted(source)
        and len(sources) == len(set(questions(taken)))
        and set(questions(left)) <= set(questions(taken))
    )


async def test_concurrent_claims_take_a_question_once(
    clients: Pool, scale: int, chance: Random, figures: Callable[..., None]
) -> None:
    """Of two claims for one user, eight pairs at a time, each question comes from one token."""

    async def races(own: Random) -> Counter[bool]:
        return Counter([await race(clients, own) for _ in range(100 * scale // 8 + 1)])

    chances = [Random(chance.random()) for _ in range(8)]
    kept: Counter[bool] = sum(await asyncio.gather(*map(races, chances)), Counter())

    figures("claims racing through the pooler", pairs=kept.total(), anomalies=kept[False])
    assert not kept[False]


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_host_s_transaction_is_atomic(
    clients: Pool, user_id: int, token: UUID, end: str
) -> None:
    """Others see a submission and a claim in a host's transaction at its commit or never."""
    await submit(clients, "before", anonymous_token=token)

    async def others_see() -> list[str]:
        await asyncio.gather(*(submit(clients, anonymous_token=uuid4()) for _ in range(CLIENTS)))
        return questions(await assessments.get_responses(clients, user_id=user_id))

    async with clients.acquire() as host:
        transaction, claim = host.transaction(), claim_assessment_responses
        await transaction.start()
        await submit(host, "within", anonymous_token=token)
        with pytest.raises(assessments.UnknownUser):
            await claim(host, anonymous_token=token, user_id=2**40)
        assert await claim(host, anonymous_token=token, user_id=user_id) == 2
        assert await others_see() == []
        await getattr(transaction, end)()

    left = questions(await assessments.get_responses(clients, anonymous_token=token))
    expected = (["within", "before"], []) if end == "commit" else ([], ["before"])
    assert (await others_see(), left) == expected


async def test_cancelled_calls_leave_no_open_transaction_and_lose_nothing(
    clients: Pool, conn: Connection, scale: int, chance: Random, figures: Callable[..., None]
) -> None:
    """Wherever a call is cancelled, acknowledged rows are stored and every server is free."""
    users = [await new_user(conn) for _ in range(4)]
    counted: Counter[str] = Counter()
    acknowledged: set[int] = set()

    async def work() -> None:
        owner: Any = {"anonymous_token": uuid4()}
        acknowledged.add((await submit(clients, **owner))["response_id"])
        batch: Any = [{**owner, "question_id": "b", "module_slug": "m", "answer_text": "Because."}]
        acknowledged.update(ids(await assessments.submit_responses(clients, batch)))
        await claim_assessment_responses(clients, **owner, user_id=chance.choice(users))

    async def cancel_often() -> None:
        for _ in range(40 * scale):
            task = asyncio.create_task(work())
            for _ in range(chance.randint(1, 40)):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.choice((0, 0.04 * chance.random())))
            task.cancel()
            await asyncio.wait([task], timeout=10)
            counted["cancelled" if task.cancelled() else "ended"] += 1
            if not task.cancelled():
                task.result()

    await asyncio.gather(*(cancel_often() for _ in range(8)))

    await until_nothing_is_open(conn)
    stored = await conn.fetch("SELECT response_id FROM assessment_responses")
    lost = len(acknowledged - {key for (key,) in stored})
    figures("cancelled through the pooler", **counted, acked=len(acknowledged), lost=lost)
    assert lost == 0
    assert clients.get_idle_size() == clients.get_size() == CLIENTS
    assert await asyncio.gather(*(clients.fetchval("SELECT 1") for _ in range(64))) == [1] * 64


async def test_a_call_that_fails_before_it_is_sent_frees_its_server(
    pooled: str, conn: Connection
) -> None:
    """A failure between a statement's preparation and its run leaves no transaction open."""
    statement = "SELECT count(*) FROM assessment_responses WHERE user_id = $1::bigint"
    async with behind(pooled, 1) as client:
        with pytest.raises(asyncpg.DataError):
            await client.fetchval(statement, "not a key")

        await until_nothing_is_open(conn)


@pytest.mark.parametrize("command_timeout", [None, 0.5])
async def test_a_blocked_claim_that_is_given_up_ends_on_the_server(
    pooled: str, conn: Connection, user_id: int, command_timeout: float | None
) -> None:
    """A claim cancelled or timed out behind another's lock stops waiting, and claims nothing."""
    tokens, claim = (uuid4(), uuid4()), claim_assessment_responses
    await submit(conn, anonymous_token=tokens[1])
    async with (
        behind(pooled, 1, command_timeout=command_timeout or 30) as client,
        conn.transaction(),
    ):
        await claim(conn, anonymous_token=tokens[0], user_id=user_id)
        blocked = asyncio.create_task(claim(client, anonymous_token=tokens[1], user_id=user_id))
        if command_timeout is None:
            await until_a_claim_waits(conn)
            blocked.cancel()
        with pytest.raises((asyncio.CancelledError, asyncio.TimeoutError)):
            await blocked

        await until_nothing_is_open(conn)
        assert len(await assessments.get_responses(client, anonymous_token=tokens[1])) == 1
        assert client.get_idle_size() == 1


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "pgbouncer=true",
        "pgbouncer=true&connection_limit=1",
        "pgbouncer=true&connection_limit=1&pool_timeout=0&connect_timeout=15",
        "sslmode=require",
        "sslmode=require&channel_binding=require",
        "sslmode=require&pgbouncer=true&connect_timeout=10&application_name=app",
        "sslmode=prefer&statement_cache_size=0",
        "sslmode=require&schema=public",
        "supa=base-pooler.x",
        "workaround=supabase-pooler.vercel",
    ],
)
async def test_a_dashboard_s_url_connects(hosted: str, parameters: str, token: UUID) -> None:
    """With the parameters that hosted poolers add to their URLs the pool connects over TLS."""
    async with create_pool(f"{hosted}?{parameters}", pooler="transaction", max_size=4) as client:
        await asyncio.gather(*(submit(client, anonymous_token=token) for _ in range(8)))
        assert len(await assessments.get_responses(client, anonymous_token=token)) == 8


async def test_pgbouncer_true_is_enough(hosted: str) -> None:
    """?pgbouncer=true in the URL alone makes calls right on shared server connections."""
    counted: Counter[str] = Counter()
    async with create_pool(f"{hosted}?pgbouncer=true", min_size=CLIENTS, max_size=CLIENTS) as pool:
        await asyncio.gather(*(Client(pool, counted).round() for _ in range(CLIENTS)))
    assert counted.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize(
    ("setting", "stored"), [("SET search_path = public, pg_temp", 10), ("RESET search_path", 0)]
)
async def test_a_search_path_ending_in_pg_temp_keeps_rows_out_of_temporary_tables(
    conn: Connection, database: str, setting: str, stored: int
) -> None:
    """With the documented search_path another client's temporary table receives no row of ten.

    The danger is real: with PostgreSQL's default it receives all of them.
    """
    role, place = f"app_{uuid4().hex}", urlsplit(database)
    await conn.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'of-a-test'; ALTER ROLE {role} {setting};"
        f"GRANT SELECT, INSERT ON assessment_responses, assessment_scores TO {role}"
    )
    netloc = f"{role}:of-a-test@{place.netloc.rpartition('@')[2]}"
    try:
        with pgbouncer.running(place._replace(netloc=netloc).geturl(), default_pool_size=1) as url:
            stranger = await asyncpg.connect(url, statement_cache_size=0)
            await stranger.execute(
                "CREATE TEMPORARY TABLE assessment_responses"
                " (LIKE public.assessment_responses"
                " INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES)"
            )
            await stranger.close()
            async with behind(url, 4) as ours:
                submits = (submit(ours, anonymous_token=uuid4()) for _ in range(10))
                acknowledged = await asyncio.gather(*submits)
        count = "SELECT count(*) FROM assessment_responses WHERE response_id = ANY ($1::bigint[])"
        assert await conn.fetchval(count, ids(acknowledged)) == stored
    finally:
        await conn.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
