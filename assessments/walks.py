"""Keyset walks over responses, for `assessments.backoffice` and the export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assessments.codecs import restore_types
from assessments.queries import queries
from assessments.validation.arguments import check_owner
from assessments.validation.scalars import (
    check_aware_datetime,
    check_identifier,
    check_optional,
    check_page_size,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from asyncpg import Record

    from assessments.queries import Connection


async def iter_batches(
    conn: Connection, filters: Mapping[str, Any], batch_size: int
) -> AsyncIterator[list[Record]]:
    """Yield the rows of each query of `iter_responses`, whose arguments *filters* are."""
    arguments, keys = _check(filters, batch_size)
    query = queries.iter_owner_responses if len(keys) > 1 else queries.iter_responses
    cursor = dict.fromkeys(keys)
    while rows := await query(conn, **_after(cursor), **arguments):
        yield rows
        if len(rows) < arguments["max_rows"]:
            return  # another query would read on to the end of the table
        cursor = restore_types({name: rows[-1][name] for name in cursor})


async def iter_batches_with_scores(
    conn: Connection, filters: Mapping[str, Any], batch_size: int
) -> AsyncIterator[list[Record]]:
    """Yield the rows of each query of `iter_responses_with_scores`.

    The rows of a response are in one batch, unless they alone are more than one.
    """
    arguments, keys = _check(filters, batch_size)
    query = (
        queries.iter_owner_responses_with_scores
        if len(keys) > 1
        else queries.iter_responses_with_scores
    )
    cursor = dict.fromkeys((*keys, "scored_at", "score_id"))
    is_full = True
    while is_full:
        rows = await query(conn, **_after(cursor), **arguments)
        is_full = len(rows) == arguments["max_rows"]
        if is_full and rows[0]["response_id"] != rows[-1]["response_id"]:
            # The last response may have more scores: the next batch begins with it.
            last = rows[-1]["response_id"]
            rows = [row for row in rows if row["response_id"] != last]
        if rows:
            yield rows
            cursor = restore_types({name: rows[-1][name] for name in cursor})


def _after(cursor: dict[str, Any]) -> dict[str, Any]:
    return {f"after_{name}": value for name, value in cursor.items()}


def _check(filters: Mapping[str, Any], batch_size: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the parameters of a walk's query and the columns that it is in the order of.

    An owner's walk is in the order of the owner's index, everybody's in that of the primary key.
    """
    arguments = {
        "module_slug": check_optional(check_identifier, "module_slug", filters["module_slug"]),
        "question_id": check_optional(check_identifier, "question_id", filters["question_id"]),
        "since": check_optional(check_aware_datetime, "since", filters["since"]),
        "until": check_optional(check_aware_datetime, "until", filters["until"]),
        "max_rows": check_page_size("batch_size", batch_size),
    }
    owner = filters["user_id"], filters["anonymous_token"]
    if owner == (None, None):
        return arguments, ("response_id",)
    return arguments | check_owner(*owner), ("created_at", "response_id")
