"""The pictures of a report, drawn by Vega-Lite as SVG.

Their colours are variables of the page's style, so that they follow light and dark. Each is drawn
for a wide and for a narrow page, so that its type keeps its size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import vl_convert
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assessments.cli.report_data import Pair, Report, Scale, Scorer

_FULL, _HALF, _NARROW, _SMALL = 1016, 476, 316, 300
_MOST_LABELLED = 8  # rows of squares that have room for numbers
_MOST_IN_HALF = 5
_AXIS = {
    "domainColor": "var(--line)",
    "gridColor": "var(--line)",
    "labelColor": "var(--soft)",
    "labelFontSize": 12,
    "labelPadding": 6,
    "ticks": False,
    "titleColor": "var(--soft)",
    "titleFontSize": 12,
    "titleFontWeight": "normal",
}
_CONFIG = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif",
    "axis": _AXIS,
    "view": {"stroke": None},
    "text": {"fontSize": 12},
}
_OWNERS = {"signed in": "var(--accent)", "anonymous": "var(--second)"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COUNT = {"format": ",d", "tickMinStep": 1}


def _draw(spec: dict[str, Any], width: int) -> str:
    """Return the SVG of *spec*, *width* pixels wide."""
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": None,
        "padding": {"left": 0, "right": 4, "top": 4, "bottom": 0},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "width": width,
        "config": _CONFIG,
        **spec,
    }
    svg: str = vl_convert.vegalite_to_svg(whole, allowed_base_urls=[])
    return re.sub(r' (?:xmlns(?::xlink)?|aria-[a-z]+|role)="[^"]*"', "", svg)


def _both(spec: Callable[[int], dict[str, Any]], wide: int) -> Markup:
    """Return the picture for a wide page and for a narrow one; the style shows one."""
    pictures = (("wide", wide), ("narrow", _NARROW))
    return Markup("").join(
        Markup('<div class="{}">{}</div>').format(name, Markup(_draw(spec(width), width)))  # noqa: S704
        for name, width in pictures
    )


def draw_periods(report: Report) -> Markup:
    """Return the responses of each day, by owner."""
    values = [
        {"on": row["started_on"].isoformat(), "owner": owner, "responses": row[name]}
        for row in report.periods
        for owner, name in (("signed in", "signed_in"), ("anonymous", "anonymous"))
    ]
    shown = {"day": "%-d %b", "week": "%-d %b", "month": "%b %Y", "year": "%Y"}[report.unit]

    def spec(width: int) -> dict[str, Any]:
        every = -(-len(report.periods) * 56 // width)
        return {
            "height": 200,
            "data": {"values": values},
            "mark": {"type": "bar"},
            "encoding": {
                "x": {
                    "field": "on",
                    "type": "ordinal",
                    "axis": {
                        "title": None,
                        "grid": False,
                        "labelAngle": 0,
                        "labelOverlap": False,
                        "labelExpr": f"utcFormat(toDate(datum.value), '{shown}')",
                        "values": [
                            row["started_on"].isoformat() for row in report.periods[::every]
                        ],
                    },
                    "scale": {"paddingInner": 0.25, "paddingOuter": 0.1},
                },
                "y": {
                    "field": "responses",
                    "type": "quantitative",
                    "axis": {"title": None, "domain": False, "tickCount": 4, **_COUNT},
                },
                **_owner_colour(),
            },
        }

    return _both(spec, _FULL)


def _owner_colour() -> dict[str, Any]:
    return {
        "color": {
            "field": "owner",
            "scale": {"domain": list(_OWNERS), "range": list(_OWNERS.values())},
            "legend": None,
        },
        "order": {"field": "owner", "sort": "descending"},
    }


def draw_modules(report: Report) -> Markup:
    """Return the responses of each module, by owner."""
    names = [_module_name(row) for row in report.modules]
    values = [
        {"module": number, "owner": owner, "responses": row[name]}
        for number, row in enumerate(report.modules)
        for owner, name in (("signed in", "signed_in"), ("anonymous", "anonymous"))
    ]
    return _both(lambda width: _rows(names, values, width, "module", _owner_colour()), _HALF)


def _module_name(row: Any) -> str:
    if row["module_slug"] is None:
        return f"{row['modules']:,} more"
    return str(row["module_slug"])


def _rows(
    names: list[str], values: list[dict[str, Any]], width: int, field: str, colour: dict[str, Any]
) -> dict[str, Any]:
    """Return horizontal bars, one for each of *names*."""
    return {
        "height": {"step": 26},
        "padding": {"left": 10, "right": 4, "top": 4, "bottom": 0},  # for a wider font than Vega's
        "data": {"values": values},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {
                "field": field,
                "type": "ordinal",
                "axis": {
                    "title": None,
                    "domain": False,
                    # As data, so that no name is read as an expression.
                    "labelExpr": f"{_literal(names)}[datum.value]",
                    "labelLimit": width * 0.42,
                    "labelColor": "var(--text)",
                },
                "scale": {"paddingInner": 0.3, "paddingOuter": 0.1},
            },
            "x": {
                "field": "responses",
                "type": "quantitative",
                "axis": {"title": None, "domain": False, "tickCount": 4, **_COUNT},
            },
            **colour,
        },
    }


def _literal(texts: Sequence[str]) -> str:
    """Return an expression of Vega's for *texts*, in which only letters and digits stand bare."""
    quoted = (
        "".join(c if c.isascii() and c.isalnum() else _escape(c) for c in _drawable(text))
        for text in texts
    )
    return "[" + ",".join(f"'{text}'" for text in quoted) + "]"


def _drawable(text: str) -> str:
    """Return *text* with a mark for each character that XML, and so an SVG, cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))


def draw_counts(counts: list[tuple[str, int]], colour: str) -> Markup:
    """Return a column for each label."""
    values = [{"label": label, "responses": count} for label, count in counts]

    def spec(width: int) -> dict[str, Any]:
        if width == _NARROW:
            rows = [{"label": n, "responses": count} for n, (_, count) in enumerate(counts)]
            names = [label for label, _ in counts]
            return _rows(names, rows, width, "label", {"color": {"value": colour}})
        return {
            "height": 180,
            "data": {"values": values},
            "encoding": {
                "x": {
                    "field": "label",
                    "type": "ordinal",
                    "sort": None,
                    "axis": {"title": None, "grid": False, "labelAngle": 0, "labelLimit": 110},
                    "scale": {"paddingInner": 0.35, "paddingOuter": 0.2},
                },
                "y": {
                    "field": "responses",
                    "type": "quantitative",
                    "axis": {"title": None, "domain": False, "tickCount": 4, **_COUNT},
                },
            },
            "mark": {"type": "bar", "color": colour},
        }

    return _both(spec, _FULL if len(counts) > _MOST_IN_HALF else _HALF)


def _every(labels: list[str], width: int) -> int:
    """Return which labels have room: every one, every second and so on."""
    return -(-len(labels) * (8 + 7 * max(map(len, labels))) // width)


def draw_scorer(scorer: Scorer, scale: Scale, most: float) -> Markup:
    """Return how a scorer's points are distributed, on an axis up to *most* for all scorers."""
    labels = scale.labels
    values = [
        {"points": number, "share": count / scorer.with_points if scorer.with_points else 0}
        for number, count in enumerate(scorer.counts)
    ]
    every = _every(labels, _SMALL)
    spec = {
        "height": 130,
        "data": {"values": values},
        "mark": {"type": "bar", "color": "var(--accent)"},
        "encoding": {
            "x": {
                "field": "points",
                "type": "ordinal",
                "axis": {
                    "title": None,
                    "grid": False,
                    "labelAngle": 0,
                    "labelOverlap": False,
                    "labelExpr": f"{_literal(labels)}[datum.value]",
                    "values": list(range(0, len(labels), every)),
                },
                "scale": {"paddingInner": 0.12, "paddingOuter": 0.1},
            },
            "y": {
                "field": "share",
                "type": "quantitative",
                "scale": {"domain": [0, most], "nice": 3},
                "axis": {"title": None, "domain": False, "tickCount": 3, "format": ".0%"},
            },
        },
    }
    return Markup(_draw(spec, _SMALL))  # noqa: S704 - drawn by Vega, which escapes


def draw_pair(pair: Pair, scale: Scale) -> Markup:
    """Return how often the one scorer's points met the other's; equal points are outlined."""
    labels = scale.labels
    most = max(pair.cells.values())
    values = [
        {
            "a": a,
            "b": b,
            "responses": count,
            "weight": count / most,
            "equal": a == b,
            "strong": count > most * 0.55,
        }
        for a in range(scale.buckets)
        for b in range(scale.buckets)
        for count in [pair.cells.get((a, b), 0)]
    ]
    every = _every(labels, _SMALL)

    def axis(title: str, step: int) -> dict[str, Any]:
        return {
            "title": _drawable(title),
            "titleLimit": 220,
            "domain": False,
            "grid": False,
            "labelAngle": 0,
            "labelOverlap": False,
            "labelExpr": f"{_literal(labels)}[datum.value]",
            "values": list(range(0, len(labels), step)),
        }

    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rect", "cornerRadius": 2, "fill": "var(--accent)"},
            "encoding": {
                "fillOpacity": {
                    "field": "weight",
                    "type": "quantitative",
                    "scale": {"domain": [0, 1], "range": [0.06, 1]},
                    "legend": None,
                }
            },
        },
        {
            "transform": [{"filter": "datum.equal"}],
            "mark": {
                "type": "rect",
                "cornerRadius": 2,
                "fill": None,
                "stroke": "var(--text)",
                "strokeWidth": 1,
                "strokeOpacity": 0.55,
            },
        },
    ]
    if scale.buckets <= _MOST_LABELLED:
        layers.append(
            {
                "transform": [{"filter": "datum.responses > 0"}],
                "mark": {"type": "text"},
                "encoding": {
                    "text": {"field": "responses", "format": ",d"},
                    "color": {
                        "condition": {"test": "datum.strong", "value": "var(--card)"},
                        "value": "var(--text)",
                    },
                },
            }
        )
    spec = {
        "height": 236,
        "data": {"values": values},
        "encoding": {
            "x": {
                "field": "b",
                "type": "ordinal",
                "axis": {**axis(pair.b, every), "orient": "bottom"},
                "scale": {"paddingInner": 0.06},
            },
            "y": {
                "field": "a",
                "type": "ordinal",
                "sort": "descending",
                "axis": axis(pair.a, 1 if scale.buckets <= _MOST_LABELLED else 2),
                "scale": {"paddingInner": 0.06},
            },
        },
        "layer": layers,
    }
    return Markup(_draw(spec, _NARROW))  # noqa: S704 - drawn by Vega, which escapes
