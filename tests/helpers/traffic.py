"""Calls of a host and its students while a migration is applied, by the code from before it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from assessments import (
    claim_assessment_responses,
    get_responses,
    get_responses_with_latest_score,
)
from assessments.backoffice import record_score
from tests.helpers.yoyo import IDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from random import Random

    import asyncpg

    Act: TypeAlias = Callable[[Any, int], Awaitable[Any]]  # of a user, on a pool

_SUBMIT = """
INSERT INTO assessment_responses
    (user_id, anonymous_token, question_id, module_slug, answer_text, answer_metadata)
SELECT $1::bigint, $2::uuid, question_id, 'm1', '', '{}'
FROM unnest($3::text[]) AS given (question_id)
WHERE $1::bigint IS NULL OR EXISTS (SELECT 1 FROM users AS u WHERE u.user_id = $1::bigint)
RETURNING response_id
"""


async def submit_without_key(
    conn: Any, *questions: str, user_id: int | None = None, anonymous_token: UUID | None = None
) -> int:
    """Submit as the code from before migration 0003 did; return the last key."""
    rows = await conn.fetch(_SUBMIT, user_id, anonymous_token, questions or ("q1",))
    response_id: int = rows[-1]["response_id"]
    return response_id


_HOST: list[tuple[int, Act]] = [  # with the number of rows that each stores
    (0, lambda pool, user: pool.fetch("SELECT email FROM users WHERE user_id = $1", user)),
    (0, lambda pool, user: pool.execute("UPDATE users SET email = 'a@' WHERE user_id = $1", user)),
    (0, lambda pool, _: pool.execute("INSERT INTO users (email) VALUES ('b@')")),
]
_STUDENTS: list[tuple[int, Act]] = [
    *_HOST,
    (1, lambda pool, user: submit_without_key(pool, user_id=user)),
    (1, lambda pool, user: submit_without_key(pool, anonymous_token=UUID(int=user))),
    (2, lambda p, u: submit_without_key(p, "q2", "q3", anonymous_token=UUID(int=u))),
    (0, lambda p, u: claim_assessment_responses(p, anonymous_token=UUID(int=u), user_id=u)),
    (0, lambda pool, user: get_responses(pool, user_id=user, limit=20)),
]
_SCORING: list[tuple[int, Act]] = [
    *_STUDENTS,
    (0, lambda pool, _: record_score(pool, response_id=1, score_data={"points": 1})),
    (0, lambda pool, user: get_responses_with_latest_score(pool, user_id=user, limit=20)),
]
_BESIDE = dict.fromkeys(IDS, _SCORING) | {IDS[0]: _HOST, IDS[1]: _STUDENTS}
"""The calls that do not need what a migration creates."""


@dataclass
class Seen:
    """What became of the calls."""

    stored: int = 0
    failed: list[Exception] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@asynccontextmanager
async def traffic(
    pool: asyncpg.Pool[Any], migration: str, seconds: float, chance: Random
) -> AsyncIterator[Seen]:
    """Make fifty calls a second beside *migration*, however many are blocked; end with them."""
    seen, made = Seen(), []

    async def make(rows: int, call: Act) -> None:
        due = perf_counter()
        try:
            await call(pool, chance.randint(1, 20))
            seen.stored += rows
        except Exception as error:  # noqa: BLE001 - whatever it is, it counts
            seen.failed.append(error)
        seen.seconds.append(perf_counter() - due)

    async def arrive() -> None:
        for call in cycle(_BESIDE[migration]):
            made.append(asyncio.create_task(make(*call)))
            await asyncio.sleep(0.02)

    arriving = asyncio.create_task(arrive())
    try:
        yield seen
    finally:
        arriving.cancel()
        await asyncio.wait_for(asyncio.gather(*made), seconds)
