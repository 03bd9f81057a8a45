"""The plots of docs/performance.md: SVG by Vega-Lite, in colours that follow light and dark.

Each is drawn for a wide and for a narrow page, so that its type keeps its size.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Figure

FOLDER = Path(__file__).parent.parent / "docs" / "plots"
_WIDTHS = {"": 760, "-narrow": 360}
_STYLE = """<style>
:root { color-scheme: light dark; --card: #ffffff; --text: #1d2129; --soft: #5d6470;
  --line: #e3e4e0; --c1: #2457a8; --c2: #b25b12; --c3: #2f7d4f; --c4: #8a4fa3; --c5: #5d6470; }
@media (prefers-color-scheme: dark) { :root { --card: #14161a; --text: #e8e9eb; --soft: #a2a9b4;
  --line: #31353d; --c1: #7fb0f5; --c2: #e59a57; --c3: #74c795; --c4: #c795dd; --c5: #a2a9b4; } }
</style>"""
_CONFIG = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif",
    "axis": {
        "domainColor": "var(--line)",
        "gridColor": "var(--line)",
        "labelColor": "var(--soft)",
        "labelFontSize": 12,
        "labelLimit": 400,
        "labelPadding": 6,
        "ticks": False,
        "titleColor": "var(--soft)",
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "legend": {
        "labelColor": "var(--text)",
        "labelFontSize": 12,
        "labelLimit": 320,
        "orient": "top",
        "title": None,
        "columns": 3,
    },
    "title": {
        "color": "var(--text)",
        "fontSize": 14,
        "fontWeight": 600,
        "anchor": "start",
        "frame": "bounds",
        "offset": 12,
    },
    "view": {"stroke": None},
    "text": {"fontSize": 12},
}
_PEERS = ("bare asyncpg", "psycopg 3", "SQLAlchemy Core", "SQLAlchemy ORM", "Django")
_ALT = {
    "calls": "Bars: each call of the library over bare asyncpg.",
    "peers": "Bars: the time of each peer over the library's, work by work.",
    "concurrency": "Bars: rounds of many submits at once, the library over bare asyncpg.",
    "bursts": "Bars: rates of a burst with the BatchingWriter over a pool of 16.",
    "growth": "Lines: the time of each function from ten thousand rows on.",
}


def of_section(name: str, figures: Mapping[str, Sequence[Figure]]) -> list[str]:
    """Return the plots of a section, by name."""
    return [name] if name in _SPECS and figures.get(name) else []


def markdown(name: str) -> str:
    """Return what shows a plot on a page in docs/: the narrow one on a narrow screen."""
    return (
        f'<picture><source media="(max-width: 600px)" srcset="plots/{name}-narrow.svg">'
        f'<img src="plots/{name}.svg" alt="{_ALT[name]}"></picture>'
    )


def draw_all(figures: Mapping[str, Sequence[Figure]]) -> dict[str, str]:
    """Return each plot of the figures as SVG, by file name."""
    return {
        f"{name}{suffix}.svg": _draw(_SPECS[name](figures[name], width), width)
        for name in _SPECS
        if figures.get(name)
        for suffix, width in _WIDTHS.items()
    }


def _draw(spec: dict[str, Any], width: int) -> str:
    import vl_convert  # noqa: PLC0415 - a large library, for the plots alone

    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "var(--card)",
        "padding": {"left": 40, "right": 24, "top": 12, "bottom": 10},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "width": width,
        "config": _CONFIG,
        **spec,
    }
    svg: str = vl_convert.vegalite_to_svg(whole, allowed_base_urls=[])
    svg = re.sub(r' (?:aria-[a-z]+|role)="[^"]*"', "", svg)
    opening, rest = svg.split(">", 1)
    return f"{opening}>{_STYLE}{rest}\n"


def _bars(figures: Sequence[Figure], width: int, title: str, colour: str = "1") -> dict[str, Any]:
    """Return horizontal bars with their quartiles and a line at 1."""
    narrow = width < max(_WIDTHS.values())
    values = [
        {
            "name": _short(each.name) if narrow else each.name,
            "value": each.value,
            "low": each.low,
            "high": each.high,
            "label": f"{each.value:.2f}",
            "label_at": max(each.high, 1.0),  # not on the line at 1
        }
        for each in figures
    ]
    top = max([1.0, *(each.high for each in figures)]) * 1.12
    y = {
        "field": "name",
        "type": "nominal",
        "sort": None,
        "axis": {
            "title": None,
            "domain": False,
            "labelColor": "var(--text)",
            "labelLimit": 170 if narrow else 400,
        },
        "scale": {"paddingInner": 0.35},
    }
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": [0, top], "nice": False},
        "axis": {"title": None, "domain": False, "tickCount": 4},
    }
    return {
        "title": title,
        "height": {"step": 21},
        "data": {"values": values},
        "encoding": {"y": y},
        "layer": [
            {
                "mark": {"type": "bar", "color": f"var(--c{colour})", "opacity": 0.85},
                "encoding": {"x": x},
            },
            {
                "mark": {"type": "rule", "color": "var(--text)", "strokeDash": [3, 3]},
                "encoding": {"y": None, "x": {"datum": 1, "type": "quantitative"}},
            },
            {
                "mark": {"type": "rule", "color": "var(--text)", "strokeWidth": 1.5},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative"},
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "color": "var(--soft)"},
                "encoding": {
                    "x": {"field": "label_at", "type": "quantitative"},
                    "text": {"field": "label"},
                },
            },
        ],
    }


def _short(name: str) -> str:
    name = name.replace("_with_latest_score", "_scored").replace(
        "claim_assessment_responses", "claim"
    )
    name = name.replace(" questions", "").replace("backoffice.", "any ")
    return name.replace("through", "via")


def _grouped(figures: Sequence[Figure], width: int) -> dict[str, Any]:
    """Return a group of bars for each work, a bar for each peer, and a line at 1."""
    narrow = width < max(_WIDTHS.values())
    values = [
        {"peer": peer, "work": work, "value": each.value, "label": f"{each.value:.1f}"}
        for each in figures
        for peer, _, work in [each.name.partition(", ")]
        if peer in _PEERS and "PgBouncer" not in work
    ]
    works = list(dict.fromkeys(value["work"] for value in values))
    colours = [f"var(--c{number})" for number in range(5, 0, -1)]
    top = max(each.value for each in figures) * 1.15
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": [0, top], "nice": False},
        "axis": {"title": "time over the library's", "domain": False, "tickCount": 5},
    }
    y = {
        "field": "work",
        "type": "nominal",
        "sort": works,
        "axis": {
            "title": None,
            "domain": False,
            "labelColor": "var(--text)",
            "labelLimit": 145 if narrow else 400,
        },
        "scale": {"paddingInner": 0.25},
    }
    offset = {"field": "peer", "sort": list(_PEERS), "type": "nominal"}
    colour = {
        "field": "peer",
        "type": "nominal",
        "sort": list(_PEERS),
        "scale": {"domain": list(_PEERS), "range": colours},
        "legend": {"columns": 1 if narrow else 5},
    }
    return {
        "title": "Time of each peer over the library's",
        "height": {"step": 13},
        "data": {"values": values},
        "layer": [
            {
                "mark": {"type": "rule", "color": "var(--soft)", "strokeDash": [3, 3]},
                "encoding": {"x": {"datum": 1, "type": "quantitative"}},
            },
            {
                "mark": {"type": "bar"},
                "encoding": {"y": y, "yOffset": offset, "x": x, "color": colour},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 4, "fontSize": 10},
                "encoding": {
                    "y": y,
                    "yOffset": offset,
                    "x": {"field": "value", "type": "quantitative"},
                    "text": {"field": "label"},
                    "color": {"value": "var(--soft)"},
                },
            },
        ],
    }


_FLAT = 1.3
_LABELLED = 6


def _lines(figures: Sequence[Figure], width: int) -> dict[str, Any]:
    """Return a line for each call over the sizes: soft where it is flat, named where it grows."""
    narrow = width < max(_WIDTHS.values())
    worst = sorted(figures, key=lambda each: -each.value)[: _LABELLED - 2 * narrow]
    named = [each.name for each in worst if each.value > _FLAT]
    values = [
        {
            "name": each.name,
            "rows": 10 ** (4 + place),
            "ms": float(text),
            "kind": each.name if each.name in named else "every other call",
        }
        for each in figures
        for place, text in enumerate(each.note.removesuffix(" ms").split(" / "))
    ]
    kinds = [*named, "every other call"]
    colours = [f"var(--c{1 + number % 4})" for number in range(len(named))]
    return {
        "title": "Milliseconds as the tables grow",
        "height": 340,
        "data": {"values": values},
        "mark": {"type": "line", "point": {"size": 18}, "strokeWidth": 1.6},
        "encoding": {
            "x": {
                "field": "rows",
                "type": "quantitative",
                "scale": {"type": "log"},
                "axis": {
                    "title": "rows",
                    "format": "~s",
                    "grid": False,
                    "values": sorted({value["rows"] for value in values}),
                },
            },
            "y": {
                "field": "ms",
                "type": "quantitative",
                "scale": {"type": "log"},
                "axis": {"title": "milliseconds", "format": "~g", "domain": False, "tickCount": 5},
            },
            "detail": {"field": "name"},
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": kinds, "range": [*colours, "var(--line)"]},
                "legend": {"columns": 1, "symbolType": "stroke"},
            },
            "strokeDash": {
                "field": "kind",
                "type": "nominal",
                "legend": None,
                "scale": {
                    "domain": kinds,
                    "range": [[1, 0]] * min(4, len(named))
                    + [[4, 3]] * max(0, len(named) - 4)
                    + [[1, 0]],
                },
            },
        },
    }


_SPECS: dict[str, Any] = {
    "calls": lambda figures, width: _bars(figures, width, "Library over bare asyncpg, same SQL"),
    "peers": _grouped,
    "concurrency": lambda figures, width: _bars(
        [
            replace(each, name=each.name.removeprefix("library, "))
            for each in figures
            if each.name.startswith("library")
        ],
        width,
        "Submits at once, over bare asyncpg",
        "3",
    ),
    "growth": _lines,
    "bursts": lambda figures, width: _bars(
        [each for each in figures if "time" not in each.name and "p50" not in each.name],
        width,
        "Bursts: a BatchingWriter over a pool",
        "4",
    ),
}
