"""Concurrent submissions and scores of one process, stored together: for bursts.

A call that finds no other beside it is a plain call. The others are queued, and workers store what
is queued, one batch after the other, each on a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

import asyncpg

from assessments.batch_calls import RESPONSES, SCORES, Call, end_all, store_each
from assessments.errors import InvalidInput
from assessments.validation.arguments import check_new_response, check_new_score
from assessments.validation.scalars import check_bigint, check_page_size

if TYPE_CHECKING:
    from uuid import UUID

    from typing_extensions import Self, Unpack

    from assessments.batch_calls import Kind
    from assessments.queries import Connection
    from assessments.records import AssessmentResponse, AssessmentScore, Submission
    from assessments.validation.arguments import Columns

__all__ = ["BatchingWriter"]

_BATCH_CHARACTERS = 2 * 1024 * 1024  # of ids, answers and JSON in a batch of more than one call
_MOMENT = 0.02  # seconds: longer than most batches take
_LEAST_HALVED = 16  # calls: fewer cost two commits without a gain


class BatchingWriter:
    """Stores concurrent submissions and scores of one process together: for bursts.

    An async context manager. Its `submit_response` and `record_score` take, return and raise what
    the plain functions do. Calls made at the same time share a statement and a commit; each returns
    after the commit of its own row, and what is wrong with one is raised to its caller alone. A
    call with no other beside it is the plain call.

    Calls are stored in the order in which they were made, as far as they share a batch. A caller
    waits for its batch: where one item of it waits for a lock, all of it do. A cancelled call is
    not stored if it was still waiting; if it was being stored, its outcome is unknown, as that of a
    plain one. Where the connection is lost, each call of the batch raises the connection's error:
    the outcome is unknown, and with a submission key the call is safe to retry.

    Leaving the block finishes every call that was made before, also where the block failed. New
    calls are a ``RuntimeError``.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        *,
        connections: int = 2,
        max_batch: int = 1000,
        max_waiting: int = 10_000,
    ) -> None:
        """Prepare to write to *pool*.

        Args:
            pool: An asyncpg pool, from which connections are taken while there are calls.
            connections: At most so many connections at once.
            max_batch: At most so many calls share a statement, 1 to 10,000; long answers are fewer.
            max_waiting: At most so many calls are queued. Further ones wait, none is dropped.

        Raises:
            InvalidInput: *pool* is no asyncpg pool, or another argument breaks a rule above.
        """
        if not isinstance(pool, asyncpg.Pool):
            raise InvalidInput("pool", "must be an asyncpg pool")
        self._pool = pool
        self._connections = check_bigint("connections", connections)
        self._max_batch = check_page_size("max_batch", max_batch)
        self._max_waiting = check_bigint("max_waiting", max_waiting)
        self._queues: dict[Kind, dict[Call, None]] = {RESPONSES: {}, SCORES: {}}
        self._kinds = deque(self._queues)  # the one whose turn it is first
        self._queued = 0  # calls in a queue, and those admitted to one
        self._turns: deque[asyncio.Future[None]] = deque()  # of calls that wait to be admitted
        self._in_use = 0  # connections
        self._storing = 0  # calls
        self._timer: asyncio.TimerHandle | None = None  # for a worker where few calls wait
        self._workers: set[asyncio.Task[None]] = set()
        self._open = False
        self._calls = 0  # not yet returned
        self._returned = asyncio.Event()  # once the last has

    async def __aenter__(self) -> Self:
        """Accept calls."""
        self._open = True
        self._returned.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuse new calls and finish the others; where this is cancelled, give them up."""
        self._open = False
        try:
            if self._calls:
                await self._returned.wait()
            await asyncio.gather(*self._workers)
        except BaseException:
            self._give_up()
            await asyncio.gather(*self._workers, return_exceptions=True)
            raise

    @overload
    async def submit_response(
        self, *, user_id: int, anonymous_token: None = None, **response: Unpack[Submission]
    ) -> AssessmentResponse: ...
    @overload
    async def submit_response(
        self, *, user_id: None = None, anonymous_token: UUID | str, **response: Unpack[Submission]
    ) -> AssessmentResponse: ...
    async def submit_response(
        self,
        *,
        user_id: int | None = None,
        anonymous_token: UUID | str | None = None,
        question_id: str,
        module_slug: str,
        learning_outcome_id: str | None = None,
        content_id: UUID | str | None = None,
        answer_text: str,
        answer_metadata: dict[str, Any] | None = None,
        submission_key: UUID | str | None = None,
    ) -> AssessmentResponse:
        """Store one response, as `assessments.submit_response` does.

        Args, returns and raises: as there.

        Raises:
            RuntimeError: The block has not been entered, or was left.
        """
        row: AssessmentResponse = await self._store(RESPONSES, check_new_response(locals()))
        return row

    async def record_score(
        self,
        *,
        response_id: int,
        score_data: dict[str, Any],
        model_id: str | None = None,
        prompt_version: str | None = None,
    ) -> AssessmentScore:
        """Append a score to a response, as `assessments.backoffice.record_score` does.

        Args, returns and raises: as there.

        Raises:
            RuntimeError: The block has not been entered, or was left.
        """
        row: AssessmentScore = await self._store(SCORES, check_new_score(locals()))
        return row

    async def _store(self, kind: Kind, columns: Columns) -> Any:
        if not self._open:
            raise RuntimeError("the BatchingWriter is not open: call it in its async with block")
        self._calls += 1
        try:
            if self._in_use:
                return await self._store_in_batch(kind, columns)
            return await self._store_alone(kind, columns)
        finally:
            self._calls -= 1
            if not (self._calls or self._open):
                self._returned.set()

    async def _store_alone(self, kind: Kind, columns: Columns) -> Any:
        self._in_use += 1
        self._storing += 1
        try:
            return await kind.store_one(self._pool, columns)
        finally:
            self._in_use -= 1
            self._storing -= 1
            self._start_worker()

    async def _store_in_batch(self, kind: Kind, columns: Columns) -> Any:
        await self._be_admitted()
        queue, call = self._queues[kind], Call(kind, columns)
        queue[call] = None
        self._start_worker()
        try:
            await call.done
        finally:
            if call in queue:  # cancelled before it was sent
                del queue[call]
                self._leave_queue(1)
        if isinstance(call.outcome, BaseException):
            raise call.outcome
        return call.outcome

    async def _be_admitted(self) -> None:
        """Return once there is room in the queue, first come, first served."""
        if self._queued < self._max_waiting and not self._turns:
            self._queued += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # admitted at the same moment
                self._leave_queue(1)
            raise

    def _leave_queue(self, calls: int) -> None:
        """Admit as many as there is room for after so many *calls* have left the queue."""
        self._queued -= calls
        while self._turns and self._queued < self._max_waiting:
            turn = self._turns.popleft()
            if not turn.done():
                self._queued += 1
                turn.set_result(None)

    def _is_due(self) -> bool:
        """Return whether to store what waits, or to let it join what is being stored.

        Two streams of callers, of which one is small, would be two commits for what can be one.
        """
        return 0 < 2 * self._waiting() >= self._storing

    def _waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def _start_worker(self, *, late: bool = False) -> None:
        """Start a worker if calls wait and there is a connection for it: now, or in a moment."""
        if self._in_use == self._connections or not any(self._queues.values()):
            return
        if late or self._is_due():
            self._in_use += 1
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        elif not self._timer:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_MOMENT, partial(self._start_worker, late=True))

    async def _work(self) -> None:
        """Store batches while there are any that are due, on one connection."""
        try:
            conn = await self._pool.acquire()
            try:
                await self._work_on(conn)
            finally:
                # What asyncpg raises here is about the connection, which it closes then.
                with suppress(Exception):
                    await self._pool.release(conn)
        except Exception as error:  # noqa: BLE001 - the callers' to handle
            end_all(self._next_batch(self._max_batch), error)
        finally:
            self._in_use -= 1
            self._start_worker()

    async def _work_on(self, conn: Connection) -> None:
        """Store batches until none is due or the connection fails."""
        batch = self._next_batch(self._share())
        try:
            while batch:
                await self._store_batch(conn, batch)
                # One turn of the event loop, in which the callers make their next calls. Otherwise
                # the few that came meanwhile are a batch, for whose commit all others wait.
                await asyncio.sleep(0)
                batch = self._next_batch(self._share()) if self._is_due() else []
        except asyncio.CancelledError:
            stopped = "the BatchingWriter was cancelled in the middle of operation"
            end_all(batch, asyncpg.InterfaceError(stopped))
            raise
        except Exception as error:  # noqa: BLE001 - the callers' to handle
            end_all(batch, error)

    async def _store_batch(self, conn: Connection, batch: list[Call]) -> None:
        self._storing += len(batch)
        try:
            await store_each(conn, batch)
        finally:
            self._storing -= len(batch)

    def _share(self) -> int:
        """Return how many calls of those that wait are for one connection.

        Of many, a half: PostgreSQL stores it while the callers of the other half get their rows.
        """
        waiting = self._waiting()
        if self._connections > 1 and waiting >= max(_LEAST_HALVED, 4 * self._storing):
            return min(self._max_batch, waiting // 2)
        return self._max_batch

    def _next_batch(self, most: int) -> list[Call]:
        """Take the next calls of one kind, at most *most*; the kinds take turns."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._kinds.rotate()
        queue = self._queues[self._kinds[0]] or self._queues[self._kinds[1]]
        batch: list[Call] = []
        characters = 0
        for call in islice(queue, most):
            characters += call.size()
            if batch and characters > _BATCH_CHARACTERS:
                break
            batch.append(call)
        for call in batch:
            del queue[call]
        self._leave_queue(len(batch))
        return batch

    def _give_up(self) -> None:
        """Cancel the workers, and end the calls that are not sent."""
        for worker in self._workers:
            worker.cancel()
        error = RuntimeError("the BatchingWriter was cancelled: this call is not sent")
        for queue in self._queues.values():
            end_all(list(queue), error)
        for turn in self._turns:
            if not turn.done():
                turn.set_exception(error)
