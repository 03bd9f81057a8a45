"""The service's own work: the scoring backlog, iteration over all responses, the purge."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from assessments import claim_assessment_responses, delete_responses
from assessments.backoffice import (
    get_unscored_responses,
    iter_responses,
    purge_anonymous_responses,
    purge_responses,
    record_score,
)
from tests.helpers.rows import counts, ids, new_user, submit, submit_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    Connection = asyncpg.Connection[Any]

DAY = timedelta(days=1)


async def iterate(conn: Any, **filters: Any) -> list[int]:
    """Return the ids of all that an iteration yields."""
    return [row["response_id"] async for row in iter_responses(conn, **filters)]


async def backlog(conn: Any, **filters: Any) -> list[int]:
    """Return the ids of the responses without a score."""
    return ids(await get_unscored_responses(conn, **filters))


async def submit_some(conn: Any, token: UUID, number: int) -> list[int]:
    """Submit *number* responses; return their ids."""
    return ids([await submit(conn, anonymous_token=token) for _ in range(number)])


async def backdate(conn: Connection, ages: Iterable[tuple[int, timedelta]]) -> None:
    """Make each response as old as given."""
    await conn.executemany(
        "UPDATE assessment_responses SET created_at = now() - $2::interval WHERE response_id = $1",
        ages,
    )


async def test_the_backlog_is_every_unscored_response_oldest_first(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """Responses of every owner come back whole; recording a score removes one."""
    user, anonymous = {"user_id": user_id}, {"anonymous_token": token}
    stored = [await submit(conn, **owner) for owner in (user, anonymous, user)]
    assert await get_unscored_responses(conn) == stored

    await record_score(conn, response_id=stored[1]["response_id"], score_data={})

    assert await get_unscored_responses(conn) == [stored[0], stored[2]]


async def test_a_range_of_one_id_asks_about_one_response(conn: Connection, token: UUID) -> None:
    """After id - 1 and up to id is that response or nothing, also for the table's first."""
    response_ids = await submit_some(conn, token, 3)
    await record_score(conn, response_id=response_ids[1], score_data={})

    found = [await backlog(conn, after=each - 1, up_to=each) for each in response_ids]

    assert response_ids[0] == 1
    assert found == [[response_ids[0]], [], [response_ids[2]]]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ({}, [4]),
        ({"model_id": "a"}, [3, 4]),
        ({"prompt_version": "2"}, [3, 4]),
        ({"model_id": "a", "prompt_version": "2"}, [1, 3, 4]),
        ({"model_id": "c"}, [1, 2, 3, 4]),
    ],
    ids=str,
)
async def test_the_backlog_of_a_model_or_prompt_version_is_what_has_no_score_by_it(
    conn: Connection, token: UUID, by: dict[str, Any], expected: list[int]
) -> None:
    """With both given, a score by another model or another version does not count."""
    await submit_some(conn, token, 4)
    for response_id, model_id, prompt_version in (
        (1, "a", "1"),
        (1, "b", "2"),
        (2, "a", "2"),
        (3, None, None),
    ):
        author = {"model_id": model_id, "prompt_version": prompt_version}
        await record_score(conn, response_id=response_id, score_data={}, **author)

    assert await backlog(conn, **by) == expected


async def test_the_backlog_is_paged_while_it_is_worked_off(conn: Connection, token: UUID) -> None:
    """Limit and after return each response once; the end is an empty page."""
    response_ids = await submit_some(conn, token, 7)

    seen: list[int] = []
    after = None
    while page := await backlog(conn, limit=3, after=after):
        assert len(page) <= 3
        seen += page
        after = seen[-1]
        await record_score(conn, response_id=seen[-1], score_data={})

    assert seen == response_ids


@pytest.mark.parametrize("batch_size", [1, 2, 3, 9, 1000])
async def test_an_iteration_yields_each_row_of_its_owners_once_oldest_first(
    conn: Connection, user_id: int, token: UUID, batch_size: int
) -> None:
    """In batches of any size: all rows without an owner, else those of the owner or the two."""
    user, anonymous = {"user_id": user_id}, {"anonymous_token": token}
    stored = [
        await submit(conn, f"q{number}", **owner)
        for number in range(3)
        for owner in (user, {"anonymous_token": uuid4()}, anonymous)
    ]
    whose: list[tuple[dict[str, Any], list[Any]]] = [
        ({}, stored),
        (user, stored[::3]),
        (anonymous, stored[2::3]),
        ({**user, **anonymous}, [row for row in stored if row not in stored[1::3]]),
    ]

    for owner, rows in whose:
        iteration = iter_responses(conn, **owner, batch_size=batch_size)
        assert [row async for row in iteration] == rows


@pytest.mark.parametrize("owned", [False, True])
async def test_an_iteration_is_filtered_by_module_question_and_time(
    conn: Connection, token: UUID, *, owned: bool
) -> None:
    """Since is inclusive and until exclusive."""
    for module_slug in ("m1", "m2"):
        await submit_all(conn, ("q1", "q2"), module_slug=module_slug, anonymous_token=token)
    await backdate(conn, [(number, (4 - number) * DAY) for number in (1, 2, 3, 4)])
    times = dict(await conn.fetch("SELECT response_id, created_at FROM assessment_responses"))
    owner: dict[str, Any] = {"anonymous_token": token} if owned else {}

    assert await iterate(conn, **owner, module_slug="m2") == [3, 4]
    assert await iterate(conn, **owner, question_id="q1") == [1, 3]
    assert await iterate(conn, **owner, since=times[2]) == [2, 3, 4]
    assert await iterate(conn, **owner, until=times[2]) == [1]
    assert await iterate(conn, **owner, since=times[2], until=times[4], batch_size=1) == [2, 3]


async def test_an_iteration_holds_no_connection_between_batches(database: str) -> None:
    """On a pool of one connection, other work goes on inside the iteration."""
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        await submit_all(pool, ("q1", "q2", "q3"), anonymous_token=uuid4())
        async for row in iter_responses(pool, batch_size=1):
            await record_score(pool, response_id=row["response_id"], score_data={})

        assert await pool.fetchval("SELECT count(*) FROM assessment_scores") == 3


async def test_an_abandoned_iteration_leaves_nothing_open(conn: Connection) -> None:
    """A break leaves no transaction and no cursor on the connection."""
    await submit_all(conn, ("q1", "q2"), anonymous_token=uuid4())
    async for _ in iter_responses(conn, batch_size=1):
        break

    assert not conn.is_in_transaction()
    assert await conn.fetchval("SELECT count(*) FROM pg_cursors WHERE name <> ''") == 0


async def test_a_purge_erases_old_unclaimed_responses_with_their_scores(
    conn: Connection, user_id: int
) -> None:
    """Claimed and younger responses stay; a dry run counts the same and erases nothing."""
    for owner in ({"anonymous_token": uuid4()}, {"anonymous_token": uuid4()}, {"user_id": user_id}):
        response_id = (await submit(conn, **owner))["response_id"]
        await record_score(conn, response_id=response_id, score_data={})
    await backdate(conn, [(1, 31 * DAY), (2, 29 * DAY), (3, 365 * DAY)])

    assert await purge_anonymous_responses(conn, older_than=30 * DAY, dry_run=True) == 1
    assert await counts(conn) == (3, 3)
    assert await purge_anonymous_responses(conn, older_than=30 * DAY) == 1

    assert await iterate(conn) == [2, 3]
    assert await counts(conn) == (2, 2)
    assert await purge_anonymous_responses(conn, older_than=30 * DAY) == 0


async def test_a_purge_of_all_owners_erases_what_is_old_whoever_owns_it(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """Younger responses stay, whatever their keys; a dry run counts the same and erases nothing."""
    for owner in ({"anonymous_token": token}, {"user_id": user_id}) * 2:
        response_id = (await submit(conn, **owner))["response_id"]
        await record_score(conn, response_id=response_id, score_data={})
    await backdate(conn, [(1, 29 * DAY), (2, 29 * DAY), (3, 31 * DAY), (4, 31 * DAY)])

    assert await purge_responses(conn, older_than=30 * DAY, dry_run=True) == 2
    assert await counts(conn) == (4, 4)
    assert await purge_responses(conn, older_than=30 * DAY) == 2

    assert await iterate(conn) == [1, 2]
    assert await counts(conn) == (2, 2)
    assert await purge_responses(conn, older_than=30 * DAY) == 0


@pytest.mark.parametrize("purge", [purge_anonymous_responses, purge_responses])
async def test_a_purge_is_bounded(conn: Connection, purge: Any) -> None:
    """One call erases at most limit responses, and repeated calls erase them all."""
    for number in range(7):
        is_user_s = purge is purge_responses and number < 4
        owner = {"user_id": await new_user(conn)} if is_user_s else {"anonymous_token": uuid4()}
        await submit(conn, **owner)
    await backdate(conn, [(number, (1 + number) * DAY) for number in range(1, 8)])

    assert await purge(conn, older_than=DAY, limit=3, dry_run=True) == 3
    purged = [await purge(conn, older_than=DAY, limit=3) for _ in range(4)]

    assert purged == [3, 3, 1, 0]


async def test_every_row_is_counted(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """A number of two digits comes back whole."""
    questions = [f"q{number}" for number in range(12)]
    await submit_all(conn, questions, anonymous_token=token)

    assert await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id) == 12
    assert await delete_responses(conn, user_id=user_id) == 12
    await submit_all(conn, questions, anonymous_token=token)
    assert await purge_anonymous_responses(conn, older_than=timedelta(microseconds=1)) == 12
