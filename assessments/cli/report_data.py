"""The figures of ``assessments report``, read in one transaction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from assessments.queries import queries

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import asyncpg

_MOST_PERIODS = 120
_UNITS = {"day": 1, "week": 7, "month": 30.4, "year": 365.2}
_MOST_STEPS = 20
_BACKLOG_AGES = {
    "within_hour": "under an hour",
    "within_day": "an hour to a day",
    "within_week": "a day to a week",
    "older": "over a week",
}
_DELAYS = {
    "within_1s": "under 1 s",
    "within_10s": "1–10 s",
    "within_1m": "10–60 s",
    "within_10m": "1–10 min",
    "within_1h": "10–60 min",
    "within_6h": "1–6 h",
    "within_1d": "6–24 h",
    "within_1w": "1–7 days",
    "longer": "over a week",
}


@dataclass(frozen=True)
class Question:
    """What a report is asked for: filters, where the points are, whether answers are shown."""

    since: datetime | None = None
    until: datetime | None = None
    module_slug: str | None = None
    points_path: list[str] | None = None
    of_path: list[str] | None = None
    with_answers: bool = False

    @property
    def filters(self) -> dict[str, Any]:
        """Return the filters, as the queries take them."""
        return {"since": self.since, "until": self.until, "module_slug": self.module_slug}

    @property
    def paths(self) -> dict[str, Any]:
        """Return the filters and the paths, as the queries take them."""
        return {**self.filters, "points_path": self.points_path, "of_path": self.of_path}


@dataclass(frozen=True)
class Scale:
    """Buckets of points: *buckets* steps from *low* on."""

    low: float
    step: float
    buckets: int
    is_share: bool
    is_discrete: bool
    """Each bucket holds one value, not a range."""

    @property
    def labels(self) -> list[str]:
        """Return what each bucket is called."""
        starts = [self.low + number * self.step for number in range(self.buckets)]
        if self.is_discrete:
            return [self.show(start) for start in starts]
        unit = " %" if self.is_share else ""
        return [f"{self._plain(start)}–{self._plain(start + self.step)}{unit}" for start in starts]

    def show(self, points: float) -> str:
        """Return *points* as they are shown."""
        return f"{self._plain(points)}{' %' if self.is_share else ''}"

    def _plain(self, points: float) -> str:
        if self.is_share:
            return f"{points * 100:.0f}"
        return f"{points:,.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Scorer:
    """A scorer's responses, and how many are in each bucket of the scale."""

    name: str
    responses: int
    with_points: int
    mean: float | None
    counts: list[int]


@dataclass(frozen=True)
class Difference:
    """A response that two scorers scored differently."""

    response_id: int
    question_id: str
    a_points: float
    b_points: float
    answer_text: str | None


@dataclass(frozen=True)
class Pair:
    """How two scorers scored the same responses; the difference is the second minus the first."""

    a: str
    b: str
    responses: int
    agreement: float
    near_agreement: float
    mean_difference: float
    kappa: float | None
    cells: dict[tuple[int, int], int]
    differences: list[Difference]


@dataclass(frozen=True)
class Report:
    """All figures."""

    question: Question
    totals: Any
    updates: Any
    unit: str
    periods: list[Any]
    modules: list[Any]
    backlog: Any
    backlog_ages: list[tuple[str, int]]
    delays: Any
    delay_counts: list[tuple[str, int]]
    points: Any
    scale: Scale | None
    scorers: list[Scorer]
    pairs: list[Pair]


async def read(pool: asyncpg.Pool[Any], question: Question) -> Report:
    """Read all figures from one snapshot."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        return await _read(connection, question)


async def _read(connection: Any, question: Question) -> Report:
    filters = question.filters
    totals = await queries.cli.report_totals(connection, **filters)
    unit = _choose_unit(totals["first_at"], totals["last_at"])
    backlog = await queries.cli.report_backlog(connection, **filters)
    delays = await queries.cli.report_delays(connection, **filters)
    points = await queries.cli.report_points(connection, **question.paths)
    scale = _choose_scale(points, is_share=question.of_path is not None)
    return Report(
        question=question,
        totals=totals,
        updates=await queries.cli.report_updates(connection),
        unit=unit,
        periods=await queries.cli.report_periods(connection, unit=unit, **filters),
        modules=await queries.cli.report_modules(connection, **filters),
        backlog=backlog,
        backlog_ages=[(label, backlog[name]) for name, label in _BACKLOG_AGES.items()],
        delays=delays,
        delay_counts=[(label, delays[name]) for name, label in _DELAYS.items()],
        points=points,
        scale=scale,
        scorers=await _read_scorers(connection, question, scale),
        pairs=await _read_pairs(connection, question, scale) if scale else [],
    )


def _choose_unit(first: datetime | None, last: datetime | None) -> str:
    """Return the smallest unit that leaves no more than so many bars."""
    days = (last - first) / timedelta(days=1) if first and last else 0
    return next((unit for unit, size in _UNITS.items() if days / size < _MOST_PERIODS), "year")


def _choose_scale(points: Any, *, is_share: bool) -> Scale | None:
    """Return a bucket for each value where the points are few whole numbers, else about ten."""
    if not points["with_points"]:
        return None
    lowest, highest = points["lowest"], points["highest"]
    if is_share:
        if points["are_whole"] and points["possible"]:
            most = points["possible"]
            return Scale(0, 1 / most, most + 1, is_share=True, is_discrete=True)
        return Scale(0, 0.1, 10, is_share=True, is_discrete=False)
    low = min(lowest, 0) if highest <= _MOST_STEPS else lowest
    if points["are_whole"] and highest - low <= _MOST_STEPS:
        return Scale(low, 1, int(highest - low) + 1, is_share=False, is_discrete=True)
    step = _round_up((highest - lowest) / 10 or 1)
    low = math.floor(lowest / step) * step
    buckets = max(1, math.ceil((highest - low) / step))
    return Scale(low, step, buckets, is_share=False, is_discrete=False)


def _round_up(step: float) -> float:
    """Return the next of 1, 2, 5, 10 and so on."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(size * power for size in (1, 2, 5, 10) if size * power >= step * 0.999)


def _name(model_id: str | None, prompt_version: str | None) -> str:
    scorer = "a person" if model_id is None else model_id
    return scorer if prompt_version is None else f"{scorer}, {prompt_version}"


def _by_number(rows: Iterable[Any]) -> list[list[Any]]:
    """Return the rows of each number together."""
    ordered = sorted(rows, key=lambda row: row["number"])
    return [list(group) for _, group in groupby(ordered, lambda row: row["number"])]


async def _read_scorers(connection: Any, question: Question, scale: Scale | None) -> list[Scorer]:
    rows = await queries.cli.report_scorers(connection, **question.paths, **_scale_arguments(scale))
    return [_scorer(group, scale) for group in _by_number(rows)]


def _scale_arguments(scale: Scale | None) -> dict[str, Any]:
    scale = scale or Scale(0, 1, 1, is_share=False, is_discrete=True)
    return {"low": float(scale.low), "step": float(scale.step), "buckets": scale.buckets}


def _scorer(rows: list[Any], scale: Scale | None) -> Scorer:
    counts = [0] * (scale.buckets if scale else 0)
    for row in rows:
        if row["bucket"] is not None:
            counts[row["bucket"]] = row["responses"]
    first = rows[0]
    return Scorer(
        name=_name(first["model_id"], first["prompt_version"]),
        responses=first["all_responses"],
        with_points=first["with_points"],
        mean=first["mean"],
        counts=counts,
    )


async def _read_pairs(connection: Any, question: Question, scale: Scale) -> list[Pair]:
    rows = await queries.cli.report_pairs(connection, **question.paths, **_scale_arguments(scale))
    pairs = _by_number(rows)
    scorers: dict[str, Any] = {
        f"{name}s": [group[0][name] for group in pairs]
        for name in ("a_model", "a_prompt", "b_model", "b_prompt")
    }
    differing = await queries.cli.report_differences(
        connection, **question.paths, **scorers, with_answers=question.with_answers
    )
    return [
        _pair(group, [row for row in differing if row["number"] == number])
        for number, group in enumerate(pairs, start=1)
    ]


def _pair(rows: list[Any], differing: list[Any]) -> Pair:
    first = rows[0]
    responses = first["all_responses"]
    return Pair(
        a=_name(first["a_model"], first["a_prompt"]),
        b=_name(first["b_model"], first["b_prompt"]),
        responses=responses,
        agreement=first["agreeing"] / responses,
        near_agreement=first["near"] / responses,
        mean_difference=first["mean_difference"],
        kappa=first["kappa"],
        cells={(row["a_bucket"], row["b_bucket"]): row["responses"] for row in rows},
        differences=[
            Difference(
                response_id=row["response_id"],
                question_id=row["question_id"],
                a_points=row["a_points"],
                b_points=row["b_points"],
                answer_text=row["answer_text"],
            )
            for row in differing
        ],
    )
