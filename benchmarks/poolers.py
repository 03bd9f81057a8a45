"""What a statement cache does behind a pooler in transaction mode, in numbers.

Two processes make calls through a PgBouncer with three server connections; each call has one known
result. asyncpg names its prepared statements by a counter, which starts at the same number in each
process. Behind the pooler such a name can belong to a statement that another client has prepared on
that server connection, or to none. The calls are reads of this library, and queries for one column
by key, as a host writes them; the pools are asyncpg's own with its defaults, and this library's.

    python -m benchmarks.poolers [CALLS]
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import asyncpg

import assessments
from assessments import backoffice
from assessments.testing import migrations, server
from tests.helpers import pgbouncer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from multiprocessing.synchronize import Barrier

    from assessments import AssessmentResponse, AssessmentScore

CALLS = 20_000
PEOPLE = 200
PROCESSES, CLIENTS, SERVERS = 2, 8, 3
RIGHT, WRONG = "right", "wrong, no error"
COLUMNS = ("answer_text", "question_id", "module_slug", "learning_outcome_id")


def transaction_pool(url: str, **size: int) -> asyncpg.Pool[Any]:
    """Return this library's pool."""
    return assessments.create_pool(url, pooler="transaction", **size)


POOLS: dict[str, Callable[..., Any]] = {
    "asyncpg.create_pool(url)": asyncpg.create_pool,
    'create_pool(url, pooler="transaction")': transaction_pool,
}


class Person(NamedTuple):
    """An anonymous owner of one scored response, and so of one right result for each call."""

    response: AssessmentResponse
    score: AssessmentScore

    def reads(self, pool: Any) -> list[tuple[Callable[[], Awaitable[Any]], Any]]:
        """Return calls of this library, with their right results."""
        key, token = self.response["response_id"], str(self.response["anonymous_token"])
        question = self.response["question_id"]
        one, about = [self.response], assessments
        return [
            (lambda: about.get_responses(pool, anonymous_token=token), one),
            (lambda: about.get_latest_responses(pool, anonymous_token=token), one),
            (
                lambda: about.get_responses_for_question(
                    pool, anonymous_token=token, question_id=question
                ),
                one,
            ),
            (
                lambda: about.get_responses_with_latest_score(pool, anonymous_token=token),
                [{**self.response, "latest_score": self.score}],
            ),
            (
                lambda: about.get_scores(pool, response_id=key, anonymous_token=token),
                [self.score],
            ),
            (
                lambda: backoffice.get_unscored_responses(
                    pool, model_id="none", after=key - 1, up_to=key
                ),
                one,
            ),
        ]

    def lookups(self, pool: Any) -> list[tuple[Callable[[], Awaitable[Any]], Any]]:
        """Return queries for one column by key, with their right results."""
        key = self.response["response_id"]

        def lookup(column: str) -> Callable[[], Awaitable[Any]]:
            text = f"SELECT {column} FROM assessment_responses WHERE response_id = $1"
            return lambda: pool.fetchval(text, key)

        row: dict[str, Any] = {**self.response}
        return [(lookup(column), row[column]) for column in COLUMNS]


CALLED = {"this library's reads": Person.reads, "lookups by key": Person.lookups}


async def person(pool: asyncpg.Pool[Any], number: int) -> Person:
    """Store the response of a person, and its score."""
    response = await assessments.submit_response(
        pool,
        anonymous_token=uuid4(),
        question_id=f"question-{number}",
        module_slug=f"module-{number}",
        learning_outcome_id=f"outcome-{number}",
        answer_text=f"The answer of {number}.",
    )
    key = response["response_id"]
    score = await backoffice.record_score(pool, response_id=key, score_data={"points": number})
    return Person(response, score)


_start: Barrier


def join(start: Barrier) -> None:
    """Keep the barrier at which the processes wait, so that they work concurrently."""
    global _start  # noqa: PLW0603 - how an executor hands a Barrier to its processes
    _start = start


def work(url: str, called: str, pool: str, people: list[Person], calls: int) -> Counter[str]:
    """Make *calls* from this process, and count their outcomes."""
    _start.wait(60)
    return asyncio.run(_work(url, called, pool, people, calls))


async def _work(url: str, called: str, pool: str, people: list[Person], calls: int) -> Counter[str]:
    counted: Counter[str] = Counter()

    async def client(opened: Any) -> None:
        for _ in range(calls // CLIENTS):
            call, answer = random.choice(CALLED[called](random.choice(people), opened))  # noqa: S311
            counted[await outcome(call, answer)] += 1

    async with POOLS[pool](url, min_size=CLIENTS, max_size=CLIENTS) as opened:
        await asyncio.gather(*(client(opened) for _ in range(CLIENTS)))
    return counted


async def outcome(call: Callable[[], Awaitable[Any]], answer: Any) -> str:
    """Return how *call* ends."""
    try:
        return RIGHT if await call() == answer else WRONG
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
    except Exception as error:  # noqa: BLE001 - counted, whatever it is
        return type(error).__name__


async def run(url: str, called: str, pool: str, people: list[Person], calls: int) -> Counter[str]:
    """Let the processes work behind a pooler of their own, and add up their counts."""
    loop, fresh = asyncio.get_running_loop(), multiprocessing.get_context("spawn")
    each = (called, pool, people, calls // PROCESSES)
    with (
        pgbouncer.running(url, default_pool_size=SERVERS) as pooled,
        ProcessPoolExecutor(PROCESSES, fresh, join, (fresh.Barrier(PROCESSES),)) as executor,
    ):
        counts = await asyncio.gather(
            *(loop.run_in_executor(executor, work, pooled, *each) for _ in range(PROCESSES))
        )
    return sum(counts, Counter[str]())


def version(bouncer: str) -> str:
    """Return PgBouncer's name and version."""
    done = subprocess.run([bouncer, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 - the one on PATH
    return done.stdout.splitlines()[0]


async def main(calls: int) -> None:
    """Print a line for each kind of call on each pool."""
    if (bouncer := pgbouncer.binary()) is None:
        sys.exit("this needs PgBouncer")
    with server.running() as url:
        migrations.apply(url)
        async with asyncpg.create_pool(url) as direct:
            people = [await person(direct, number) for number in range(PEOPLE)]
            number = await direct.fetchval("SELECT current_setting('server_version')")
        print(
            f"{version(bouncer)}, PostgreSQL {number}: {PROCESSES} processes of"
            f" {CLIENTS} clients on {SERVERS} server connections, {calls:,} calls a line\n"
        )
        print(f"{'':40}{RIGHT:>9}{WRONG:>18}   errors")
        for called in CALLED:
            print(called)
            for pool in POOLS:
                counted = await run(url, called, pool, people, calls)
                total = counted.total()
                right, wrong = (counted.pop(name, 0) / total for name in (RIGHT, WRONG))
                errors = (f"{name} {n / total:.1%}" for name, n in counted.most_common())
                print(f"  {pool:38}{right:9.1%}{wrong:18.1%}   {', '.join(errors) or 'none'}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS))
