"""The list of mutations in ``tests/mutations/``: one-place changes that a named test must notice.

An entry is a block of lines, ended by a blank one::

    sql/responses.sql get_responses x2
    - before
    + after
    tests/calls/test_responses.py
    = why no test can notice it

The first line names the file, the query, function or class to look in (the whole file, if none is
named), and how often the text stands there if not once. No ``+`` removes the text. An entry whose
text is not there so often is stale. ``=`` explains a mutation that may survive.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LISTS = ROOT / "tests" / "mutations"


@dataclass
class Mutation:
    """A change of *before* to *after* in the *scope* of a file, and the tests that must fail."""

    file: str
    scope: str = ""
    times: int = 1
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    explained: str = ""

    @property
    def title(self) -> str:
        """Return the place and the texts, shortened."""
        texts = (re.sub(r"\s+", " ", " ".join(part)).strip() for part in (self.before, self.after))
        shown = " -> ".join(text if len(text) < 60 else f"{text[:57]}..." for text in texts)
        return f"{self.file} {self.scope}: {shown}"

    def apply(self, text: str) -> str | None:
        """Return *text*, that of the file, with the change; None if the entry is stale."""
        begin, end = 0, len(text)
        if self.scope:
            find = _find_query if self.file.endswith(".sql") else _find_definition
            begin, end = find(text, self.scope)
        within, before = text[begin:end], "\n".join(self.before)
        if not before or not self.tests or within.count(before) != self.times:
            return None
        return text[:begin] + within.replace(before, "\n".join(self.after)) + text[end:]


def read_mutations() -> list[Mutation]:
    """Return every entry of the lists."""
    lists = sorted(_LISTS.glob("*.txt"))
    texts = (path.read_text(encoding="utf-8") for path in lists)
    blocks = (block for text in texts for block in re.split(r"\n{2,}", text.strip("\n")))
    return [_parse(block) for block in blocks if not block.startswith("#")]


def _parse(block: str) -> Mutation:
    first, *lines = block.splitlines()
    file, *details = first.split()
    mutation = Mutation(file)
    for detail in details:
        if re.fullmatch(r"x\d+", detail):
            mutation.times = int(detail[1:])
        else:
            mutation.scope = detail
    for line in lines:
        sign, rest = line[0], line[2:]
        if sign in "-+":
            (mutation.before if sign == "-" else mutation.after).append(rest)
        elif sign == "=":
            mutation.explained += f" {rest}"
        else:
            mutation.tests += line.split()
    return mutation


def _find_query(text: str, name: str) -> tuple[int, int]:
    """Return where the query begins and ends; twice 0, if it is gone."""
    found = re.search(rf"-- name: {name}\(.*?(?=\n-- name: |\Z)", text, re.DOTALL)
    return found.span() if found else (0, 0)


def _find_definition(text: str, name: str) -> tuple[int, int]:
    """Return where the function, not its overloads, or class begins and ends; twice 0 if gone."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if getattr(node, "name", None) != name or not isinstance(node, ast.stmt):
            continue
        if not any(ast.unparse(each) == "overload" for each in getattr(node, "decorator_list", ())):
            ends = [sum(map(len, lines[:number])) for number in (node.lineno - 1, node.end_lineno)]
            return ends[0], ends[1]
    return 0, 0
