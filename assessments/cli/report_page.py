"""The page of a report: the template, and how its figures are shown."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from assessments import __version__
from assessments.cli import pages, report_charts

if TYPE_CHECKING:
    from collections.abc import Callable

    from assessments.cli.report_data import Pair, Report, Scale

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def render(report: Report) -> str:
    """Return the page, in which every text from the database is escaped."""
    filters: dict[str, Callable[..., object]] = {
        "count": lambda number: f"{number:,}",
        "percent": _percent,
        "share_of": lambda part, whole: _percent(part / whole) if whole else "–",
        "duration": _duration,
        "zip": zip,
        "day": lambda moment: f"{moment:%-d %B %Y}",
        "time": lambda moment: f"{moment.astimezone(timezone.utc):%-d %B %Y, %H:%M} UTC",
    }
    return pages.render(
        "report.html.j2",
        filters,
        report=report,
        scale=report.scale,
        version=__version__,
        charts=report_charts,
        backlog_age=_backlog_age(report),
        peak=_peak(report),
        compare=_compare,
        near_label="within one step",
        step=report.scale.show(report.scale.step) if report.scale else "",
    )


def _backlog_age(report: Report) -> float | None:
    oldest: datetime | None = report.backlog["oldest_at"]
    return (report.totals["made_at"] - oldest).total_seconds() if oldest else None


def _peak(report: Report) -> float:
    """Return the largest share of its points that any scorer has in one bucket."""
    return max(
        (max(each.counts) / each.with_points for each in report.scorers if each.with_points),
        default=1,
    )


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _compare(pair: Pair, scale: Scale) -> str:
    """Return the mean difference in a sentence."""
    if scale.is_share:
        size = f"{abs(pair.mean_difference) * 100:.1f} percentage points"
    else:
        size = f"{abs(pair.mean_difference):,.2f}"
    if not float(size.split()[0].replace(",", "")):
        return "On average both gave the same."
    more = "more" if pair.mean_difference > 0 else "less"
    return f"On average {pair.b} gave {size} {more} than {pair.a}."


def _duration(seconds: float | None) -> str:
    """Return a time in one unit, or two where the larger is small."""
    if seconds is None:
        return "–"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        hours, minutes = divmod(round(seconds / _MINUTE), 60)
        return f"{hours} h {minutes} min" if hours < 10 else f"{hours} h"  # noqa: PLR2004
    return f"{seconds / _DAY:,.0f} days"
