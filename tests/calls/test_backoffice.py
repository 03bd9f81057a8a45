"""The service's own work: the backlog, walks over everybody's responses, the purge."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments.backoffice import (
    get_unscored_responses,
    iter_responses,
    purge_anonymous_responses,
    record_score,
)
from tests.helpers.observe import StatementLog, until_waiting_for_lock
from tests.helpers.rows import ids, new_user, submit, submit_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DAY = timedelta(days=1)


async def walked(conn: Any, **filters: Any) -> list[int]:
    """Return the keys of a whole walk."""
    return [row["response_id"] async for row in iter_responses(conn, **filters)]


async def backdate(conn: asyncpg.Connection[Any], response_id: int, age: timedelta) -> None:
    """Make a response as old as *age*."""
    await conn.execute(
        "UPDATE assessment_responses SET created_at = now() - $2::interval WHERE response_id = $1",
        response_id,
        age,
    )


async def test_the_backlog_is_what_has_no_score_oldest_first(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """Responses of every owner without a score come back whole; a score takes one off."""
    stored = [
        await submit(conn, **owner)
        for owner in ({"user_id": user_id}, {"anonymous_token": token}, {"user_id": user_id})
    ]
    assert await get_unscored_responses(conn) == stored

    await record_score(conn, response_id=stored[1]["response_id"], score_data={})

    assert await get_unscored_responses(conn) == [stored[0], stored[2]]


async def test_whether_one_response_still_waits(conn: asyncpg.Connection[Any], token: UUID) -> None:
    """A range of one key asks about one response, the first of the table included."""
    keys = ids([await submit(conn, anonymous_token=token) for _ in range(3)])

    async def waits(key: int) -> bool:
        return ids(await get_unscored_responses(conn, after=key - 1, up_to=key)) == [key]

    assert keys[0] == 1
    assert [await waits(key) for key in keys] == [True, True, True]
    await record_score(conn, response_id=keys[1], score_data={})
    assert [await waits(key) for key in keys] == [True, False, True]


async def test_what_is_to_be_scored_again(conn: asyncpg.Connection[Any], token: UUID) -> None:
    """With a model, a prompt version or both, what has no score by just these comes back."""
    keys = ids([await submit(conn, anonymous_token=token) for _ in range(4)])
    for key, model_id, prompt_version in (
        (keys[0], "a", "1"),
        (keys[0], "b", "2"),
        (keys[1], "a", "2"),
        (keys[2], None, None),
    ):
        await record_score(
            conn,
            response_id=key,
            score_data={},
            model_id=model_id,
            prompt_version=prompt_version,
        )

    async def backlog(**by: Any) -> list[int]:
        return ids(await get_unscored_responses(conn, **by))

    assert await backlog() == [keys[3]]
    assert await backlog(model_id="a") == [keys[2], keys[3]]
    assert await backlog(prompt_version="2") == [keys[2], keys[3]]
    assert await backlog(model_id="a", prompt_version="2") == [keys[0], keys[2], keys[3]]
    assert await backlog(model_id="c") == keys


async def test_the_backlog_in_pages(conn: asyncpg.Connection[Any], token: UUID) -> None:
    """Limit and after page through the backlog while it is worked off; the end is an empty page."""
    keys = ids([await submit(conn, anonymous_token=token) for _ in range(7)])

    seen: list[int] = []
    after = None
    while page := await get_unscored_responses(conn, limit=3, after=after):
        seen += ids(page)
        after = seen[-1]
        await record_score(conn, response_id=seen[-1], score_data={})

    assert seen == keys


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
async def test_a_walk_gives_everybody_s_rows_once_oldest_first(
    conn: asyncpg.Connection[Any], user_id: int, batch_size: int
) -> None:
    """Without an owner all rows come back whole, in batches of any size."""
    stored = [
        await submit(conn, f"q{number}", **owner)
        for number in range(3)
        for owner in ({"user_id": user_id}, {"anonymous_token": uuid4()})
    ]

    assert [row async for row in iter_responses(conn, batch_size=batch_size)] == stored


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
async def test_a_walk_of_one_owner_or_two(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, batch_size: int
) -> None:
    """With an owner their rows come, with both owners those of either, and nobody else's."""
    users, visitors = [], []
    for _ in range(3):
        users.append(await submit(conn, user_id=user_id))
        await submit(conn, anonymous_token=uuid4())
        visitors.append(await submit(conn, anonymous_token=token))
    size = {"batch_size": batch_size}

    assert await walked(conn, user_id=user_id, **size) == ids(users)
    assert await walked(conn, anonymous_token=token, **size) == ids(visitors)
    assert await walked(conn, user_id=user_id, anonymous_token=token, **size) == sorted(
        ids(users) + ids(visitors)
    )


@pytest.mark.parametrize("whose", ["everybody's", "a visitor's"])
async def test_a_walk_may_be_narrowed(
    conn: asyncpg.Connection[Any], token: UUID, whose: str
) -> None:
    """By module, by question, from a moment on and up to one: since counts, until does not."""
    keys = [
        (await submit(conn, question_id, module_slug=module_slug, anonymous_token=token))[
            "response_id"
        ]
        for module_slug in ("m1", "m2")
        for question_id in ("q1", "q2")
    ]
    for days, key in enumerate(reversed(keys)):
        await backdate(conn, key, days * DAY)
    moments = dict(await conn.fetch("SELECT response_id, created_at FROM assessment_responses"))
    owner: dict[str, Any] = {} if whose == "everybody's" else {"anonymous_token": token}

    assert await walked(conn, **owner, module_slug="m2") == keys[2:]
    assert await walked(conn, **owner, question_id="q1") == keys[::2]
    assert await walked(conn, **owner, since=moments[keys[1]]) == keys[1:]
    assert await walked(conn, **owner, until=moments[keys[1]]) == keys[:1]
    assert (
        await walked(conn, **owner, since=moments[keys[1]], until=moments[keys[3]], batch_size=1)
        == keys[1:3]
    )


async def test_a_walk_holds_no_connection_between_batches(database: str) -> None:
    """On a pool of one connection, other work goes on inside the walk."""
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        await submit_all(pool, ("q1", "q2", "q3"), anonymous_token=uuid4())
        async for row in iter_responses(pool, batch_size=1):
            await record_score(pool, response_id=row["response_id"], score_data={})

        assert await pool.fetchval("SELECT count(*) FROM assessment_scores") == 3


async def test_a_walk_that_is_left_leaves_nothing_open(conn: asyncpg.Connection[Any]) -> None:
    """Breaking off leaves no transaction, cursor or lock on the connection."""
    await submit_all(conn, ("q1", "q2"), anonymous_token=uuid4())
    async for _ in iter_responses(conn, batch_size=1):
        break

    assert not conn.is_in_transaction()
    assert await conn.fetchval("SELECT count(*) FROM pg_cursors WHERE name <> ''") == 0


async def test_a_purge_erases_what_is_old_and_unclaimed_with_its_scores(
    conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """Claimed responses and younger ones stay; a dry run counts the same and erases nothing."""
    old, young, claimed = [
        (await submit(conn, **owner))["response_id"]
        for owner in (
            {"anonymous_token": uuid4()},
            {"anonymous_token": uuid4()},
            {"user_id": user_id},
        )
    ]
    for key, age in ((old, 31 * DAY), (young, 29 * DAY), (claimed, 365 * DAY)):
        await backdate(conn, key, age)
        await record_score(conn, response_id=key, score_data={})

    assert await purge_anonymous_responses(conn, older_than=30 * DAY, dry_run=True) == 1
    assert await walked(conn) == [old, young, claimed]
    assert await purge_anonymous_responses(conn, older_than=30 * DAY) == 1

    assert await walked(conn) == [young, claimed]
    assert await conn.fetchval("SELECT count(*) FROM assessment_scores") == 2
    assert await purge_anonymous_responses(conn, older_than=30 * DAY) == 0


async def test_a_purge_is_bounded(conn: asyncpg.Connection[Any]) -> None:
    """At most limit responses go at a call, and repeated calls take them all."""
    for number in range(7):
        key = (await submit(conn, anonymous_token=uuid4()))["response_id"]
        await backdate(conn, key, (2 + number) * DAY)

    assert await purge_anonymous_responses(conn, older_than=DAY, limit=3, dry_run=True) == 3
    purged = [await purge_anonymous_responses(conn, older_than=DAY, limit=3) for _ in range(4)]

    assert purged == [3, 3, 1, 0]


async def test_a_response_claimed_during_a_purge_stays(
    conn: asyncpg.Connection[Any], other: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """A purge that meets an open claim waits for it, and leaves what became the user's."""
    key = (await submit(conn, anonymous_token=token))["response_id"]
    await backdate(conn, key, 2 * DAY)
    claim = conn.transaction()
    await claim.start()
    await assessments.claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
    purging = asyncio.create_task(purge_anonymous_responses(other, older_than=DAY))
    await until_waiting_for_lock(conn, other.get_server_pid())
    await claim.commit()

    assert await purging == 0
    assert ids(await assessments.get_responses(conn, user_id=user_id)) == [key]


async def test_a_learner_erased_leaves_nothing_and_nobody_else_is_touched(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """After delete_responses no row of theirs is in any table, and every other row is as it was."""
    others: list[dict[str, Any]] = [
        {"user_id": await new_user(conn)},
        {"anonymous_token": uuid4()},
    ]
    owners: list[dict[str, Any]] = [{"user_id": user_id}, {"anonymous_token": token}, *others]
    for owner in owners:
        for _ in range(2):
            key = (await submit(conn, **owner))["response_id"]
            await record_score(conn, response_id=key, score_data={"of": "theirs"})
    rest = """
        SELECT * FROM assessment_responses LEFT JOIN assessment_scores USING (response_id)
        WHERE user_id IS DISTINCT FROM $1 AND anonymous_token IS DISTINCT FROM $2
        ORDER BY response_id
    """
    before = await conn.fetch(rest, user_id, token)

    assert await assessments.delete_responses(conn, user_id=user_id, anonymous_token=token) == 4

    assert await conn.fetch(rest, user_id, token) == before
    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 4
    assert await conn.fetchval("SELECT count(*) FROM assessment_scores") == 4
    assert await assessments.delete_responses(conn, user_id=user_id, anonymous_token=token) == 0


async def test_one_owner_erased_leaves_the_other(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """With one owner given only theirs go; with none given nothing does."""
    await submit(conn, user_id=user_id)
    await submit(conn, anonymous_token=token)

    with pytest.raises(assessments.InvalidInput):
        await assessments.delete_responses(conn)
    assert await assessments.delete_responses(conn, anonymous_token=token) == 1
    assert len(await assessments.get_responses(conn, user_id=user_id)) == 1
    assert await assessments.delete_responses(conn, user_id=user_id) == 1


def _walk(name: str, value: Any) -> Callable[[Any], Awaitable[Any]]:
    return lambda conn: walked(conn, **{name: value})


def _backlog(name: str, value: Any) -> Callable[[Any], Awaitable[Any]]:
    return lambda conn: get_unscored_responses(conn, **{name: value})


def _purge(**arguments: Any) -> Callable[[Any], Awaitable[Any]]:
    return lambda conn: purge_anonymous_responses(conn, **arguments)


NAIVE = datetime(2026, 11, 22)  # noqa: DTZ001 - that is what is refused
AWARE = datetime(2026, 11, 22, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("call", "parameter"),
    [
        *(
            (_walk(name, value), name)
            for name, value in (
                ("user_id", 0),
                ("anonymous_token", "token"),
                ("module_slug", ""),
                ("question_id", 1),
                ("since", NAIVE),
                ("until", "2026-11-22"),
                ("until", AWARE.date()),
                ("since", datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))),
                ("until", datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))),
                ("batch_size", 0),
                ("batch_size", None),
            )
        ),
        *(
            (_backlog(name, value), name)
            for name, value in (
                ("model_id", ""),
                ("prompt_version", 1),
                ("limit", 0),
                ("limit", None),
                ("after", -1),
                ("after", True),
                ("after", False),
                ("up_to", 0),
                ("up_to", 1.5),
            )
        ),
        (_purge(older_than=timedelta(0)), "older_than"),
        (_purge(older_than=-DAY), "older_than"),
        (_purge(older_than=90), "older_than"),
        (_purge(older_than=timedelta.max), "older_than"),
        (_purge(older_than=DAY, limit=0), "limit"),
        (_purge(older_than=DAY, dry_run=1), "dry_run"),
    ],
)
async def test_bad_input_is_named(
    conn: asyncpg.Connection[Any], call: Callable[[Any], Awaitable[Any]], parameter: str
) -> None:
    """The error names the argument, and nothing is asked of the database."""
    sent = StatementLog(conn)

    with pytest.raises(assessments.InvalidInput) as raised:
        await call(conn)

    assert raised.value.parameter == parameter
    assert await sent.complete() == []
