"""What comes back is bounded as what goes in is, and large calls do not block the event loop."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import assessments
from assessments import event_loop, get_responses, submit_responses, validation
from assessments.backoffice import (
    get_unscored_responses,
    iter_responses,
    record_score,
    record_scores,
)
from assessments.validation.json_object import encode_json_object
from tests.helpers.calls import catalogue
from tests.helpers.rows import counts, ids, new_response, submit

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from uuid import UUID

    import asyncpg

    from assessments import NewScore

    Connection = asyncpg.Connection[Any]

NUMBERS = [0, 0.5, 5e-324, 1e-7, -1e-300, 1e16, -1e22]


def objects(number: float, size: int) -> list[dict[str, Any]]:
    """Return objects full of *number*: as large as it is written here, and as JSONB writes it."""
    written = repr(number), f"{Decimal(repr(number)):f}"
    return [{"a": [number] * ((size - 7) // (len(text) + 1))} for text in written]


async def accepted(call: Awaitable[Any]) -> Any:
    """Return what *call* returns, or nothing where it refuses a value for its size."""
    try:
        return await call
    except assessments.InvalidInput as error:
        assert "must not exceed" in error.problem  # noqa: PT017
    return None


@pytest.mark.parametrize("number", NUMBERS)
async def test_what_is_stored_as_json_is_at_most_half_as_large_again_as_its_limit(
    conn: Connection, token: UUID, number: float
) -> None:
    """JSONB writes 5e-324 as 326 characters: they count. It adds spaces: they do not."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    for small, large in zip(
        objects(number, validation.MAX_METADATA_BYTES),
        objects(number, validation.MAX_SCORE_BYTES),
        strict=True,
    ):
        stored = await accepted(submit(conn, anonymous_token=token, answer_metadata=small))
        score = await accepted(record_score(conn, response_id=response_id, score_data=large))
        assert stored is None or stored["answer_metadata"] == small
        assert score is None or score["score_data"] == large

    largest = await conn.fetchrow(
        "SELECT max(octet_length(answer_metadata::text)), max(octet_length(score_data::text))"
        " FROM assessment_responses FULL JOIN assessment_scores USING (response_id)"
    )
    assert largest
    limits = (validation.MAX_METADATA_BYTES, validation.MAX_SCORE_BYTES)
    for found, limit in zip(largest, limits, strict=True):
        assert limit * 0.9 < found <= limit * 1.5


def test_a_number_in_a_string_does_not_count_as_one() -> None:
    """Text is as long as it is, whatever is in it."""
    text = "5e-324 " * 9000

    encoded = encode_json_object("score_data", {"a": text}, 64 * 1024)

    assert json.loads(encoded) == {"a": text}


PAGES = {
    name: {**call.arguments, argument: validation.MAX_PAGE}
    for name, call in catalogue().items()
    for argument in ("limit", "batch_size")
    if argument in call.arguments and "older_than" not in call.arguments
}


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_has_at_most_ten_thousand_rows(conn: Connection, name: str) -> None:
    """A larger one is refused by the name of its argument."""
    call, arguments = catalogue()[name], PAGES[name]
    (argument,) = arguments.keys() & {"limit", "batch_size"}
    await call(conn, **arguments)

    with pytest.raises(assessments.InvalidInput) as raised:
        await call(conn, **{**arguments, argument: validation.MAX_PAGE + 1})

    assert raised.value.parameter == argument
    assert raised.value.problem == "must be from 1 to 10000"


async def test_without_a_limit_all_of_an_owner_s_rows_come_back(
    conn: Connection, token: UUID
) -> None:
    """A list is cut only where its caller says so; the backlog has a default of 100."""
    batch = [new_response(anonymous_token=token)]
    for size in (validation.MAX_PAGE, 1):
        await submit_responses(conn, batch * size)

    assert len(await get_responses(conn, anonymous_token=token)) == validation.MAX_PAGE + 1
    assert len(await get_unscored_responses(conn)) == 100


class Ticks:
    """Counts how often another task runs."""

    def __init__(self) -> None:
        self.count = 0

    async def during(self, call: Awaitable[Any]) -> int:
        """Return how often it ran while *call* was awaited."""
        running = asyncio.ensure_future(self._run())
        await asyncio.sleep(0)
        before = self.count
        await call
        running.cancel()
        return self.count - before

    async def _run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


async def consume(rows: Any) -> list[Any]:
    """Return what is iterated over."""
    return [row async for row in rows]


async def test_large_batches_and_pages_let_other_tasks_run(
    conn: Connection, token: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two rows, when their slice of time is over, another task has its turn."""
    monkeypatch.setattr(event_loop, "SLICE_SECONDS", 0)
    size = 500
    batch = [new_response(anonymous_token=token)] * size
    response_ids = ids(await submit_responses(conn, batch))
    scores: list[NewScore] = [{"response_id": key, "score_data": {}} for key in response_ids]

    for call in (
        submit_responses(conn, batch),
        record_scores(conn, scores),
        get_responses(conn, anonymous_token=token),
        assessments.get_responses_with_latest_score(conn, anonymous_token=token),
        assessments.get_responses_for_question(conn, anonymous_token=token, question_id="q1"),
        get_unscored_responses(conn, limit=size),
        consume(iter_responses(conn, batch_size=size)),
    ):
        assert await Ticks().during(call) >= size, call


async def test_a_refused_batch_lets_other_tasks_run_and_stores_nothing(
    conn: Connection, token: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does the checking of a batch whose last item is refused."""
    monkeypatch.setattr(event_loop, "SLICE_SECONDS", 0)
    batch: Any = [new_response(anonymous_token=token)] * 500

    async def refused() -> None:
        with pytest.raises(assessments.InvalidInput):
            await submit_responses(conn, [*batch, {}])  # type: ignore[typeddict-item]

    assert await Ticks().during(refused()) >= 500
    assert await counts(conn) == (0, 0)
