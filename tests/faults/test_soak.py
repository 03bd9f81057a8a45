"""A minute of mixed concurrent calls leaves no anomaly."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg

import assessments
from assessments import backoffice
from tests.helpers.audit import AUDIT, LEFT_BEHIND, NEVER, count_found
from tests.helpers.rows import ids, new_user

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from assessments import AssessmentResponse, NewResponse

    Connection = asyncpg.Connection[Any]
    Effect = Callable[[], None]
    """What to enter into the ledger once the transaction of an action has committed."""

SECONDS = 60
WORKERS = 10
PEOPLE = 4
QUESTIONS = [f"q{number}" for number in range(5)]
NEXT_PERSON = 0.02  # how often an action is a person's last
RARE = 0.01  # how often an action is one of the rare ones
RETENTION = timedelta(seconds=SECONDS / 3)


@dataclass
class Person:
    """A user, and the anonymous tokens of the browsers that the user is not signed in on."""

    user_id: int
    tokens: list[UUID] = field(default_factory=lambda: [uuid4() for _ in range(3)])


@dataclass
class Ledger:
    """What was acknowledged to the clients. Times are monotonic; all but acked_at are of calls."""

    acked: dict[int, AssessmentResponse] = field(default_factory=dict)
    acked_at: dict[int, float] = field(default_factory=dict)
    scores: dict[int, int] = field(default_factory=dict)
    claims: int = 0
    claimed: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    first_claim: dict[tuple[UUID, int], float] = field(default_factory=dict)
    erasures: dict[Any, float] = field(default_factory=dict)
    reads: list[tuple[float, set[int], set[Any]]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    anomalies: Counter[str] = field(default_factory=Counter)

    def acknowledge(self, rows: list[AssessmentResponse]) -> None:
        """Enter submitted rows."""
        for row in rows:
            self.acked.setdefault(row["response_id"], row)
            self.acked_at.setdefault(row["response_id"], time.monotonic())


class Traffic:
    """Random calls about a few people at a time, so that the calls contend."""

    def __init__(self, pool: asyncpg.Pool[Any], chance: Random) -> None:
        self.pool, self.chance, self.ledger = pool, chance, Ledger()
        self.people: list[Person] = []
        self.texts = map(str, count())

    async def run(self, seconds: float) -> None:
        """Keep every worker busy for so long."""
        self.people = [Person(await new_user(self.pool)) for _ in range(PEOPLE)]
        until = time.monotonic() + seconds
        await asyncio.gather(*(self.work(until) for _ in range(WORKERS)))

    async def work(self, until: float) -> None:
        """Perform one random action after the other."""
        frequent = [self.submit, self.submit_batch, self.claim, self.score, self.read]
        rare = [self.erase, self.purge, self.delete_user]
        while time.monotonic() < until:
            place = self.chance.randrange(PEOPLE)
            person = self.people[place]
            if self.chance.random() < NEXT_PERSON:
                self.people[place] = Person(await new_user(self.pool))
            action = self.chance.choice(rare if self.chance.random() < RARE else frequent)
            try:
                await self.perform(action, person)
            except (assessments.UnknownUser, assessments.UnknownResponse) as error:
                self.ledger.refused[type(error).__name__] += 1
            except asyncpg.DeadlockDetectedError:
                # A user's deletion locks rows in the foreign key's order, a bitmap scan in the
                # heap's: a caller may retry what PostgreSQL ends.
                self.ledger.refused[f"deadlocks_of_{action.__name__}"] += 1
            except Exception as error:  # noqa: BLE001 - counted, with its name
                self.ledger.anomalies[type(error).__name__] += 1

    async def perform(self, action: Callable[..., Any], person: Person) -> None:
        """Perform on the pool, or in a host's transaction, which may be rolled back in the end."""
        if self.chance.random() < 0.6:
            effect = await action(self.pool, person)
        else:
            async with self.pool.acquire() as conn:
                transaction = conn.transaction()
                await transaction.start()
                commits = False
                try:
                    effect = await action(conn, person)
                    await asyncio.sleep(self.chance.random() * 0.01)
                    commits = self.chance.random() < 0.7
                finally:
                    await (transaction.commit() if commits else transaction.rollback())
            if not commits:
                return
        effect()

    def new_response(self, person: Person) -> NewResponse:
        """Return a response of the person's with a unique text."""
        owner = self.chance.choice((person.user_id, *person.tokens))
        return {
            "user_id": owner if isinstance(owner, int) else None,
            "anonymous_token": owner if isinstance(owner, UUID) else None,
            "question_id": self.chance.choice(QUESTIONS),
            "module_slug": "m1",
            "answer_text": next(self.texts),
            "submission_key": self.chance.choice((None, uuid4())),
        }

    async def submit(self, conn: Any, person: Person) -> Effect:
        """Submit; with a key sometimes retry, which is a conflict if claimed meanwhile."""
        new: Any = self.new_response(person)
        rows = [await assessments.submit_response(conn, **new)]
        if new["submission_key"] and self.chance.random() < 0.5:
            try:
                rows.append(await assessments.submit_response(conn, **new))
            except assessments.SubmissionConflict:
                self.ledger.refused["SubmissionConflict"] += 1
        return lambda: self.ledger.acknowledge(rows)

    async def submit_batch(self, conn: Any, person: Person) -> Effect:
        """Submit a batch."""
        new = [self.new_response(person) for _ in range(self.chance.randint(1, 4))]
        rows = await assessments.submit_responses(conn, new)
        return lambda: self.ledger.acknowledge(rows)

    async def claim(self, conn: Any, person: Person) -> Effect:
        """Claim a token's responses, sometimes for another person."""
        claimant = self.chance.choice(self.people) if self.chance.random() < 0.1 else person
        token, user_id = pair = self.chance.choice(person.tokens), claimant.user_id
        self.ledger.first_claim.setdefault(pair, time.monotonic())
        number = await assessments.claim_assessment_responses(
            conn, anonymous_token=token, user_id=user_id
        )

        def effect() -> None:
            self.ledger.claims += 1
            self.ledger.claimed[pair] += number

        return effect

    async def score(self, conn: Any, person: Person) -> Effect:
        """Score the person's newest responses."""
        rows = await assessments.get_responses(
            conn, user_id=person.user_id, anonymous_token=person.tokens[0], limit=5
        )
        scores = await backoffice.record_scores(
            conn, [{"response_id": key, "score_data": {}} for key in ids(rows)]
        )
        return lambda: self.ledger.scores.update(
            (score["score_id"], score["response_id"]) for score in scores
        )

    async def read(self, conn: Any, person: Person) -> Effect:
        """Read the responses of both owners."""
        called, token = time.monotonic(), self.chance.choice(person.tokens)
        rows = await assessments.get_responses(conn, user_id=person.user_id, anonymous_token=token)
        read = set(ids(rows))
        self.ledger.anomalies["read_twice"] += len(rows) - len(read)
        return lambda: self.ledger.reads.append((called, read, {person.user_id, token}))

    async def erase(self, conn: Any, person: Person) -> Effect:
        """Erase the responses of one owner or of both."""
        called, token = time.monotonic(), self.chance.choice(person.tokens)
        owners: dict[str, Any] = {"user_id": person.user_id, "anonymous_token": token}
        if self.chance.random() < 0.6:
            del owners[self.chance.choice(list(owners))]
        await assessments.delete_responses(conn, **owners)
        return lambda: self.ledger.erasures.update(dict.fromkeys(owners.values(), called))

    async def purge(self, conn: Any, _person: Person) -> Effect:
        """Purge old anonymous responses."""
        await backoffice.purge_anonymous_responses(conn, older_than=RETENTION)
        return lambda: None

    async def delete_user(self, conn: Any, person: Person) -> Effect:
        """Delete the user in the host's table."""
        called = time.monotonic()
        await conn.execute("DELETE FROM users WHERE user_id = $1", person.user_id)
        return lambda: self.ledger.erasures.update({person.user_id: called})


async def watch(conn: Connection, anomalies: Counter[str]) -> None:
    """Count what may never be found, twice a second, until cancelled."""
    while True:
        anomalies |= await count_found(conn, NEVER)
        await asyncio.sleep(0.5)


def owner_of(row: Any) -> Any:
    """Return a row's user or anonymous token."""
    return row["user_id"] or row["anonymous_token"]


async def compare(conn: Connection, ledger: Ledger) -> Counter[str]:
    """Count the differences between the database and what was acknowledged."""
    stored, erased, claimed = [
        {row["response_id"]: row for row in await conn.fetch(f"SELECT * FROM {table}")}  # noqa: S608
        for table in ("assessment_responses", "erased", "claimed")
    ]
    scores = dict(await conn.fetch("SELECT score_id, response_id FROM assessment_scores"))
    acked, acked_at = ledger.acked, ledger.acked_at
    found: Counter[str] = Counter()

    # Every acknowledged row is stored with its content, or was erased; and no other row is stored.
    found["acked_missing"] = len(acked.keys() - stored.keys() - erased.keys())
    found["stored_without_call"] = len(stored.keys() - acked.keys())
    for key in stored.keys() & acked.keys():
        row, expected = stored[key], dict(acked[key])
        if key in claimed:
            expected |= {"user_id": claimed[key]["user_id"], "anonymous_token": None}
        content = ("question_id", "module_slug", "answer_text", "created_at")
        found["changed"] += any(row[name] != expected[name] for name in content)
        owner = ("user_id", "anonymous_token")
        found["owner_changed"] += any(row[name] != expected[name] for name in owner)
        erased_at = ledger.erasures.get(owner_of(row), 0)
        found["erasure_survived"] += key not in claimed and acked_at[key] < erased_at
    for row in erased.values():
        purged = row["user_id"] is None and row["age"] >= RETENTION
        found["erased_without_call"] += not purged and owner_of(row) not in ledger.erasures

    # Every claim took as many rows as it returned, and no question that the user had answered.
    took = Counter((row["anonymous_token"], row["user_id"]) for row in claimed.values())
    pairs = took | ledger.claimed
    found["claims_miscounted"] = sum(took[pair] != ledger.claimed[pair] for pair in pairs)
    earliest: dict[tuple[Any, str], float] = defaultdict(lambda: float("inf"))
    for key in stored.keys() - claimed.keys():
        place = owner_of(stored[key]), stored[key]["question_id"]
        earliest[place] = min(earliest[place], acked_at.get(key, float("inf")))
    for user_id, token, question in {
        (row["user_id"], row["anonymous_token"], row["question_id"]) for row in claimed.values()
    }:
        called = ledger.first_claim[token, user_id]
        found["claimed_though_answered"] += earliest[user_id, question] < called
        found["attempts_torn_apart"] += earliest[token, question] < called

    # Every acknowledged score is stored unless its response was erased; and no other is stored.
    kept = {score for score, response in ledger.scores.items() if response in stored}
    found["scores_missing"] = len(kept - scores.keys())
    found["scores_without_call"] = len(scores.keys() - ledger.scores.keys())

    # Every read returned what its owners had been acknowledged before it and still own.
    owned: dict[Any, list[int]] = defaultdict(list)
    for key in stored.keys() & acked.keys():
        owned[owner_of(stored[key])].append(key)
    for called, read, owners in ledger.reads:
        for key in (key for owner in owners for key in owned[owner]):
            found["unread"] += (
                owner_of(acked[key]) in owners and acked_at[key] < called and key not in read
            )
    return found


async def test_a_minute_of_mixed_concurrent_calls_leaves_no_anomaly(
    database: str, conn: Connection, chance: Random, figures: Callable[..., None], scale: int
) -> None:
    """Submits, claims, scores, reads and erasures by ten workers break none of the invariants."""
    await conn.execute(AUDIT)
    async with asyncpg.create_pool(database, min_size=WORKERS, max_size=WORKERS + 2) as pool:
        traffic = Traffic(pool, chance)
        ledger = traffic.ledger
        watching = asyncio.create_task(watch(conn, ledger.anomalies))
        try:
            await asyncio.wait_for(traffic.run(SECONDS * scale), SECONDS * scale + 120)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert watching.cancelled(), watching.exception()
        ledger.anomalies |= await count_found(conn, NEVER | LEFT_BEHIND)
        ledger.anomalies.update(await compare(conn, ledger))

    figures(
        "soak",
        acked_submits=len(ledger.acked),
        claims=ledger.claims,
        rows_claimed=ledger.claimed.total(),
        scores=len(ledger.scores),
        reads=len(ledger.reads),
        erasures=len(ledger.erasures),
        anomalies=ledger.anomalies.total(),
    )
    figures("soak, refused as promised", **ledger.refused)
    assert +ledger.anomalies == Counter()
    deadlocks = sum(number for name, number in ledger.refused.items() if "deadlocks" in name)
    assert deadlocks < len(ledger.acked) / 1000
    assert min(len(ledger.acked), ledger.claimed.total(), len(ledger.scores)) > 0
