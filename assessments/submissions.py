"""Storing new responses, and telling why one was left out.

The statement that stores leaves out a response whose user does not exist or whose submission key is
taken, without an error, which would abort the caller's transaction. A second statement then returns
the row of a retry, or the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assessments.errors import NotStored, SubmissionConflict, UnknownUser
from assessments.event_loop import map_in_slices
from assessments.queries import queries, text_arrays
from assessments.records import to_response
from assessments.transactions import atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from assessments.queries import Connection
    from assessments.records import AssessmentResponse
    from assessments.validation.arguments import Columns

_ATTEMPTS = 2  # a user or a key can appear or go between the two statements


async def store_response(conn: Connection, columns: Columns) -> AssessmentResponse:
    """Return the row of a response, stored now or before."""
    for _ in range(_ATTEMPTS):
        row = await queries.submit_response(conn, **columns)
        if row is not None:
            return to_response(row)
        (stored,) = await _get_submitted(conn, {name: [value] for name, value in columns.items()})
        if stored is not None:
            return stored
    raise NotStored


async def store_responses(conn: Connection, columns: Columns) -> list[AssessmentResponse]:
    """Return the rows of a batch, stored now or before; all are stored, or none."""
    if any(columns["submission_key"]):
        async with atomic(conn) as connection:
            return await _store_batch(connection, columns)
    return await _store_batch(conn, columns)


async def _store_batch(conn: Connection, columns: Columns) -> list[AssessmentResponse]:
    rows: list[Any] = [None] * len(columns["answer_text"])
    for query in (_store, _get_submitted) * _ATTEMPTS:
        left = [index for index, row in enumerate(rows) if row is None]
        if not left:
            break
        some = columns
        if len(left) < len(rows):
            some = {name: [column[index] for index in left] for name, column in columns.items()}
        places = [f"responses[{index}]" for index in left]
        for index, row in zip(left, await query(conn, some, places), strict=True):
            rows[index] = row
    if None in rows:
        raise NotStored(f"responses[{rows.index(None)}]")
    return rows


async def _store(
    conn: Connection, columns: Columns, _places: list[str]
) -> list[AssessmentResponse | None]:
    """Store *columns*; return the row of each, or ``None`` for one left out."""
    rows = await queries.submit_responses(conn, **text_arrays(columns))
    return await map_in_slices(_to_stored, rows)


async def _get_submitted(
    conn: Connection, columns: Columns, places: Sequence[str | None] = (None,)
) -> list[AssessmentResponse | None]:
    """Return the stored row of each of *columns*, which a submit has left out.

    It is ``None`` where the reason no longer holds: the user or the key has just appeared or gone.

    Raises:
        UnknownUser, SubmissionConflict: One of them is refused; *places* are those of the items.
    """
    rows = await queries.get_submitted_responses(conn, **text_arrays(columns))
    for reason, error in (("unknown_user", UnknownUser), ("taken_key", SubmissionConflict)):
        for place, row in zip(places, rows, strict=True):
            if row[reason] is not None:
                raise error(place)
    return await map_in_slices(_to_submitted, rows)


# A null is None whatever codecs the host has set, and the rows are in the order given: nothing that
# a host decodes is compared.
def _to_stored(row: Record) -> AssessmentResponse | None:
    return None if row["response_id"] is None else to_response(row)


def _to_submitted(row: Record) -> AssessmentResponse | None:
    return None if row["response_id"] is None else to_response(row, "unknown_user", "taken_key")
