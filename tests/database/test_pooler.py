"""Behind a pooler in transaction mode every call is right, and nothing is left on the server."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import random
import shutil
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

import assessments
from assessments import backoffice, claim_assessment_responses, create_pool
from tests.helpers import commands, pgbouncer
from tests.helpers.rows import ids, new_user, questions, submit, submit_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from multiprocessing.synchronize import Barrier
    from uuid import UUID

pytestmark = pytest.mark.skipif(
    pgbouncer.binary() is None, reason="PgBouncer is not installed (apt install pgbouncer)"
)
CLIENTS, SERVERS = 16, 3
PUBLIC = {
    name
    for module in (assessments, backoffice)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
} - {"create_pool"}


@pytest.fixture(scope="module")
def pooler(server: str) -> Iterator[str]:
    """Return the URL of a pooler that has three server connections for each database."""
    with pgbouncer.running(server, default_pool_size=SERVERS) as url:
        yield url


@pytest.fixture
def pooled(pooler: str, database: str) -> str:
    """Return the URL of this test's database behind the pooler."""
    return urlsplit(pooler)._replace(path=urlsplit(database).path).geturl()


@pytest.fixture
async def clients(pooled: str) -> AsyncIterator[asyncpg.Pool[Any]]:
    """Return a pool of 16 clients of the pooler."""
    async with behind(pooled) as created:
        yield created


def behind(url: str, size: int = CLIENTS, **options: Any) -> asyncpg.Pool[Any]:
    """Create a pool of *size* clients of the pooler at *url*."""
    return create_pool(url, pooler="transaction", min_size=size, max_size=size, **options)


@asynccontextmanager
async def all_servers(url: str) -> AsyncIterator[list[asyncpg.Connection[Any]]]:
    """Yield connections in transactions, one on each of the pooler's server connections."""
    async with AsyncExitStack() as stack:
        held = []
        for _ in range(SERVERS):
            connection = await asyncpg.connect(url, statement_cache_size=0, timeout=10)
            stack.push_async_callback(connection.close)
            await asyncio.wait_for(stack.enter_async_context(connection.transaction()), 10)
            held.append(connection)
        yield held


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
    """Return what is in the session of each of the pooler's server connections."""
    async with all_servers(url) as held:
        return {
            await conn.fetchval("SELECT pg_backend_pid()"): [
                line for (line,) in await conn.fetch(SESSION)
            ]
            for conn in held
        }


OPEN = """
SELECT state, wait_event_type, left(query, 60) AS query FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
AND backend_type = 'client backend' AND (state <> 'idle' OR xact_start IS NOT NULL)
"""


async def until_nothing_is_open(conn: asyncpg.Connection[Any]) -> None:
    """Return once no other connection to the database is in a transaction; fail after 10 s."""
    for _ in range(1000):
        if not (left := await conn.fetch(OPEN)):
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"still open: {left}")


class Client:
    """A visitor who becomes a user, and knows what every call is to give back."""

    def __init__(self, pool: asyncpg.Pool[Any], counted: Counter[str]) -> None:
        self.pool, self.counted = pool, counted
        self.token = uuid4()

    async def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call *function*, and count it under its name."""
        self.counted[function.__name__] += 1
        given = function(self.pool, *arguments, **named)
        return [row async for row in given] if inspect.isasyncgen(given) else await given

    async def round(self) -> None:
        """Make every call; fail where one gives back what is not this client's."""
        user, visitor = {"user_id": await new_user(self.pool)}, {"anonymous_token": self.token}
        model = f"model of {self.token}"
        wanted = [
            {
                **visitor,
                "question_id": f"{number} of {self.token}",
                "module_slug": f"module of {self.token}",
                "answer_text": f"answer {number} of {self.token}",
            }
            for number in range(3)
        ]

        def same(rows: Any, expected: list[dict[str, Any]]) -> None:
            kept = [{name: row[name] for name in wanted[0]} for row in rows]
            assert kept == expected

        keyed = [{**each, "submission_key": uuid4()} for each in wanted]
        first = await self.call(assessments.submit_response, **keyed[0])
        rows = [first, *await self.call(assessments.submit_responses, keyed[1:])]
        same(rows, wanted)
        assert await self.call(assessments.submit_responses, keyed) == rows
        assert await self.call(assessments.submit_response, **keyed[0]) == first
        unkeyed = [
            await self.call(assessments.submit_response, **wanted[0]),
            *await self.call(assessments.submit_responses, wanted[1:]),
        ]
        same(unkeyed, wanted)
        assert await self.call(assessments.delete_responses, **visitor) == 6
        rows = await self.call(assessments.submit_responses, wanted)
        assert ids(rows) == sorted(ids(rows))
        newest = wanted[::-1]
        same(await self.call(assessments.get_responses, **visitor), newest)
        same(await self.call(assessments.get_latest_responses, **visitor), newest)
        question = {"question_id": wanted[1]["question_id"]}
        same(
            await self.call(assessments.get_responses_for_question, **visitor, **question),
            wanted[1:2],
        )

        for row in rows:
            window = {"after": row["response_id"] - 1, "up_to": row["response_id"]}
            backlog = await self.call(backoffice.get_unscored_responses, model_id=model, **window)
            assert backlog == [row]
        scores = [
            {"response_id": key, "score_data": {"of": key, "by": model}, "model_id": model}
            for key in ids(rows)
        ]
        stored = [await self.call(backoffice.record_score, **scores[0])]
        stored += await self.call(backoffice.record_scores, scores[1:])
        for score, given in zip(stored, scores, strict=True):
            assert {name: score[name] for name in given} == given
            key = {"response_id": score["response_id"]}
            assert await self.call(assessments.get_scores, **visitor, **key) == [score]
        scored = await self.call(assessments.get_responses_with_latest_score, **visitor)
        same(scored, newest)
        assert [row["latest_score"] for row in scored] == stored[::-1]

        aged = {"older_than": timedelta(days=1)}
        assert await self.call(backoffice.purge_anonymous_responses, **aged) == 0
        claim = {**visitor, **user}
        assert await self.call(claim_assessment_responses, **claim) == 3
        mine = [{**row, **user, "anonymous_token": None} for row in rows]
        walked = await self.call(backoffice.iter_responses, **user, batch_size=2)
        assert walked == mine
        assert await self.call(assessments.delete_responses, **user) == 3
        assert await self.call(assessments.get_responses, **user, **visitor) == []


async def load(url: str, rounds: int) -> Counter[str]:
    """Return how often 16 clients at once made each call, and what went wrong."""
    counted: Counter[str] = Counter()

    async def one_round() -> None:
        try:
            await Client(pool, counted).round()
        except asyncpg.PostgresError as error:
            counted[f"error {error.sqlstate}"] += 1
        except Exception as error:  # noqa: BLE001 - counted, whatever it is
            counted[f"wrong: {type(error).__name__}"] += 1

    async def client() -> None:
        for _ in range(rounds):
            await one_round()

    async with behind(url) as pool:
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return counted


_start: Barrier


def _join(start: Barrier) -> None:
    """Keep what the processes wait at, so that they work at the same time."""
    global _start  # noqa: PLW0603 - how an executor hands a Barrier to its processes
    _start = start


def _load(url: str, rounds: int) -> Counter[str]:
    """Run `load` in a process of its own."""
    _start.wait(60)
    return asyncio.run(load(url, rounds))


@pytest.mark.parametrize("processes", [1, 2])
async def test_every_call_of_16_clients_on_3_servers_gives_back_its_own(
    pooled: str,
    conn: asyncpg.Connection[Any],
    processes: int,
    scale: int,
    figures: Callable[..., None],
) -> None:
    """Every public function is right, also where two processes give statements the same names."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, fresh, _join, (fresh.Barrier(processes),)) as executor:
        loop = asyncio.get_running_loop()
        loads = [loop.run_in_executor(executor, _load, pooled, 4 * scale) for _ in range(processes)]
        counted: Counter[str] = sum(await asyncio.gather(*loads), Counter())

    calls = {name: count for name, count in counted.items() if name in PUBLIC}
    wrong = {name: count for name, count in counted.items() if name not in PUBLIC}
    title = f"pooler, {processes} x {CLIENTS} clients on {SERVERS} servers"
    figures(title, calls=sum(calls.values()), errors_or_wrong_answers=sum(wrong.values()))
    assert wrong == {}
    assert set(calls) == PUBLIC
    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0
    servers = await conn.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend'"
    )
    assert servers - 1 == SERVERS  # the one is conn


async def test_calls_leave_nothing_in_the_sessions_that_clients_share(pooled: str) -> None:
    """After every call of 16 clients no server connection holds a statement, lock or setting."""
    before = await sessions(pooled)

    counted = await load(pooled, 2)

    assert set(counted) == PUBLIC
    assert await sessions(pooled) == before


async def test_a_claim_waits_for_the_user_s_other_claim(
    clients: asyncpg.Pool[Any], conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """One user, two tokens, through the pooler: the second claim waits, then takes nothing."""
    tokens = uuid4(), uuid4()
    for token in tokens:
        await submit_all(clients, ("q1", "q2"), anonymous_token=token)

    async with clients.acquire() as first:
        async with first.transaction():
            claim = claim_assessment_responses
            assert await claim(first, anonymous_token=tokens[0], user_id=user_id) == 2
            second = asyncio.create_task(claim(clients, anonymous_token=tokens[1], user_id=user_id))
            await until_a_claim_waits(conn)
        assert await asyncio.wait_for(second, 10) == 0

    assert len(await assessments.get_responses(conn, anonymous_token=tokens[1])) == 2


async def until_a_claim_waits(conn: asyncpg.Connection[Any]) -> None:
    """Return once some claim in this database waits for another; fail after 10 seconds."""

    async def watch() -> None:
        while not await conn.fetchval(
            "SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_database AS d ON d.oid = database"
            " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted)"
        ):
            await asyncio.sleep(0.005)

    await asyncio.wait_for(watch(), 10)


async def test_racing_claims_never_take_a_question_twice(
    clients: asyncpg.Pool[Any], scale: int, figures: Callable[..., None]
) -> None:
    """Pairs of claims for one user, eight pairs at a time: each question comes from one token."""
    bank, pairs = [f"q{number}" for number in range(4)], 100 * scale

    async def race(chance: random.Random) -> bool:
        user_id, tokens = await new_user(clients), (uuid4(), uuid4())
        source: dict[int, UUID] = {}
        for token in tokens:
            for question in chance.choices(bank, k=chance.randint(1, 4)):
                stored = await submit(clients, question, anonymous_token=token)
                source[stored["response_id"]] = token
        claimed = await asyncio.gather(
            *(
                claim_assessment_responses(clients, anonymous_token=token, user_id=user_id)
                for token in tokens
            )
        )
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

    async def racer(number: int) -> Counter[bool]:
        chance = random.Random(number)
        return Counter([await race(chance) for _ in range(pairs // 8 + 1)])

    kept: Counter[bool] = sum(
        await asyncio.gather(*(racer(number) for number in range(8))), Counter()
    )

    figures("claims racing through the pooler", pairs=kept.total(), anomalies=kept[False])
    assert not kept[False]


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_a_host_s_transaction_holds_together(
    clients: asyncpg.Pool[Any], user_id: int, token: UUID, ending: str
) -> None:
    """A submit and a claim in a host's transaction are seen by others at its commit or never."""
    await submit(clients, "before", anonymous_token=token)

    async def others_see() -> list[str]:
        async def bystander() -> None:
            await submit(clients, anonymous_token=uuid4())

        await asyncio.gather(*(bystander() for _ in range(CLIENTS)))
        rows = await assessments.get_responses(clients, user_id=user_id)
        return questions(rows)

    async with clients.acquire() as host:
        transaction = host.transaction()
        await transaction.start()
        await submit(host, "within", anonymous_token=token)
        with pytest.raises(assessments.UnknownUser):
            await claim_assessment_responses(host, anonymous_token=token, user_id=2**40)
        claimed = await claim_assessment_responses(host, anonymous_token=token, user_id=user_id)
        assert claimed == 2
        assert await others_see() == []
        await getattr(transaction, ending)()

    kept = await assessments.get_responses(clients, anonymous_token=token)
    assert await others_see() == (["within", "before"] if ending == "commit" else [])
    assert questions(kept) == ([] if ending == "commit" else ["before"])


async def test_cancelled_calls_leave_no_transaction_open_and_lose_nothing(
    clients: asyncpg.Pool[Any],
    conn: asyncpg.Connection[Any],
    scale: int,
    figures: Callable[..., None],
) -> None:
    """Wherever a call is cancelled, what was acknowledged is there and every server is free."""
    chance = random.Random(20261122)
    users = [await new_user(conn) for _ in range(4)]
    counted: Counter[str] = Counter()
    acknowledged: set[int] = set()

    async def work() -> None:
        token = uuid4()
        acknowledged.add((await submit(clients, anonymous_token=token))["response_id"])
        batch: Any = [{"anonymous_token": token, "question_id": "b", "module_slug": "m"}]
        batch[0]["answer_text"] = "Because."
        acknowledged.update(ids(await assessments.submit_responses(clients, batch)))
        await claim_assessment_responses(
            clients, anonymous_token=token, user_id=chance.choice(users)
        )

    async def cut() -> None:
        task = asyncio.create_task(work())
        for _ in range(chance.randint(1, 40)):
            await asyncio.sleep(0)
        await asyncio.sleep(chance.choice((0, 0.04 * chance.random())))
        task.cancel()
        await asyncio.wait([task], timeout=10)
        counted["cancelled" if task.cancelled() else "ended"] += 1
        if not task.cancelled():
            task.result()

    async def cutter() -> None:
        for _ in range(40 * scale):
            await cut()

    await asyncio.gather(*(cutter() for _ in range(8)))

    await until_nothing_is_open(conn)
    stored = await conn.fetch("SELECT response_id FROM assessment_responses")
    lost = len(acknowledged - {key for (key,) in stored})
    figures("cancelled through the pooler", **counted, acked=len(acknowledged), lost=lost)
    assert lost == 0
    assert clients.get_idle_size() == clients.get_size() == CLIENTS
    assert await asyncio.gather(*(clients.fetchval("SELECT 1") for _ in range(64))) == [1] * 64


async def test_a_call_that_fails_before_it_is_sent_frees_its_server(
    pooled: str, conn: asyncpg.Connection[Any]
) -> None:
    """What ends between a statement's preparation and its run leaves no transaction open."""
    async with behind(pooled, 1) as client:
        with pytest.raises(asyncpg.DataError):
            await client.fetchval(
                "SELECT count(*) FROM assessment_responses WHERE user_id = $1::bigint", "not a key"
            )

        await until_nothing_is_open(conn)


@pytest.mark.parametrize("how", ["cancel", "command_timeout"])
async def test_a_claim_given_up_while_it_waits_is_given_up_on_the_server(
    pooled: str, conn: asyncpg.Connection[Any], user_id: int, how: str
) -> None:
    """A claim cancelled or timed out behind another's lock waits no longer, and claims nothing."""
    tokens = uuid4(), uuid4()
    await submit_all(conn, ["q"], anonymous_token=tokens[1])
    seconds = 0.5 if how == "command_timeout" else 30
    async with behind(pooled, 1, command_timeout=seconds) as client, conn.transaction():
        await claim_assessment_responses(conn, anonymous_token=tokens[0], user_id=user_id)
        waiting = asyncio.create_task(
            claim_assessment_responses(client, anonymous_token=tokens[1], user_id=user_id)
        )
        if how == "cancel":
            await until_a_claim_waits(conn)
            waiting.cancel()
        with pytest.raises((asyncio.CancelledError, asyncio.TimeoutError)):
            await waiting

        await until_nothing_is_open(conn)
        assert len(await assessments.get_responses(client, anonymous_token=tokens[1])) == 1
        assert client.get_idle_size() == 1


@pytest.fixture(scope="module")
def hosted_pooler(server: str) -> Iterator[str]:
    """Return the URL of a pooler on TCP, with TLS and a password."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the pooler's certificate, is not installed")
    with pgbouncer.running_as_hosted(server) as url:
        yield url


@pytest.fixture
def hosted(hosted_pooler: str, database: str) -> str:
    """Return the URL of this test's database behind that pooler."""
    return urlsplit(hosted_pooler)._replace(path=urlsplit(database).path).geturl()


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
async def test_a_url_as_dashboards_hand_it_out_works(
    hosted: str, parameters: str, token: UUID
) -> None:
    """With the parameters that hosted poolers hand out the pool connects, and over TLS."""
    async with create_pool(f"{hosted}?{parameters}", pooler="transaction", max_size=4) as client:
        await asyncio.gather(*(submit(client, anonymous_token=token) for _ in range(8)))
        assert len(await assessments.get_responses(client, anonymous_token=token)) == 8


async def test_check_and_explain_work_and_say_that_a_pooler_is_there(pooled: str) -> None:
    """`assessments check` notes the pooler, and neither command leaves anything prepared."""
    before = await sessions(pooled)
    checked, explained = [
        await asyncio.to_thread(commands.run, name, "--database", pooled)
        for name in ("check", "explain")
    ]

    assert (checked.returncode, explained.returncode) == (0, 0), checked.stderr
    assert b"note     a pooler stands in between" in checked.stdout
    assert await sessions(pooled) == before


async def test_pgbouncer_true_is_enough(hosted: str) -> None:
    """?pgbouncer=true in the URL alone makes calls right on shared server connections."""
    async with create_pool(f"{hosted}?pgbouncer=true", min_size=CLIENTS, max_size=CLIENTS) as pool:
        counted: Counter[str] = Counter()
        await asyncio.gather(*(Client(pool, counted).round() for _ in range(CLIENTS)))
    assert set(counted) == PUBLIC


@asynccontextmanager
async def as_role(conn: asyncpg.Connection[Any], database: str) -> AsyncIterator[tuple[str, str]]:
    """Yield the name of a role that may do what the service does, and the URL to log in as it."""
    name = f"app_{uuid4().hex}"
    await conn.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'of-a-test';"
        f"GRANT SELECT, INSERT ON assessment_responses, assessment_scores TO {name}"
    )
    place = urlsplit(database)
    login = f"{name}:of-a-test@{place.netloc.rpartition('@')[2]}"
    try:
        yield name, place._replace(netloc=login).geturl()
    finally:
        await conn.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def acknowledged_in_the_real_table(conn: asyncpg.Connection[Any], url: str) -> int:
    """Return how many of ten submits are stored, after another client made a temporary table."""
    with pgbouncer.running(url, default_pool_size=1) as pooled:
        stranger = await asyncpg.connect(pooled, statement_cache_size=0)
        await stranger.execute(
            "CREATE TEMPORARY TABLE assessment_responses"
            " (LIKE public.assessment_responses INCLUDING DEFAULTS INCLUDING IDENTITY)"
        )
        await stranger.close()
        async with behind(pooled, 4) as ours:
            stored = await asyncio.gather(
                *(submit(ours, anonymous_token=uuid4()) for _ in range(10))
            )
    count: int = await conn.fetchval(
        "SELECT count(*) FROM public.assessment_responses WHERE response_id = any($1::bigint[])",
        ids(stored),
    )
    return count


async def test_a_search_path_ending_in_pg_temp_keeps_answers_out_of_temporary_tables(
    conn: asyncpg.Connection[Any], database: str
) -> None:
    """With the role's search_path as documented another client's temporary table takes nothing."""
    async with as_role(conn, database) as (name, url):
        await conn.execute(f"ALTER ROLE {name} SET search_path = public, pg_temp")

        assert await acknowledged_in_the_real_table(conn, url) == 10


async def test_without_it_a_temporary_table_on_a_shared_connection_takes_answers(
    conn: asyncpg.Connection[Any], database: str
) -> None:
    """The danger is real: under PostgreSQL's default search_path the answers are not stored."""
    async with as_role(conn, database) as (_, url):
        assert await acknowledged_in_the_real_table(conn, url) == 0
