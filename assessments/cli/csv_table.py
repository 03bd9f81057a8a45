"""Responses as CSV for analysis: a row a response, with its latest score."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from assessments import AssessmentResponse
from assessments.cli.jsonl import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_COLUMNS = tuple(AssessmentResponse.__annotations__)
_COLUMNS_OF_SCORE = ("score_data", "model_id", "prompt_version", "scored_at")
_TIMES = ("created_at", "scored_at")


class RowFormatter:
    """The lines of a CSV file, from rows of ``iter_responses_with_scores``.

    Texts are as stored: nothing is put before one that a spreadsheet would take for a formula.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last: Mapping[str, Any] | None = None
        self._scores = 0
        self._has_head = False

    def add(self, rows: Iterable[Any]) -> Iterator[bytes]:
        """Yield the lines that *rows*, the next ones, complete."""
        yield from self._take_head()
        for row in rows:
            if self._last is None or row["response_id"] != self._last["response_id"]:
                yield from self._take_row()
                self.count += 1
            self._last = row  # scores are oldest first
            self._scores += row["score_data"] is not None

    def end(self) -> Iterator[bytes]:
        """Yield the last line."""
        yield from self._take_head()
        yield from self._take_row()

    def _take_head(self) -> Iterator[bytes]:
        if not self._has_head:
            self._has_head = True
            yield _encode([*_COLUMNS, *_COLUMNS_OF_SCORE, "scores"])

    def _take_row(self) -> Iterator[bytes]:
        if self._last is not None:
            cells = {name: self._last[name] for name in (*_COLUMNS, *_COLUMNS_OF_SCORE)}
            for name in _TIMES:
                cells[name] = cells[name] and format_timestamp(cells[name])
            yield _encode([*cells.values(), self._scores])
            self._last, self._scores = None, 0


def _encode(cells: list[Any]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()
