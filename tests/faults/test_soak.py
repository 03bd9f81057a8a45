"""Everything at once for a minute: what was acknowledged is there, and every claim was one."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg

import assessments
from assessments import backoffice
from tests.helpers.rows import ids, new_user

if TYPE_CHECKING:
    from collections.abc import Callable

    from assessments import AssessmentResponse, NewResponse

    Effect = Callable[[], None]
    """What to write down once the transaction of an action has committed."""

SECONDS = 60
WORKERS = 10
PEOPLE = 4
BANK = [f"q{number}" for number in range(5)]
NEXT = 0.02  # how often an action is a person's last
RARE = 0.01  # how often an action erases
OLD = timedelta(seconds=SECONDS / 3)

# The host's own record, kept by the transactions themselves: who claimed what, who erased what.
AUDIT = """
CREATE TABLE moved AS
SELECT pg_current_xact_id() AS claim, response_id, anonymous_token, user_id, question_id
FROM assessment_responses;
CREATE TABLE erased AS
SELECT response_id, anonymous_token, user_id, interval '0' AS age FROM assessment_responses;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_op = 'UPDATE' THEN
        INSERT INTO moved VALUES (
            pg_current_xact_id(), old.response_id, old.anonymous_token, new.user_id, old.question_id
        );
    ELSE
        INSERT INTO erased VALUES (
            old.response_id, old.anonymous_token, old.user_id, now() - old.created_at
        );
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE OR DELETE ON assessment_responses
FOR EACH ROW EXECUTE FUNCTION audit();
"""

# What may never be seen, not even while everything runs. A question fed by two claims: rows at it
# that both claims brought are still there, so the later claim found the earlier one's.
NEVER = {
    "questions_fed_by_two_claims": """
        SELECT count(*) FROM (
            SELECT FROM moved AS m INNER JOIN assessment_responses AS r USING (response_id)
            GROUP BY m.user_id, m.question_id
            HAVING count(DISTINCT (m.claim, m.anonymous_token)) > 1
        ) AS fed
    """,
    "claimed_twice": """
        SELECT count(*) FROM (SELECT FROM moved GROUP BY response_id HAVING count(*) > 1) AS m
    """,
    "stored_twice": """
        SELECT count(*) FROM (
            SELECT FROM assessment_responses GROUP BY answer_text HAVING count(*) > 1
        ) AS r
    """,
    "without_one_owner": """
        SELECT count(*) FROM assessment_responses
        WHERE num_nonnulls(user_id, anonymous_token) <> 1
    """,
    "users_missing": """
        SELECT count(*) FROM assessment_responses AS r LEFT JOIN users AS u USING (user_id)
        WHERE r.user_id IS NOT NULL AND u.user_id IS NULL
    """,
    "scores_without_response": """
        SELECT count(*) FROM assessment_scores AS s
        LEFT JOIN assessment_responses AS r USING (response_id)
        WHERE r.response_id IS NULL
    """,
}
LEFT_BEHIND = {
    "transactions_left_open": """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'
    """,
    "advisory_locks_left": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
}


@dataclass
class Person:
    """A user, and the browsers that she is not signed in on."""

    user_id: int
    tokens: list[UUID] = field(default_factory=lambda: [uuid4() for _ in range(3)])


@dataclass
class Ledger:
    """What the clients were told, with the moments at which they asked and were answered."""

    acked: dict[int, AssessmentResponse] = field(default_factory=dict)
    acked_at: dict[int, float] = field(default_factory=dict)
    scores: dict[int, int] = field(default_factory=dict)
    claimed: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    claims: int = 0
    first_claim: dict[tuple[UUID, int], float] = field(default_factory=dict)
    erasures: dict[Any, float] = field(default_factory=dict)
    reads: list[tuple[float, set[int], set[Any]]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    anomalies: Counter[str] = field(default_factory=Counter)

    def submitted(self, rows: list[AssessmentResponse]) -> None:
        """Note rows that were acknowledged."""
        now = time.monotonic()
        for row in rows:
            self.acked.setdefault(row["response_id"], row)
            self.acked_at.setdefault(row["response_id"], now)


class Traffic:
    """Random calls about a few people at a time, so that they meet."""

    def __init__(self, pool: asyncpg.Pool[Any], seed: int) -> None:
        self.pool = pool
        self.chance = random.Random(seed)
        self.people: list[Person] = []
        self.ledger = Ledger()
        self.texts = 0

    async def run(self, seconds: float) -> None:
        """Keep every worker busy for so long."""
        self.people = [Person(await new_user(self.pool)) for _ in range(PEOPLE)]
        until = time.monotonic() + seconds
        await asyncio.gather(*(self.work(until) for _ in range(WORKERS)))

    async def work(self, until: float) -> None:
        """Act until that moment."""
        actions = [self.submit, self.submit_many, self.claim, self.score, self.read]
        rare = [self.erase, self.purge, self.leave]
        while time.monotonic() < until:
            seat = self.chance.randrange(PEOPLE)
            person = self.people[seat]
            if self.chance.random() < NEXT:
                self.people[seat] = Person(await new_user(self.pool))
            action = self.chance.choice(rare if self.chance.random() < RARE else actions)
            try:
                await self.act(action, person)
            except (assessments.UnknownUser, assessments.UnknownResponse) as error:
                self.ledger.refused[type(error).__name__] += 1
            except asyncpg.DeadlockDetectedError:
                # Deleting a user locks rows in an order of the foreign key's own, and a plan by
                # bitmap in the heap's: what PostgreSQL ends may be made again.
                self.ledger.refused[f"deadlocks_of_{action.__name__}"] += 1
            except Exception as error:  # noqa: BLE001 - counted, with its name
                self.ledger.anomalies[type(error).__name__] += 1

    async def act(self, action: Callable[..., Any], person: Person) -> None:
        """Act on the pool, or in a host's transaction that is held for a moment, or undone."""
        if self.chance.random() < 0.6:
            effect = await action(self.pool, person)
        else:
            async with self.pool.acquire() as conn:
                transaction = conn.transaction()
                await transaction.start()
                try:
                    effect = await action(conn, person)
                    await asyncio.sleep(self.chance.random() * 0.01)
                except BaseException:
                    await transaction.rollback()
                    raise
                if self.chance.random() < 0.3:
                    await transaction.rollback()
                    return
                await transaction.commit()
        effect()

    def answer(self, person: Person) -> NewResponse:
        """Return a response to submit, with a text that no other has."""
        self.texts += 1
        owner = self.chance.choice((person.user_id, *person.tokens))
        return {
            "user_id": owner if isinstance(owner, int) else None,
            "anonymous_token": owner if isinstance(owner, UUID) else None,
            "question_id": self.chance.choice(BANK),
            "module_slug": "m1",
            "answer_text": str(self.texts),
            "submission_key": self.chance.choice((None, uuid4())),
        }

    async def submit(self, conn: Any, person: Person) -> Effect:
        """Submit; with a key sometimes once more, which is a conflict if claimed meanwhile."""
        new = self.answer(person)
        rows = [await assessments.submit_response(conn, **new)]
        if new["submission_key"] and self.chance.random() < 0.5:
            try:
                rows.append(await assessments.submit_response(conn, **new))
            except assessments.SubmissionConflict:
                self.ledger.refused["SubmissionConflict"] += 1
        return lambda: self.ledger.submitted(rows)

    async def submit_many(self, conn: Any, person: Person) -> Effect:
        """Submit a few at once."""
        new = [self.answer(person) for _ in range(self.chance.randint(1, 4))]
        rows = await assessments.submit_responses(conn, new)
        return lambda: self.ledger.submitted(rows)

    async def claim(self, conn: Any, person: Person) -> Effect:
        """Claim a browser's responses, now and then for another person."""
        if self.chance.random() < 0.1:
            user_id = self.chance.choice(self.people).user_id
        else:
            user_id = person.user_id
        pair = self.chance.choice(person.tokens), user_id
        self.ledger.first_claim.setdefault(pair, time.monotonic())
        number = await assessments.claim_assessment_responses(
            conn, anonymous_token=pair[0], user_id=user_id
        )

        def effect() -> None:
            self.ledger.claims += 1
            self.ledger.claimed[pair] += number

        return effect

    async def score(self, conn: Any, person: Person) -> Effect:
        """Score some of what the person has answered."""
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
        """Read with both owners."""
        asked, token = time.monotonic(), self.chance.choice(person.tokens)
        rows = await assessments.get_responses(conn, user_id=person.user_id, anonymous_token=token)
        seen = ids(rows)
        self.ledger.anomalies["read_twice"] += len(seen) - len(set(seen))
        return lambda: self.ledger.reads.append((asked, set(seen), {person.user_id, token}))

    async def erase(self, conn: Any, person: Person) -> Effect:
        """Erase what is an owner's, or two owners'."""
        asked, token = time.monotonic(), self.chance.choice(person.tokens)
        owners: dict[str, Any] = {"user_id": person.user_id, "anonymous_token": token}
        if self.chance.random() < 0.6:
            del owners[self.chance.choice(list(owners))]
        await assessments.delete_responses(conn, **owners)
        return lambda: self.ledger.erasures.update(dict.fromkeys(owners.values(), asked))

    async def purge(self, conn: Any, _person: Person) -> Effect:
        """Erase what is old and nobody's."""
        await backoffice.purge_anonymous_responses(conn, older_than=OLD)
        return lambda: None

    async def leave(self, conn: Any, person: Person) -> Effect:
        """Delete the user in the host's table."""
        asked = time.monotonic()
        await conn.execute("DELETE FROM users WHERE user_id = $1", person.user_id)
        return lambda: self.ledger.erasures.update({person.user_id: asked})


async def counted(conn: asyncpg.Connection[Any], checks: dict[str, str]) -> Counter[str]:
    """Return how many each of *checks* counts."""
    return Counter({name: await conn.fetchval(check) for name, check in checks.items()})


async def watch(conn: asyncpg.Connection[Any], anomalies: Counter[str]) -> None:
    """Count what may never be seen, twice a second, until cancelled."""
    while True:
        anomalies |= await counted(conn, NEVER)
        await asyncio.sleep(0.5)


async def compared(conn: asyncpg.Connection[Any], ledger: Ledger) -> Counter[str]:
    """Count in what the database differs from what the clients were told."""
    found: Counter[str] = Counter()
    there = {
        row["response_id"]: row for row in await conn.fetch("SELECT * FROM assessment_responses")
    }
    erased = {row["response_id"]: row for row in await conn.fetch("SELECT * FROM erased")}
    moved = {row["response_id"]: row for row in await conn.fetch("SELECT * FROM moved")}
    scores = dict(await conn.fetch("SELECT score_id, response_id FROM assessment_scores"))

    # Every acknowledged row is there with its content, or was erased; and nothing else is there.
    found["acked_missing"] = len(ledger.acked.keys() - there.keys() - erased.keys())
    found["there_unasked"] = len(there.keys() - ledger.acked.keys())
    for key in there.keys() & ledger.acked.keys():
        told, row = ledger.acked[key], there[key]
        was, now = (
            {name: answer[name] for name in ("user_id", "anonymous_token")}
            for answer in (told, row)
        )
        if key in moved:
            was = {"user_id": moved[key]["user_id"], "anonymous_token": None}
        content = ("question_id", "module_slug", "answer_text", "created_at")
        found["changed"] += any(told[name] != row[name] for name in content)  # type: ignore[literal-required]
        found["owner_changed"] += was != now
        for owner in now.values():
            asked = ledger.erasures.get(owner, 0)
            found["erasure_survived"] += key not in moved and ledger.acked_at[key] < asked
    for row in erased.values():
        owner = row["user_id"] or row["anonymous_token"]
        purged = row["user_id"] is None and row["age"] >= OLD
        found["erased_unasked"] += not purged and owner not in ledger.erasures

    # Every claim took what it said, and no question that the user had answered before.
    took = Counter((row["anonymous_token"], row["user_id"]) for row in moved.values())
    found["claims_miscounted"] = len(
        {pair for pair in took | ledger.claimed if took[pair] != ledger.claimed[pair]}
    )
    earliest: dict[tuple[Any, str], float] = defaultdict(lambda: float("inf"))
    for key in there.keys() - moved.keys():
        place = there[key]["user_id"] or there[key]["anonymous_token"], there[key]["question_id"]
        earliest[place] = min(earliest[place], ledger.acked_at.get(key, float("inf")))
    for user_id, token, question in {
        (row["user_id"], row["anonymous_token"], row["question_id"]) for row in moved.values()
    }:
        began = ledger.first_claim[token, user_id]
        found["claimed_though_answered"] += earliest[user_id, question] < began
        found["attempts_torn_apart"] += earliest[token, question] < began

    # Every acknowledged score is there unless its response was erased; and nothing else is there.
    kept = {score for score, response in ledger.scores.items() if response in there}
    found["scores_missing"] = len(kept - scores.keys())
    found["scores_unasked"] = len(scores.keys() - ledger.scores.keys())

    # Every reader saw what had been acknowledged before it asked, and is its owners' to this day.
    mine: dict[Any, list[int]] = defaultdict(list)
    for key in there.keys() & ledger.acked.keys():
        mine[there[key]["user_id"] or there[key]["anonymous_token"]].append(key)
    for asked, seen, owners in ledger.reads:
        for key in (key for owner in owners for key in mine[owner]):
            told = ledger.acked[key]
            was_theirs = {told["user_id"], told["anonymous_token"]} & owners
            found["unread"] += bool(was_theirs) and ledger.acked_at[key] < asked and key not in seen
    return found


async def test_a_minute_of_everything_at_once(
    database: str, conn: asyncpg.Connection[Any], figures: Callable[..., None], scale: int
) -> None:
    """Submits, claims, scores, reads and erasures by ten workers: no anomaly of any kind."""
    await conn.execute(AUDIT)
    async with asyncpg.create_pool(database, min_size=WORKERS, max_size=WORKERS + 2) as pool:
        traffic = Traffic(pool, seed=20261125)
        ledger = traffic.ledger
        watching = asyncio.create_task(watch(conn, ledger.anomalies))
        try:
            await asyncio.wait_for(traffic.run(SECONDS * scale), SECONDS * scale + 120)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert watching.cancelled(), watching.exception()
        ledger.anomalies |= await counted(conn, NEVER | LEFT_BEHIND)
        ledger.anomalies.update(await compared(conn, ledger))

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
