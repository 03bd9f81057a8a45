"""What the library is to cost, and which figures of ``benchmarks/`` say whether it does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Figure


class Target(NamedTuple):
    """A limit, and the figures that it is for: of *section*, those whose names match *names*."""

    work: str
    bound: Literal["≤", "≥"]
    limit: float
    section: str
    names: str
    unit: str = "×"

    @property
    def text(self) -> str:
        """The limit, as the page shows it."""
        return f"{self.bound} {self.limit:g}{self.unit if self.unit == '×' else ' ' + self.unit}"

    def figures(self, sections: Mapping[str, Sequence[Figure]]) -> list[Figure]:
        """Return the figures that the limit is for."""
        found = sections.get(self.section, ())
        return [figure for figure in found if re.fullmatch(self.names, figure.name)]

    def worst(self, sections: Mapping[str, Sequence[Figure]]) -> Figure | None:
        """Return the figure furthest from the limit's good side, or ``None`` if none was taken."""
        choose = max if self.bound == "≤" else min
        return choose(self.figures(sections), key=lambda figure: figure.value, default=None)

    def is_met(self, figure: Figure) -> bool:
        """Return whether *figure* keeps the limit, to the two digits that the page shows."""
        value = round(figure.value, 2)
        return value <= self.limit if self.bound == "≤" else value >= self.limit


TARGETS = [
    Target(
        "one submit, score, claim of 10 over bare asyncpg",
        "≤",
        1.05,
        "calls",
        r"submit_response|record_score|claim_assessment_responses of 10",
    ),
    Target(
        "page of 20 and of 100 over bare asyncpg", "≤", 1.0, "calls", r"get_responses, page of .*"
    ),
    Target(
        "writes: SQLAlchemy Core over the library",
        "≥",
        3,
        "peers",
        r"SQLAlchemy Core, (?:submit|record_score).*",
    ),
    Target(
        "reads: SQLAlchemy Core over the library",
        "≥",
        2,
        "peers",
        r"SQLAlchemy Core, (?:page|latest).*",
    ),
    Target("burst of 64 workers over the pool of 16", "≥", 4.5, "bursts", r"64 workers"),
    Target(
        "burst of 64 workers over `pgbench -M prepared -c 64`",
        "≥",
        3,
        "bursts",
        r"64 workers over pgbench",
    ),
    Target("its p50 over the pool's", "≤", 0.25, "bursts", r"64 workers, p50"),
    Target("burst of 1,000 at once over the pool of 16", "≥", 5, "bursts", r"1,000 at once"),
    Target(
        "claim of 1,000 over one bare UPDATE by token",
        "≤",
        1.2,
        "calls",
        r"claim of 1,000 over one bare UPDATE by token",
    ),
    Target(
        "`submit_responses` of 1,000 over bare unnest",
        "≤",
        1.15,
        "transfer",
        r"submit_responses of 1,000.*",
    ),
    Target(
        "rate of `submit_responses` of 10,000 over binary COPY",
        "≥",
        0.5,
        "transfer",
        r"submit_responses of 10,000.*",
    ),
    Target(
        "each function and filter, any owner: 1 M rows over 10 k (10 M with FULL=1)",
        "≤",
        1.3,
        "growth",
        r"(?!unscored).*",
    ),
    Target(
        "unscored of a fully scored table: 1 M rows over 10 k (10 M with FULL=1)",
        "≤",
        1.3,
        "growth",
        r"unscored.*",
    ),
    Target("rate of an export over COPY TO", "≥", 0.4, "transfer", r"export.*"),
    Target("rate of an import over COPY FROM", "≥", 0.3, "transfer", r"import.*"),
    Target("a submit with all indexes over before", "≤", 1.1, "indexes", r"submit, all indexes.*"),
    Target(
        "`import assessments` over importing asyncpg and aiosql",
        "≤",
        15,
        "startup",
        r"import assessments",
        "ms",
    ),
]
