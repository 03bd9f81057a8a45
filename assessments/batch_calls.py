"""Calls that share a statement and a commit, each with an outcome of its own.

The statements are those of `submit_responses` and `record_scores`, without the transaction around
them: each commits by itself, so what a row comes back for is stored. What is left out is refused,
found, or retried.
"""

from __future__ import annotations

import asyncio
import copy
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from assessments.backoffice import store_score
from assessments.errors import (
    AssessmentsError,
    NotStored,
    SubmissionConflict,
    UnknownResponse,
    UnknownUser,
)
from assessments.event_loop import map_in_slices
from assessments.queries import named, text_arrays
from assessments.records import to_response, to_score
from assessments.submissions import store_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from asyncpg import Record

    from assessments.queries import Connection
    from assessments.records import AssessmentResponse, AssessmentScore
    from assessments.validation.arguments import Columns

# SQLSTATEs that say nothing about one item: no half of the batch would do better.
_NOT_AN_ITEMS = ("08", "0A", "25", "26", "28", "3D", "40003", "53", "57P", "58", "F0", "XX")
_TIMEOUTS = ("55P03", "57014")  # lock_timeout, statement_timeout and their like


class Kind(NamedTuple):
    """How the calls of one function are stored: one alone, or many by two named queries."""

    store_one: Callable[[Connection, Columns], Awaitable[Any]]
    store: str
    explain: str
    to_outcome: Callable[[Record], Any]
    """Returns the row or the error that a row of either query stands for, or ``None``."""


def _response_outcome(row: Record) -> AssessmentResponse | AssessmentsError | None:
    if row["response_id"] is not None:
        return to_response(row, "unknown_user", "taken_key")
    if row.get("unknown_user") is not None:
        return UnknownUser()
    return None if row.get("taken_key") is None else SubmissionConflict()


def _score_outcome(row: Record) -> AssessmentScore | UnknownResponse | None:
    if row.get("score_id") is not None:
        return to_score(row)
    return None if row["unknown_response"] is None else UnknownResponse()


RESPONSES = Kind(store_response, "submit_responses", "get_submitted_responses", _response_outcome)
SCORES = Kind(store_score, "record_scores", "get_unknown_responses", _score_outcome)


class Call:
    """A call in the queue or in a batch; once *done*, *outcome* is its row or its error."""

    __slots__ = ("columns", "done", "kind", "outcome")

    def __init__(self, kind: Kind, columns: Columns) -> None:
        self.kind = kind
        self.columns = columns
        # Without a result or an exception: asyncio may log either.
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.outcome: Any = None

    def end(self, outcome: object) -> None:
        """Give the caller its row or its error, unless it has one or was cancelled."""
        if not self.done.done():
            self.outcome = outcome
            self.done.set_result(None)

    def size(self) -> int:
        """Return the number of characters that are sent."""
        return sum(len(value) for value in self.columns.values() if isinstance(value, str))


def _waiting(calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if not call.done.done()]


async def _store_batch(conn: Connection, calls: list[Call]) -> None:
    """Store *calls* in one batch and end each; where this raises, those left are not stored.

    Raises:
        Exception: A statement failed, or a trigger dropped rows.
    """
    kind = calls[0].kind
    while len(calls) > 1:
        before = len(calls)
        some_stored = await _run(conn, kind.store, calls)
        if calls := _waiting(calls):
            # Where another's unknown user has kept all from being stored, row-level security, which
            # may hide a taken key, makes every key look taken.
            await _run(conn, kind.explain, calls, ignored=() if some_stored else SubmissionConflict)
        calls = _waiting(calls)
        if len(calls) == before:
            raise NotStored
    for call in calls:
        call.end(await kind.store_one(conn, call.columns))


async def _run(conn: Connection, query: str, calls: list[Call], ignored: Any = ()) -> bool:
    """End those of *calls* for which *query* returns a row or a reason; say whether there are any.

    What is stored is stored: where a row cannot be decoded, that is the outcome of its call.
    """

    def end(pair: tuple[Call, Record]) -> bool:
        call, row = pair
        try:
            outcome = call.kind.to_outcome(row)
        except Exception as error:  # noqa: BLE001 - a codec of the host's may raise any
            outcome = error
        if outcome is None or isinstance(outcome, ignored):
            return False
        call.end(outcome)
        return True

    columns = {name: [call.columns[name] for call in calls] for name in calls[0].columns}
    rows = await named(query)(conn, **text_arrays(columns))  # none, where no score was stored
    return any(await map_in_slices(end, zip(calls, rows, strict=False)))


async def store_each(conn: Connection, calls: list[Call]) -> None:
    """Store *calls* and end each, an item's error for that item alone.

    Where PostgreSQL refuses a batch, its halves are stored, and theirs. Where both halves run into
    a timeout, it is not one item's: all get it.

    Raises:
        Exception: The connection failed, or something else that is no item's.
    """
    failed = [(calls, error)] if (error := await _attempt(conn, calls)) else []
    while failed:
        calls, error = failed.pop()
        middle = len(calls) // 2
        halves = [calls[:middle], calls[middle:]] if middle else []
        errors = [await _attempt(conn, half) for half in halves]
        if all(_is_timeout(each) for each in errors):  # or there are no halves
            end_all(calls, error)
        else:
            pairs = zip(halves, errors, strict=True)
            failed += [(half, each) for half, each in pairs if each][::-1]


async def _attempt(conn: Connection, calls: list[Call]) -> Exception | None:
    """Store *calls* and end each; return an error that may be one item's, raise any other."""
    try:
        if calls := _waiting(calls):
            await _store_batch(conn, calls)
    except AssessmentsError as error:
        return error
    except asyncpg.PostgresError as error:
        if _may_be_an_items(error):
            return error
        raise
    return None


def _may_be_an_items(error: asyncpg.PostgresError) -> bool:
    """Return whether the server refused the statement, and so stored nothing, for an item."""
    # Not FATAL, after which the connection is lost. None: asyncpg could not encode an argument.
    refused = error.severity in ("ERROR", None) and error.sqlstate is not None
    return refused and not error.sqlstate.startswith(_NOT_AN_ITEMS)


def _is_timeout(error: Exception | None) -> bool:
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _TIMEOUTS


def end_all(calls: list[Call], error: BaseException | None) -> None:
    """End *calls* with *error*: each with a copy, without the frames that hold all of the batch."""
    for call in calls:
        own = error
        if len(calls) > 1:
            with suppress(Exception):
                own = copy.copy(error)
        call.end(own)
