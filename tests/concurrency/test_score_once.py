"""A score recorded once is stored once, beside any number of workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import assessments
from assessments.backoffice import get_scores, record_score, record_score_once
from tests.helpers.rows import submit
from tests.helpers.transactions import ENDS, Connection, blocked, open_transaction, outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from uuid import UUID

BY = {"model_id": "m", "prompt_version": "p"}
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
ADVISORY_LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
)
OTHERS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY pid"
)


async def once(conn: Any, response_id: int = 1, points: int = 0, **changes: Any) -> Any:
    """Record a score of which only *changes* matter."""
    score = {"response_id": response_id, "score_data": {"points": points}, **BY, **changes}
    return await record_score_once(conn, **score)


async def stored(conn: Connection) -> list[tuple[str | None, str | None, int]]:
    """Return what is stored, oldest first."""
    rows = await conn.fetch(
        "SELECT model_id, prompt_version, (score_data ->> 'points')::int FROM assessment_scores "
        "ORDER BY score_id"
    )
    return [tuple(row) for row in rows]


async def test_a_second_score_by_the_same_model_and_prompt_version_is_none(
    conn: Connection, token: UUID
) -> None:
    """Another model's, another version's, a person's and another response's do not count."""
    for _ in range(2):
        await submit(conn, anonymous_token=token)
    await record_score(conn, response_id=1, score_data={"points": 1})
    await record_score(conn, response_id=1, score_data={"points": 2}, model_id="m")
    await record_score(conn, response_id=1, score_data={"points": 3}, prompt_version="p")

    first = await once(conn, points=4)
    assert await once(conn, points=5) is None
    assert (await once(conn, points=6, model_id="n"))["model_id"] == "n"
    assert (await once(conn, points=7, prompt_version="q"))["prompt_version"] == "q"
    assert (await once(conn, 2, points=8))["response_id"] == 2

    assert first in await get_scores(conn, response_id=1)
    assert [points for *_, points in await stored(conn)] == [1, 2, 3, 4, 6, 7, 8]


async def test_a_score_by_record_score_counts(conn: Connection, token: UUID) -> None:
    """What stands under that model and prompt version, however stored, is not repeated."""
    await submit(conn, anonymous_token=token)
    await record_score(conn, response_id=1, score_data={"points": 1}, **BY)

    assert await once(conn, points=2) is None
    assert await stored(conn) == [("m", "p", 1)]


@pytest.mark.parametrize("end", ENDS)
async def test_a_worker_waits_for_the_one_before_it(
    conn: Connection, other: Connection, token: UUID, end: str
) -> None:
    """It stores none where that one commits, and its own where that one rolls back."""
    await submit(conn, anonymous_token=token)
    async with open_transaction(conn, end):
        assert await once(conn, points=1)
        waiting = await blocked(once(other, points=2), by=conn, on=other)

    assert (await waiting is None) == (end == "commit")
    assert await stored(conn) == [("m", "p", 1 if end == "commit" else 2)]


async def test_other_scores_do_not_wait(conn: Connection, other: Connection, token: UUID) -> None:
    """A worker on another response, model or prompt version goes on, as does record_score."""
    for _ in range(2):
        await submit(conn, anonymous_token=token)
    async with conn.transaction():
        await once(conn)
        await other.execute("SET lock_timeout = '5s'")
        assert await once(other, 2)
        assert await once(other, model_id="n")
        assert await once(other, prompt_version="q")
        assert await record_score(other, response_id=1, score_data={}, **BY)


@pytest.mark.parametrize("end", ENDS)
async def test_it_waits_for_an_erasure_and_finds_the_response_or_not(
    conn: Connection, other: Connection, token: UUID, end: str
) -> None:
    """UnknownResponse where the erasure commits, a score where it rolls back."""
    await submit(conn, anonymous_token=token)
    async with open_transaction(conn, end):
        await assessments.delete_responses(conn, anonymous_token=token)
        waiting = await blocked(outcome(once(other, points=1)), by=conn, on=other)

    result = await waiting
    if end == "commit":
        assert result == (assessments.UnknownResponse, None)
    else:
        assert result["score_data"] == {"points": 1}


async def test_an_unknown_response_is_refused_and_the_transaction_goes_on(
    conn: Connection, token: UUID
) -> None:
    """UnknownResponse is raised, nothing is stored, and the caller's transaction is usable."""
    await submit(conn, anonymous_token=token)
    async with conn.transaction():
        with pytest.raises(assessments.UnknownResponse):
            await once(conn, 10**9)
        assert await once(conn)

    assert await stored(conn) == [("m", "p", 0)]


@pytest.mark.parametrize("missing", ["model_id", "prompt_version"])
async def test_both_the_model_and_the_prompt_version_are_needed(
    conn: Connection, missing: str
) -> None:
    """Without one of them there is no telling whether a score stands."""
    with pytest.raises(assessments.InvalidInput) as refusal:
        await once(conn, 1, 0, **{missing: None})

    assert refusal.value.parameter == missing


@pytest.mark.parametrize(
    ("isolation", "is_safe"),
    [
        ("read_uncommitted", True),
        ("read_committed", True),
        ("repeatable_read", False),
        ("serializable", False),
    ],
)
async def test_above_read_committed_it_is_refused_and_the_transaction_goes_on(
    conn: Connection, token: UUID, isolation: Any, *, is_safe: bool
) -> None:
    """UnsafeIsolation is raised there, and nothing is stored or left locked."""
    await submit(conn, anonymous_token=token)
    async with conn.transaction(isolation=isolation):
        if is_safe:
            assert await once(conn)
        else:
            with pytest.raises(assessments.UnsafeIsolation):
                await once(conn)
            assert await stored(conn) == []
            assert await conn.fetchval(ADVISORY_LOCKS) == 0


@pytest.mark.parametrize("default", ["read committed", "repeatable read", "serializable"])
async def test_outside_a_transaction_the_default_isolation_level_does_not_matter(
    conn: Connection, token: UUID, default: str
) -> None:
    """It records at READ COMMITTED, and leaves no transaction and no lock behind."""
    await submit(conn, anonymous_token=token)
    await conn.execute(f"SET default_transaction_isolation TO '{default}'")

    assert await once(conn)
    assert await once(conn) is None

    assert not conn.is_in_transaction()
    assert await conn.fetchval(ADVISORY_LOCKS) == 0


async def test_a_score_is_rolled_back_with_the_caller_s_transaction(
    conn: Connection, token: UUID
) -> None:
    """It ends the caller's transaction neither way, and can be recorded again after a rollback."""
    await submit(conn, anonymous_token=token)
    async with open_transaction(conn, "rollback"):
        assert await once(conn, points=1)
        assert conn.is_in_transaction()

    assert await once(conn, points=2)
    assert await stored(conn) == [("m", "p", 2)]


async def test_of_two_or_three_racing_workers_one_stores_its_score(
    *,
    conn: Connection,
    database: str,
    token: UUID,
    chance: Random,
    scale: int,
    figures: Callable[..., None],
) -> None:
    """In hundreds of races, some in transactions that roll back, exactly one score is stored."""
    races: Counter[str] = Counter()
    async with asyncpg.create_pool(database, min_size=3, max_size=3) as pool:

        async def worker(response_id: int, *, rolls_back: bool) -> Any:
            connection: Any
            async with pool.acquire() as connection:
                if not rolls_back:
                    return await once(connection, response_id)
                async with open_transaction(connection, "rollback"):
                    await once(connection, response_id)
                return None

        for _ in range(300 * scale):
            response_id = (await submit(conn, anonymous_token=token))["response_id"]
            number = chance.choice((2, 3))
            undone = number == 3 and chance.choice((True, False))
            flags = [index == 0 and undone for index in range(number)]
            chance.shuffle(flags)
            results = await asyncio.gather(
                *(worker(response_id, rolls_back=flag) for flag in flags)
            )
            scores = await get_scores(conn, response_id=response_id)
            races["a worker rolls back" if undone else f"{number} workers"] += 1
            assert [score for score in results if score] == scores
            assert len(scores) == 1

    figures("scores once", races=races.total(), stored_once=races.total())


async def test_killed_workers_leave_no_lock_and_no_second_score(
    conn: Connection, database: str, token: UUID, chance: Random
) -> None:
    """Where backends are terminated in the middle, the others store one score for each response."""
    for number in range(40):
        await submit(conn, f"q{number}", anonymous_token=token)

    async def worker() -> None:
        left = list(range(1, 41))
        chance.shuffle(left)
        while left:
            try:
                connection = await asyncpg.connect(database)
            except asyncpg.PostgresError:
                continue
            try:
                while left:
                    await once(connection, left[-1])
                    left.pop()
            except LOST:
                continue
            finally:
                connection.terminate()

    workers = [asyncio.create_task(worker()) for _ in range(4)]
    for _ in range(30):
        pids = [pid for (pid,) in await conn.fetch(OTHERS)]
        if pids:
            await conn.execute("SELECT pg_terminate_backend($1)", chance.choice(pids))
        await asyncio.sleep(0.01)
    await asyncio.gather(*workers)

    assert [score[:2] for score in await stored(conn)] == [("m", "p")] * 40
