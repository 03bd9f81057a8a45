"""`benchmarks/`: what docs/performance.md shows is what was measured, and each section runs."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import pages, plots, results
from benchmarks.__main__ import SECTIONS, section
from benchmarks.measure import Figure
from benchmarks.targets import TARGETS, Target
from tests.helpers.calls import FUNCTIONS

pytestmark = pytest.mark.own_server

FOLDER = Path(pages.__file__).parent
REGENERATE = "run: python -m benchmarks --docs"
NEEDS = {"peers": "psycopg"}
"""The packages of the extra `bench` without which a section cannot run."""


def texts(svg: str) -> list[str]:
    """Return the texts of a plot, whatever the version that drew it."""
    return re.findall(r"<text[^>]*>([^<]*)<", svg)


def test_the_page_shows_the_figures_on_file() -> None:
    """docs/performance.md is what the JSON file gives, and so are the plots."""
    kept = results.load()
    drawn = plots.draw_all(results.figures_of(kept))

    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(kept), REGENERATE
    assert {file.name for file in plots.FOLDER.iterdir()} == set(drawn), REGENERATE
    for name, svg in drawn.items():
        on_file = (plots.FOLDER / name).read_text(encoding="utf-8")
        assert texts(on_file) == texts(svg), REGENERATE


def test_the_page_names_every_target() -> None:
    """Each target stands on the page with its figure, or as not measured."""
    page = pages.page({})

    for target in TARGETS:
        assert f"| {target.work} | {target.text} | not measured |" in page


def test_a_target_is_for_figures_on_file() -> None:
    """Where a section was measured, each of its targets finds a figure there."""
    figures = results.figures_of(results.load())

    assert [t.work for t in TARGETS if t.section in figures and not t.figures(figures)] == []


@pytest.mark.parametrize(("bound", "worst"), [("≤", 1.2), ("≥", 0.9)])
def test_a_target_shows_its_worst_figure(bound: str, worst: float) -> None:
    """Of several figures the one furthest from the limit's good side decides."""
    target = Target("work", bound, 1.0, "calls", "page.*")  # type: ignore[arg-type]
    values = {"page of 20": 1.2, "page of 100": 0.9, "another": 5.0}
    figures = {"calls": [Figure(name, value, value, value) for name, value in values.items()]}
    found = target.worst(figures)

    assert found is not None
    assert found.value == worst
    assert not target.is_met(found)


def test_every_public_function_is_measured() -> None:
    """Each function on rows has a figure in the section of calls."""
    names = {figure.name for figure in results.figures_of(results.load())["calls"]}

    missing = [
        name
        for name in FUNCTIONS
        if not any(re.match(rf"{name}(?!\w)", figure) for figure in names)
    ]
    assert missing == []


@pytest.mark.filterwarnings("default")  # the peers deprecate forms that older ones need
@pytest.mark.parametrize("name", SECTIONS)
async def test_each_section_runs(name: str) -> None:
    """The smallest size of each section gives figures, medians between their quartiles."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    figures = await section(name).run("smallest")

    assert figures
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_each_module_imports(file: Path) -> None:
    """Each module of benchmarks/ imports with what dev installs, Django's with the extra bench."""
    if file.stem == "peers_django":
        pytest.importorskip("django")
    import_module(f"benchmarks.{file.stem}")
