"""Each index: why it is there, its bytes a row, what it costs a submission, who uses it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from assessments.queries import promised_indexes
from benchmarks.indexes import RESULTS
from tests.helpers.plans import PROMISING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

_INDEXES = """
SELECT
    c.relname::text AS name,
    replace(regexp_replace(pg_get_indexdef(c.oid), '^.* USING btree ', ''), 'WHERE', 'where')
        AS definition
FROM pg_index AS i
JOIN pg_class AS c ON i.indexrelid = c.oid
WHERE i.indrelid IN ('assessment_responses'::regclass, 'assessment_scores'::regclass)
ORDER BY i.indrelid::regclass::text, i.indisprimary DESC, c.relname
"""

REASONS = {
    "assessment_responses_pkey": "The key. Sets the order of row locks, and of everybody's walks.",
    "idx_assessment_responses_user_id": "A user's pages and walks; the cascade from `users`.",
    "idx_assessment_responses_anon": "The same for a token; the claim; the purge.",
    "idx_assessment_responses_question": "Reports by question; no query of the library's needs it.",
    "idx_assessment_responses_module": "The same by module.",
    "idx_assessment_responses_user_question": "A user's attempts at a question, and the newest of "
    "each; the claim's look at what the user has answered.",
    "idx_assessment_responses_anon_question": "The same of a token, and the claim's look at them.",
    "idx_assessment_responses_user_module": "A user's pages within a module.",
    "idx_assessment_responses_anon_module": "The same of a token.",
    "idx_assessment_responses_user_created": "Signed-in users' responses by age, for a purge.",
    "idx_assessment_responses_anon_created": "Unclaimed responses by age, for a purge.",
    "idx_assessment_responses_submission_key": "One response a key: what makes a retry safe.",
    "assessment_scores_pkey": "The key.",
    "idx_assessment_scores_response_id": "A response's scores; the cascade from the response.",
}
"""Why each index is there."""

_INTRODUCTION = """\
# Indexes

Every index of both tables: why it is there, what it costs, and which queries promise it in their
comments. Written by `make reference`; the reasons are in `tests/reference/indexes.py`.

"""


async def pages(conn: asyncpg.Connection[Any]) -> dict[str, str]:
    """Return the page of the indexes."""
    rows = await conn.fetch(_INDEXES)
    names = {row["name"] for row in rows}
    if wrong := names ^ REASONS.keys():
        raise ValueError(
            f"tests/reference/indexes.py: REASONS has to hold each index and no other: {wrong}"
        )
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {"docs/reference/indexes.md": "\n".join(_render(rows, measured))}


def _render(rows: list[Any], measured: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{_INTRODUCTION}"
        f"Bytes a row of the table, and what a submission takes with the index over what it takes "
        f"without,\nits commit left out: median and quartiles of `python -m benchmarks.indexes`, "
        f"{measured['rows']:,}\nresponses, PostgreSQL {measured['postgresql']}, "
        f"{measured['measured_on']}.\n"
    )
    yield "| index | why | bytes a row | a submission |"
    yield "|---|---|---|---|"
    for row in rows:
        figures = measured["indexes"].get(row["name"])
        yield (
            f"| `{row['name']}`<br>{row['definition']} | {REASONS[row['name']]} "
            f"| {figures['bytes_a_row'] if figures else 'not measured'} | {_submit(figures)} |"
        )
    yield ""
    for row in rows:
        queries = sorted(name for name in PROMISING if row["name"] in promised_indexes(name))
        shown = ", ".join(f"`{name.removeprefix('cli.')}`" for name in queries)
        yield f"- `{row['name']}`: {shown or 'no query'}"
    yield ""


def _submit(figures: dict[str, Any] | None) -> str:
    if not figures:
        return "not measured"
    if not figures["submit"]:
        return ""
    middle, low, high = figures["submit"]
    return f"{middle:.2f} × ({low:.2f}–{high:.2f})"
