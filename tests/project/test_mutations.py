"""The mutations that ``make mutations`` runs fit the code."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.helpers.mutations import ROOT, Mutation, read_mutations

MUTATIONS = read_mutations()
QUERIES = [
    (path.relative_to(ROOT).as_posix(), name)
    for path in (ROOT / "sql").rglob("*.sql")
    for name in re.findall(r"^-- name: (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.title)
def test_a_mutation_changes_what_it_names(mutation: Mutation) -> None:
    """Its text stands in its file as often as it says, differs after it, and its tests exist."""
    text = (ROOT / mutation.file).read_text(encoding="utf-8")

    changed = mutation.apply(text)
    assert changed is not None, "stale"
    assert changed != text
    assert [each for each in mutation.tests if not (ROOT / each.split("::")[0]).exists()] == []


def test_every_query_and_every_module_has_a_mutation() -> None:
    """Whoever adds a query or a module names a change in it that a test must notice."""
    named = {(each.file, each.scope) for each in MUTATIONS}
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "assessments").rglob("*.py")
        if path.name != "__main__.py" and re.search(r"^\w", path.read_text("utf-8"), re.MULTILINE)
    }

    assert set(QUERIES) - named == set()
    assert modules - {each.file for each in MUTATIONS} == set()
    assert max(Counter(map(str, MUTATIONS)).values()) == 1
