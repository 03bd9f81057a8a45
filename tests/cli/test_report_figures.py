"""The figures of ``assessments report``, against small sets computed by hand."""

from __future__ import annotations

import asyncio
import json
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from assessments import claim_assessment_responses
from assessments.cli.report_data import Question, read
from tests.helpers.observe import until_waiting_for_lock
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from assessments.cli.report_data import Report

NOON = datetime(2026, 11, 2, 12, tzinfo=timezone.utc)
POINTS = Question(points_path=["points"])
SHARES = Question(points_path=["points"], of_path=["of"])
P1, P2, PERSON = ("model", "p1"), ("model", "p2"), (None, None)


@pytest.fixture
def add(conn: asyncpg.Connection[Any], user_id: int, token: UUID) -> Any:
    """Return what stores a response of such a time, with scores some seconds later."""

    async def store(
        *scores: tuple[tuple[str | None, str | None], Any],
        at: datetime = NOON,
        after: float = 60,
        anonymous: bool = False,
        **changes: str,
    ) -> int:
        owner: Any = {"anonymous_token": token} if anonymous else {"user_id": user_id}
        response_id = (await submit(conn, **owner, **changes))["response_id"]
        await conn.execute(
            "UPDATE assessment_responses SET created_at = $2 WHERE response_id = $1",
            *(response_id, at),
        )
        for number, ((model_id, prompt), data) in enumerate(scores):
            await conn.execute(
                "INSERT INTO assessment_scores (response_id, score_data, model_id, "
                "prompt_version, created_at) VALUES ($1, $2::text::jsonb, $3, $4, $5)",
                *(response_id, data if isinstance(data, str) else json.dumps(data)),
                *(model_id, prompt, at + timedelta(seconds=after + number)),
            )
        return response_id

    return store


def by_name(report: Report) -> dict[str, tuple[int, int]]:
    """Return the responses of each scorer, and those with points."""
    return {each.name: (each.responses, each.with_points) for each in report.scorers}


async def test_responses_are_counted_by_owner_day_and_module(
    pool: asyncpg.Pool[Any], add: Any
) -> None:
    """Each count is split into signed in and anonymous; days are of UTC, and empty ones shown."""
    await add(at=NOON.replace(hour=0), module_slug="a")
    await add(at=NOON - timedelta(hours=12, microseconds=1), module_slug="a", anonymous=True)
    await add((P1, {}), at=NOON + timedelta(days=2), module_slug="b", anonymous=True)

    report = await read(pool, Question())

    assert [report.totals[n] for n in ("responses", "signed_in", "anonymous")] == [3, 1, 2]
    assert (report.unit, [tuple(row)[1:] for row in report.periods]) == (
        "day",
        [
            (date(2026, 11, 1), 0, 1),
            (date(2026, 11, 2), 1, 0),
            (date(2026, 11, 3), 0, 0),
            (date(2026, 11, 4), 0, 1),
        ],
    )
    assert [tuple(row) for row in report.modules] == [("a", 1, 1, 2, 1), ("b", 0, 1, 0, 1)]


async def test_small_modules_are_one_row(pool: asyncpg.Pool[Any], add: Any) -> None:
    """The 20 largest modules have a row each, and the rest one together."""
    for number in range(23):
        await add(module_slug=f"m{number:02}", anonymous=number > 20)
    await add(module_slug="m22")

    modules = (await read(pool, Question())).modules

    assert [row["module_slug"] for row in modules] == [
        *("m22", *(f"m{n:02}" for n in range(19))),
        None,
    ]
    assert tuple(modules[-1])[1:] == (2, 1, 3, 3)


@pytest.mark.parametrize(
    ("days", "unit"),
    [(0, "day"), (119, "day"), (120, "week"), (839, "week"), (841, "month"), (4000, "year")],
)
async def test_a_long_time_has_wider_bars(
    pool: asyncpg.Pool[Any], add: Any, days: int, unit: str
) -> None:
    """There are at most some 120 bars, whatever time they cover."""
    await add(at=NOON - timedelta(days=days))
    await add()

    report = await read(pool, Question())

    assert report.unit == unit
    assert len(report.periods) <= 122
    assert sum(row["signed_in"] for row in report.periods) == 2


async def test_the_backlog_is_counted_by_age(pool: asyncpg.Pool[Any], add: Any) -> None:
    """What has no score is counted by its age, and the oldest is dated."""
    now = datetime.now(timezone.utc)
    ages = [timedelta(minutes=30), timedelta(hours=5), timedelta(days=3), timedelta(days=30)]
    for number, age in enumerate(ages, 1):
        for _ in range(number):
            await add(at=now - age)
    await add((P1, {}), at=now - timedelta(days=60))

    report = await read(pool, Question())

    assert (report.backlog["responses"], report.backlog["oldest_at"]) == (10, now - ages[-1])
    assert [count for _, count in report.backlog_ages] == [1, 2, 3, 4]


async def test_the_time_to_the_first_score_is_measured(pool: asyncpg.Pool[Any], add: Any) -> None:
    """Only the first score of a response counts, and one dated before it as no time at all."""
    for after in (-10, 2, 30, 400, 4000):
        await add((P1, {}), (P2, {}), after=after)
    await add()

    report = await read(pool, Question())

    assert [report.delays[name] for name in ("responses", "median")] == [5, 30]
    assert report.delays["p90"] == pytest.approx(400 + 0.6 * 3600)
    assert report.delays["p99"] == pytest.approx(400 + 0.96 * 3600)
    assert [count for _, count in report.delay_counts] == [1, 1, 1, 1, 0, 1, 0, 0, 0]


async def test_no_time_is_less_than_none(pool: asyncpg.Pool[Any], add: Any) -> None:
    """A score dated before its response takes no time off the others."""
    await add((P1, {}), after=-10)

    delays = (await read(pool, Question())).delays

    assert [delays[name] for name in ("median", "p90", "p99")] == [0, 0, 0]


async def test_a_scorer_s_newest_score_counts(pool: asyncpg.Pool[Any], add: Any) -> None:
    """A response that a scorer scored twice is one response, with the newer points."""
    await add((P1, {"points": 1}), (P1, {"points": 3}), (PERSON, {"points": 2}))
    await add((P1, {"points": 2}), (("model", None), {"points": 2}))

    report = await read(pool, POINTS)

    assert {each.name: each.counts for each in report.scorers} == {
        "model, p1": [0, 0, 1, 1],
        "model": [0, 0, 1, 0],
        "a person": [0, 0, 1, 0],
    }
    assert report.scorers[0].mean == 2.5
    assert (report.points["scores"], report.points["by_person"]) == (5, 1)


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        '{"points": "3"}',
        '{"points": null}',
        '{"points": true}',
        '{"points": [3]}',
        '{"points": {"points": 3}}',
        '{"points": 1e13}',
        f'{{"points": {"9" * 640}}}',
        '{"points": -1e400}',
    ],
)
async def test_a_score_without_a_number_is_counted_apart(
    pool: asyncpg.Pool[Any], add: Any, data: str
) -> None:
    """What is no number there, or none of a size that points have, is without points."""
    await add((P1, data))
    await add((P1, {"points": 3}))
    await add((P1, '{"points": 1e-400}'))

    report = await read(pool, POINTS)

    assert by_name(report) == {"model, p1": (3, 2)}
    assert report.scorers[0].mean == 1.5


async def test_points_are_found_by_a_path(pool: asyncpg.Pool[Any], add: Any) -> None:
    """The path leads through objects, and a path that leads nowhere finds no points."""
    await add((P1, {"rubric": {"total": 4}, "points": 1}))

    found = await read(pool, Question(points_path=["rubric", "total"]))
    lost = await read(pool, Question(points_path=["total"]))
    unasked = await read(pool, Question())

    assert found.scorers[0].mean == 4
    for report in (lost, unasked):
        assert (report.scale, report.pairs) == (None, [])
        assert by_name(report) == {"model, p1": (1, 0)}


async def test_shares_are_points_divided(pool: asyncpg.Pool[Any], add: Any) -> None:
    """With --of points are shares; a score without a number above 0 there is without points."""
    for points, of in ((1, 4), (3, 4), (9, 4), (1, 0), (1, -4), (1, "4"), (1, None)):
        await add((P1, {"points": points, "of": of}))

    report = await read(pool, SHARES)

    assert report.scale
    assert by_name(report) == {"model, p1": (7, 3)}
    assert (report.points["scores"], report.points["with_points"]) == (7, 3)
    assert report.scorers[0].mean == pytest.approx((0.25 + 0.75 + 2.25) / 3)


@pytest.mark.parametrize(
    ("scores", "question", "scale", "labels"),
    [
        ([(1, 1), (4, 1)], POINTS, (0, 1, 5), "0 1 2 3 4"),
        ([(7, 1)], POINTS, (0, 1, 8), "0 1 2 3 4 5 6 7"),
        ([(-2, 1), (1, 1)], POINTS, (-2, 1, 4), "-2 -1 0 1"),
        ([(100, 1), (103, 1)], POINTS, (100, 1, 4), "100 101 102 103"),
        ([(3, 1), (98, 1)], POINTS, (0, 10, 10), "0–10 10–20 20–30"),
        ([(0.5, 1)], POINTS, (0, 1, 1), "0–1"),
        ([(1, 3), (2, 3)], SHARES, (0, 1 / 3, 4), "0 % 33 % 67 % 100 %"),
        ([(1, 3), (2, 4)], SHARES, (0, 0.1, 10), "0–10 % 10–20 %"),
        ([(0.5, 2), (1, 2)], SHARES, (0, 0.1, 10), "0–10 % 10–20 %"),
    ],
)
async def test_the_scale_fits_the_points(
    pool: asyncpg.Pool[Any],
    add: Any,
    *,
    scores: list[tuple[float, int]],
    question: Question,
    scale: tuple[float, float, int],
    labels: str,
) -> None:
    """Few whole numbers have a bucket each, others about ten ranges; every score is in one."""
    for points, of in scores:
        await add((P1, {"points": points, "of": of}))

    report = await read(pool, question)

    assert report.scale
    assert (report.scale.low, report.scale.step, report.scale.buckets) == scale
    assert " ".join(report.scale.labels).startswith(labels)
    assert sum(report.scorers[0].counts) == len(scores)


@pytest.mark.parametrize("of", range(1, 21))
async def test_equal_shares_are_in_one_bucket(pool: asyncpg.Pool[Any], add: Any, of: int) -> None:
    """Each number of points out of so many has its own bucket, whatever the fraction."""
    for points in range(of + 1):
        await add((P1, {"points": points, "of": of}))

    assert (await read(pool, SHARES)).scorers[0].counts == [1] * (of + 1)


async def test_a_pair_is_compared_on_common_responses(pool: asyncpg.Pool[Any], add: Any) -> None:
    """Agreement, differences and kappa are those computed by hand; the largest comes first."""
    given = [
        await add((PERSON, {"points": a}), (P1, {"points": b}), question_id=f"q{a}")
        for a, b in ((1, 1), (2, 3), (3, 3), (4, 2))
    ]
    await add((PERSON, {"points": 4}))
    await add((P1, {"points": 0}), (PERSON, {}))

    (pair,) = (await read(pool, POINTS)).pairs

    assert (pair.a, pair.b, pair.responses) == ("a person", "model, p1", 4)
    assert (pair.agreement, pair.near_agreement, pair.mean_difference) == (0.5, 0.75, -0.25)
    # Squared differences 0, 1, 0, 4; variances 1.25 and 0.6875; means 2.5 and 2.25.
    assert pair.kappa == pytest.approx(1 - 1.25 / (1.25 + 0.6875 + 0.0625))
    assert pair.cells == {(1, 1): 1, (2, 3): 1, (3, 3): 1, (4, 2): 1}
    assert [
        (each.response_id, each.question_id, each.a_points, each.b_points, each.answer_text)
        for each in pair.differences
    ] == [(given[3], "q4", 4, 2, None), (given[1], "q2", 2, 3, None)]


async def test_kappa_is_undefined_where_all_points_are_equal(
    pool: asyncpg.Pool[Any], add: Any
) -> None:
    """Without any variation there is agreement, and no kappa."""
    await add((P1, {"points": 2}), (P2, {"points": 2}))

    (pair,) = (await read(pool, POINTS)).pairs

    assert (pair.agreement, pair.kappa, pair.differences) == (1, None, [])


async def test_pairs_with_a_person_come_first(pool: asyncpg.Pool[Any], add: Any) -> None:
    """Then come prompt versions of one model, then other pairs; the most responses first; 6."""
    other, person = ("another", "p1"), (None, "rubric")
    for _ in range(2):
        await add((P1, {"points": 1}), (P2, {"points": 1}), (other, {"points": 2}))
    await add((P1, {"points": 1}), (PERSON, {"points": 2}), (person, {"points": 2}))
    await add((P2, {"points": 1}), (PERSON, {"points": 2}))
    await add((P2, {"points": 1}), (PERSON, {"points": 2}))

    pairs = (await read(pool, POINTS)).pairs

    assert [(each.a, each.b, each.responses) for each in pairs] == [
        ("a person", "model, p2", 2),
        ("a person, rubric", "model, p1", 1),
        ("a person", "model, p1", 1),
        ("model, p1", "model, p2", 2),
        ("another, p1", "model, p1", 2),
        ("another, p1", "model, p2", 2),
    ]


async def test_long_lists_are_cut(pool: asyncpg.Pool[Any], add: Any) -> None:
    """There are at most 12 scorers and 10 differing responses of a pair, the largest ones."""
    for number in range(13):
        await add(
            *((P1, {"points": 0}), (P2, {"points": number}), (PERSON, {"points": number})),
            ((f"m{number}", None), {}),
        )
    report = await read(pool, POINTS)

    assert len(report.scorers) == 12
    assert [each.name for each in report.scorers[:2]] == ["model, p1", "model, p2"]
    for pair, differences in zip(
        report.pairs, ([*range(12, 2, -1)], [], [*range(12, 2, -1)]), strict=True
    ):
        assert [max(each.a_points, each.b_points) for each in pair.differences] == differences


async def test_filters_hold_for_every_figure(pool: asyncpg.Pool[Any], add: Any) -> None:
    """--since includes its moment, --until excludes it, and a module stands alone."""
    scores = ((P1, {"points": 1}), (P2, {"points": 2}))
    for at in (NOON - timedelta(seconds=1), NOON, NOON + timedelta(hours=1)):
        await add(*scores, at=at)
        await add(at=at)
    await add(*scores, module_slug="other")
    await add(module_slug="other")

    for filters in (
        {"since": NOON, "until": NOON + timedelta(hours=1), "module_slug": "m1"},
        {"module_slug": "other"},
    ):
        report = await read(pool, Question(points_path=["points"], **filters))
        assert report.totals["responses"] == 2
        assert sum(row["signed_in"] for row in report.periods) == 2
        assert [tuple(row)[1:] for row in report.modules] == [(2, 0, 1, 1)]
        assert report.backlog["responses"] == 1
        assert report.delays["responses"] == 1
        assert (report.points["scores"], report.points["with_points"]) == (2, 2)
        assert by_name(report) == {"model, p1": (1, 1), "model, p2": (1, 1)}
        assert [each.responses for each in report.pairs] == [1]
        assert len(report.pairs[0].differences) == 1


async def test_claims_are_counted_by_the_statistics(
    pool: asyncpg.Pool[Any], conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """Claimed responses are those that PostgreSQL has counted as updated."""
    await submit(conn, "q1", user_id=user_id)
    await submit(conn, "q2", anonymous_token=token)
    await claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)
    await conn.execute("SELECT pg_stat_force_next_flush()")

    assert (await read(pool, Question())).updates["updates"] == 1


async def test_all_figures_are_of_one_moment(
    pool: asyncpg.Pool[Any], other: asyncpg.Connection[Any], conn: asyncpg.Connection[Any], add: Any
) -> None:
    """What is committed while a report is read is in none of its figures."""
    await add()
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE assessment_scores IN ACCESS EXCLUSIVE MODE")
    async with pool.acquire() as connection:
        pid = connection.get_server_pid()
    reading = asyncio.create_task(read(pool, Question()))
    await until_waiting_for_lock(conn, pid)
    await add()
    await transaction.commit()
    report = await reading

    assert report.totals["responses"] == report.backlog["responses"] == 1
    assert [row["unscored"] for row in report.modules] == [1]


async def test_an_empty_database_has_empty_figures(pool: asyncpg.Pool[Any]) -> None:
    """Without responses every figure is 0, empty or null, and nothing fails."""
    report = await read(pool, SHARES)

    assert (report.totals["responses"], report.backlog["responses"]) == (0, 0)
    assert [report.periods, report.modules, report.scorers, report.pairs] == [[], [], [], []]
    assert (report.scale, report.delays["median"]) == (None, None)
