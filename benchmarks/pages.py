"""docs/performance.md, written from the figures on file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import plots, results
from benchmarks.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.measure import Figure

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "performance.md"

_HEAD = """\
# Performance

Written by `python -m benchmarks --docs` from `benchmarks/results/latest.json`. `make bench`
measures everything again in some minutes and rewrites the file, this page and its plots;
`make bench FULL=1` goes to ten million rows; `make bench ONLY=calls` measures one section.

Every figure is a ratio of two ways that ran in turn in one run, on one server, unless its unit says
otherwise: the median, and the quartiles around it. Absolute times are the machine's and stand as
notes. Servers are an embedded PostgreSQL on the same cores as the client; for calls made one at a
time, client and server share one core.

## Targets

"""


def write() -> None:
    """Write the page and its plots."""
    kept = results.load()
    PAGE.write_text(page(kept), encoding="utf-8")
    for name, svg in plots.draw_all(results.figures_of(kept)).items():
        (plots.FOLDER / name).write_text(svg, encoding="utf-8")


def page(kept: Mapping[str, Any]) -> str:
    """Return the page for the sections on file."""
    from benchmarks.__main__ import SECTIONS, section  # noqa: PLC0415 - it imports this module

    figures = results.figures_of(kept)
    parts = [_HEAD, *_lines(_targets(figures))]
    for name in (name for name in SECTIONS if name in kept):
        module, facts = section(name), kept[name]
        parts.append(f"\n## {module.TITLE}\n\n{module.ABOUT}\n\n")
        parts += [f"{plots.markdown(each)}\n\n" for each in plots.of_section(name, figures)]
        parts += _lines(_table(figures[name]))
        parts.append(
            f"\n`python -m benchmarks {name}`, {facts['measured']}, {facts['seconds']} s:"
            f" {facts['machine']}; {facts['versions']}.\n"
        )
    return "".join(parts)


def _lines(lines: Iterator[str]) -> list[str]:
    return [f"{line}\n" for line in lines]


def _targets(figures: Mapping[str, Sequence[Figure]]) -> Iterator[str]:
    yield "| work | target | measured | |"
    yield "|---|---|---|---|"
    for target in TARGETS:
        worst = target.worst(figures)
        if worst is None:
            yield f"| {target.work} | {target.text} | not measured | |"
            continue
        which = f" ({worst.name})" if len(target.figures(figures)) > 1 else ""
        verdict = "met" if target.is_met(worst) else f"**missed**{why(target.work)}"
        yield f"| {target.work} | {target.text} | {_value(worst)}{which} | {verdict} |"


_CHECKED = (
    "the bare way has its arguments in place and checks nothing; what is more is validation, names"
    " of parameters, redaction of errors and records (`python benchmarks/checks.py`)"
)
_TWO_CORES = (
    "client and server share two cores, which both ways use up: the ratio is that of their CPU time"
)
WHY: dict[str, str] = {
    "one submit, score, claim of 10 over bare asyncpg": _CHECKED,
    "page of 20 and of 100 over bare asyncpg": "as above; both decode rows by the same decoder",
    "reads: SQLAlchemy Core over the library": (
        "most of what the latest of 50 questions takes is PostgreSQL's work, the same for both"
    ),
    "burst of 64 workers over the pool of 16": _TWO_CORES,
    "its p50 over the pool's": _TWO_CORES,
    "burst of 64 workers over `pgbench -M prepared -c 64`": (
        f"{_TWO_CORES}; pgbench is written in C, checks nothing and decodes no row"
    ),
    "claim of 1,000 over one bare UPDATE by token": (
        "the UPDATE takes no lock on owner and token, and looks at nothing the user has answered"
    ),
    "rate of `submit_responses` of 10,000 over binary COPY": (
        "COPY checks nothing, returns no row, and sends no text that PostgreSQL casts"
    ),
    "burst of 1,000 at once over the pool of 16": _TWO_CORES,
    "`submit_responses` of 1,000 over bare unnest": (
        "the bare INSERT knows no keys and no unknown users, and returns its rows in any order;"
        " what is more is the checks, and finding which row is whose"
    ),
    "each function and filter, any owner: 1 M rows over 10 k (10 M with FULL=1)": (
        "an index of a million entries is one level deeper than one of ten thousand: a buffer more"
        " where a call reads two or three"
    ),
    "unscored of a fully scored table: 1 M rows over 10 k (10 M with FULL=1)": (
        "the keys and scores ahead of the cursor are read once, in a merge; a worker that passes"
        " the cursor starts behind them. A table of what waits would be flat where nothing has"
        " scored a response, and was not chosen: when tried, a submission took 1.09 times as long"
        " and a score 1.13, and it cannot answer for a second model or prompt version. The queue in"
        " `examples/jobs.py` is one, for the hosts that want it"
    ),
    "rate of an export over COPY TO": (
        "COPY writes columns, an export a line of JSON with its scores and a key for each response,"
        " formatted in Python. JSON that PostgreSQL writes took a third of the time when tried; it"
        " was not chosen, because the keys of responses without one are SHA-1, which PostgreSQL has"
        " not, and each filter of a walk would be written twice"
    ),
    "rate of an import over COPY FROM": (
        "each line is decoded and checked by the rules of a submission, and the statement looks for"
        " what is already stored; COPY checks nothing"
    ),
    "`import assessments` over importing asyncpg and aiosql": (
        "two fifths are aiosql's reading of `sql/`, which a loader of our own has shortened to a"
        " fifth; the rest are the modules, none of which takes a tenth; loading on first use was"
        " not chosen, as the first call would pay"
    ),
}
"""For each target missed: why, and what was tried."""


def why(work: str) -> str:
    """Return the reason why a target is missed, if one is written down."""
    return f": {WHY[work]}" if work in WHY else ""


def _table(figures: Sequence[Figure]) -> Iterator[str]:
    yield "| | median | quartiles | |"
    yield "|---|---|---|---|"
    for each in figures:
        yield f"| {each.name} | {_value(each)} | {each.low:.2f}–{each.high:.2f} | {each.note} |"


def _value(figure: Figure) -> str:
    unit = figure.unit if figure.unit == "×" else f" {figure.unit}"
    return f"{figure.value:.2f}{unit}"
