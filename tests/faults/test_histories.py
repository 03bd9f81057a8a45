"""Random transactions of a host, with savepoints and two-phase commit, on eight connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

import assessments
from assessments.testing import migrations
from tests.helpers.audit import AUDIT, LEFT_BEHIND, NEVER, count_found
from tests.helpers.cluster import APPLICATION, Cluster
from tests.helpers.histories import QUESTIONS, UNKNOWN, USERS, Draw
from tests.helpers.model import Model, matches, perform
from tests.helpers.servers import database_url
from tests.helpers.storms import run_together
from tests.helpers.transactions import outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.helpers.calls import Call
    from tests.helpers.model import Row

    Connection = asyncpg.Connection[Any]
    Made: TypeAlias = tuple[Call, Any]
    """A call, and what it returned or raised."""

CONNECTIONS = 8
ROUNDS, TRANSACTIONS = 20, 8  # transactions of each connection in a round
CRASHED = 5  # one round of so many ends with a server that crashes
REQUESTS = 12  # responses with a key, which any connection may submit
DATABASE = "assessments_histories"
EMPTY = """
TRUNCATE users, assessment_responses, assessment_scores, claimed, erased;
INSERT INTO users VALUES (1), (2);
"""
SUBMITS, SCORES = ("submit_response", "submit_responses"), ("record_score", "record_scores")
MOVES = ("claim_assessment_responses", "delete_responses")
CALLS = (*SUBMITS * 6, *SCORES * 2, *["get_responses"] * 3, *[MOVES[0]] * 5, MOVES[1])
STEPS = (*["call"] * 6, "SAVEPOINT", "RELEASE", "ROLLBACK TO")
ENDS = (*["COMMIT"] * 2, "ROLLBACK", *["PREPARE TRANSACTION"] * 2)
PREPARED_ENDS = (*["COMMIT PREPARED"] * 2, "ROLLBACK PREPARED")
PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"


@pytest.fixture
async def two_phase(cluster: Cluster) -> AsyncIterator[Cluster]:
    """Return a server with a database of this test's own, on which transactions are prepared."""
    await cluster.fetch("ALTER SYSTEM SET max_prepared_transactions = 64")
    await cluster.restart()
    await cluster.fetch(f"CREATE DATABASE {DATABASE}")
    own = Cluster(database_url(cluster.url, DATABASE))
    migrations.apply(own.url)
    async with asyncpg.create_pool(own.url, min_size=1, max_size=1) as pool:
        await pool.execute(AUDIT)
    yield own
    for (name,) in await own.fetch(PREPARED):
        await own.fetch(f"ROLLBACK PREPARED '{name}'")
    await cluster.fetch(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@dataclass
class HostDraw(Draw):
    """Draws calls whose answers are unique, but for retries of *requests*."""

    requests: list[Row] = field(default_factory=list)
    texts: Iterator[str] = field(default_factory=lambda: map(str, count()))

    def submit_response(self) -> Row:
        """Return a new response without a key, or one of the requests."""
        if self.requests and self.chance.random() < 0.5:
            return self.chance.choice(self.requests)
        question = self.chance.choice(QUESTIONS)
        new = {"question_id": question, "module_slug": "m1", "answer_text": next(self.texts)}
        return {**self.writer(), **new}

    def submit_responses(self) -> Row:
        """Return a batch, which may hold a request twice."""
        return {"responses": [self.submit_response() for _ in range(self.chance.randint(1, 4))]}

    def claim_assessment_responses(self) -> Row:
        """Return a claim that skips what the user has answered: the others may mix two claims."""
        return {**super().claim_assessment_responses(), "skip_answered": True}


@dataclass
class Read:
    """A list of responses that was read, and what its reader knew before."""

    asked: Row
    found: list[int]
    own: set[int]  # of its transaction, which others may never see
    expected: set[int]


@dataclass
class Transaction:
    """An open transaction of a host: the calls that it will commit, and each savepoint's place."""

    made: list[Made] = field(default_factory=list)
    savepoints: list[int] = field(default_factory=list)
    own: set[int] = field(default_factory=set)


class History:
    """A round: what became of its calls, and the transactions that are prepared."""

    def __init__(self, chance: Random, names: Iterator[str], counts: Counter[str]) -> None:
        self.chance, self.names, self.counts = chance, names, counts
        self.model = Model(set(USERS), [], [], {})  # what is committed, for calls to be drawn from
        self.texts = map(str, count())
        draw = HostDraw(chance, self.model, texts=self.texts)
        self.requests = [
            {**draw.submit_response(), "submission_key": UUID(int=chance.getrandbits(128))}
            for _ in range(REQUESTS)
        ]
        self.committed: list[Made] = []
        self.acked: dict[int, Row] = {}
        self.reads: list[Read] = []
        self.prepared: dict[str, list[Made]] = {}

    async def run(self, conns: list[Connection]) -> None:
        """Run transactions on each connection, and finish prepared ones beside them."""
        over, resolver = asyncio.Event(), Random(self.chance.random())

        async def work(conn: Connection, chance: Random) -> None:
            draw = HostDraw(chance, self.model, self.requests, self.texts)
            for _ in range(TRANSACTIONS):
                if self.prepared and chance.random() < 0.3:
                    await self.finish_prepared(conn, chance)
                await self.transact(conn, draw)

        async def work_on_each() -> None:
            await asyncio.gather(*(work(conn, Random(self.chance.random())) for conn in conns[1:]))
            over.set()

        async def resolve() -> None:  # what is prepared blocks others, who may be all that there is
            while not over.is_set():
                await asyncio.sleep(resolver.random() * 0.03)
                if self.prepared:
                    await self.finish_prepared(conns[0], resolver)

        await run_together(work_on_each(), resolve(), minutes=1)

    async def transact(self, conn: Connection, draw: HostDraw, end: str = "") -> None:
        """Run one transaction to its *end*, or to any, if none is given."""
        transaction = Transaction()
        end = end or draw.chance.choice(ENDS)
        await conn.execute("BEGIN")
        try:
            for _ in range(draw.chance.randint(2, 8)):
                await self.step(conn, draw, transaction)
        except asyncpg.DeadlockDetectedError:
            self.counts["deadlocks"] += 1
            end = "ROLLBACK"
        if end == "PREPARE TRANSACTION":
            name = next(self.names)
            assert await conn.execute(f"{end} '{name}'") == end
            self.prepared[name] = transaction.made
        else:
            assert await conn.execute(end) == end
            self.finish(end, transaction.made)

    async def step(self, conn: Connection, draw: HostDraw, transaction: Transaction) -> None:
        """Make a call, or begin or end a savepoint."""
        step, savepoints = draw.chance.choice(STEPS), transaction.savepoints
        if step == "call" or (step != "SAVEPOINT" and not savepoints):
            await self.call(conn, draw.call(*CALLS), transaction)
        elif step == "SAVEPOINT":
            savepoints.append(len(transaction.made))
            await conn.execute(f"SAVEPOINT host_{len(savepoints)}")
        else:
            await conn.execute(f"{step} SAVEPOINT host_{len(savepoints)}")
            begun = savepoints.pop()
            if step == "ROLLBACK TO":
                self.counts["savepoints_rolled_back"] += 1
                del transaction.made[begun:]

    async def call(self, conn: Connection, call: Call, transaction: Transaction) -> None:
        """Make *call* and enter it with its result, which may be an error that is promised."""
        moved = any(made.function in MOVES for made, _ in transaction.made)
        expected = set() if moved else self.acked.keys() | ids_of(transaction.made)
        result = await outcome(perform(conn, call))
        transaction.made.append((call, result))
        transaction.own.update(ids_of([(call, result)]))
        if call.function == "get_responses":
            found = [row["response_id"] for row in result]
            self.reads.append(Read(call.arguments, found, transaction.own, expected))
        if not is_promised(call, result):
            ended = result[0].__name__ if isinstance(result, tuple) else "rows"
            self.counts[f"{call.function} ended with {ended}"] += 1

    async def crash(self, server: Cluster, conns: list[Connection]) -> None:
        """Prepare a transaction, and crash the server."""
        await self.finish_all(conns)
        draw = HostDraw(self.chance, self.model, self.requests, self.texts)
        await self.transact(conns[0], draw, "PREPARE TRANSACTION")
        await server.restart()
        for conn in conns:
            conn.terminate()
        conns[:] = await connected(server)

    async def finish_all(self, conns: list[Connection]) -> None:
        """Finish every prepared transaction, on any connection."""
        while self.prepared:
            await self.finish_prepared(self.chance.choice(conns), self.chance)

    async def finish_prepared(self, conn: Connection, chance: Random) -> None:
        """Commit or roll back a transaction that some connection has prepared."""
        name, end = chance.choice(list(self.prepared)), chance.choice(PREPARED_ENDS)
        made = self.prepared.pop(name)
        assert await conn.execute(f"{end} '{name}'") == end
        self.finish(end, made)

    def finish(self, end: str, made: list[Made]) -> None:
        """Enter the calls of a transaction that has ended."""
        self.counts[end] += 1
        if end.startswith("COMMIT"):
            self.committed += made
            new = {row["response_id"]: row for row in rows_of(made, SUBMITS)}
            self.model.responses += [new[key] for key in new.keys() - self.acked.keys()]
            self.acked |= new

    async def audit(self, conn: Connection) -> Counter[str]:
        """Count where the tables and what was acknowledged differ."""
        found = await count_found(conn, NEVER | LEFT_BEHIND | {"prepared_left": PREPARED})
        stored, erased, claimed = [
            {row["response_id"]: row for row in await conn.fetch(f"SELECT * FROM {table}")}  # noqa: S608
            for table in ("assessment_responses", "erased", "claimed")
        ]
        scores = dict(await conn.fetch("SELECT score_id, response_id FROM assessment_scores"))
        acked = self.acked.keys()
        found["lost"] = len(acked - stored.keys() - erased.keys())
        found["not_rolled_back"] = len((stored.keys() | erased.keys() | claimed.keys()) - acked)
        found["stored_and_erased"] = len(stored.keys() & erased.keys())
        keys = {each["answer_text"]: each["submission_key"] for each in self.requests}
        for key in stored.keys() & acked:
            row, expected = stored[key], {**self.acked[key]}
            del expected["answer_metadata"]
            if key in claimed:
                expected |= {"user_id": claimed[key]["user_id"], "anonymous_token": None}
            expected["submission_key"] = keys.get(row["answer_text"])
            found["changed"] += not expected.items() <= dict(row).items()
        moves: Counter[Any] = Counter()
        for call, result in self.committed:
            if call.function in MOVES and isinstance(result, int):
                moves[move_of(call)] += result
        found["claims_miscounted"] = +Counter(
            (row["anonymous_token"], row["user_id"]) for row in claimed.values()
        ) != +Counter({move: moves[move] for move in moves if move != "erased"})
        found["erasures_miscounted"] = moves["erased"] != len(erased)
        kept = {
            row["score_id"]: row["response_id"]
            for row in rows_of(self.committed, SCORES)
            if row["response_id"] in stored
        }
        found["scores_lost_or_not_rolled_back"] = len(kept.items() ^ scores.items())
        for read in self.reads:
            asked = {name: read.asked[name] for name in ("module_slug", "question_id")}
            owners = {read.asked.get(name) for name in ("user_id", "anonymous_token")}
            found["read_twice"] += len(read.found) - len(set(read.found))
            found["read_uncommitted"] += len(set(read.found) - read.own - acked)
            found["unread"] += sum(
                matches(stored[key], asked)
                and (stored[key]["user_id"] or stored[key]["anonymous_token"]) in owners
                for key in (read.expected & stored.keys()) - claimed.keys() - set(read.found)
            )
        self.counts.update(acked=len(acked), claimed=len(claimed), erased=len(erased))
        self.counts.update(scores=len(kept), reads=len(self.reads))
        return found


def move_of(call: Call) -> Any:
    """Return what a claim or an erasure is counted under."""
    if call.function == "delete_responses":
        return "erased"
    return call.arguments["anonymous_token"], call.arguments["user_id"]


def rows_of(made: list[Made], functions: tuple[str, ...]) -> list[Row]:
    """Return the rows that the calls of *functions* returned, and none of those that raised."""
    rows: list[Row] = []
    for call, result in made:
        if call.function in functions and isinstance(result, dict | list):
            rows += [result] if isinstance(result, dict) else result
    return rows


def ids_of(made: list[Made]) -> set[int]:
    """Return the ids of the rows that the submissions among the calls returned."""
    return {row["response_id"] for row in rows_of(made, SUBMITS)}


def is_promised(call: Call, result: Any) -> bool:
    """Return whether *call* may end so: with these rows, or with this error."""
    error = result[0] if isinstance(result, tuple) else None
    given = call.arguments
    items = given.get("responses") or given.get("scores") or [given]
    if any(item.get("user_id") == UNKNOWN for item in items):
        return error is assessments.UnknownUser
    if any(item.get("response_id") == UNKNOWN for item in items):
        return error is assessments.UnknownResponse
    if call.function in SCORES:
        return error in (None, assessments.UnknownResponse)  # the response may be erased
    if error is not None:  # a key whose row is claimed or erased
        has_key = any("submission_key" in item for item in items)
        return error is assessments.SubmissionConflict and has_key
    if call.function not in SUBMITS:
        return True
    rows = rows_of([(call, result)], SUBMITS)
    return len(rows) == len(items) and all(map(holds, rows, items))


def holds(row: Row, item: Row) -> bool:
    """Return whether *row* has what *item* gives, but for its key, which is not returned."""
    return all(row[name] == item[name] for name in item if name != "submission_key")


async def connected(cluster: Cluster) -> list[Connection]:
    """Return connections on which a deadlock is soon found, and one more to resolve others."""
    settings = {"application_name": APPLICATION, "deadlock_timeout": "20ms"}
    return [
        await asyncpg.connect(cluster.url, server_settings=settings) for _ in range(CONNECTIONS + 1)
    ]


async def test_transactions_with_savepoints_and_two_phase_commit_store_what_they_commit(
    two_phase: Cluster, chance: Random, scale: int, figures: Callable[..., None]
) -> None:
    """Whatever rolls back, prepares or crashes, each committed call counts once and no other."""
    conns = await connected(two_phase)
    counts: Counter[str] = Counter()
    anomalies: Counter[str] = Counter()
    names = map("host {}".format, count())
    for number in range(ROUNDS * scale):
        await conns[0].execute(EMPTY)
        history = History(chance, names, counts)
        await history.run(conns)
        if number % CRASHED == 0:
            counts["crashes_with_a_prepared_transaction"] += 1
            await history.crash(two_phase, conns)
        await history.finish_all(conns)
        anomalies.update(await history.audit(conns[0]))
    for conn in conns:
        await conn.close()

    broken = [name for name in counts if " ended with " in name]
    anomalies.update({name: counts.pop(name) for name in broken})
    ends = {end.lower(): counts.pop(end) for end in sorted({*ENDS, *PREPARED_ENDS} & counts.keys())}
    figures("histories of a host's transactions", **counts, anomalies=anomalies.total())
    figures("histories, how transactions ended", **ends)
    assert +anomalies == Counter()
    assert min(counts["claimed"], counts["erased"], ends["commit prepared"]) > 0
