"""What examples/retry.py makes again, and what it does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from examples.retry import UNDONE, UNKNOWN, retried
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


async def attempts(call: Callable[[], Awaitable[Any]], seconds: float) -> tuple[int, BaseException]:
    """Return how often *call* is made before its error is given up on, and that error."""
    count = 0

    async def counted() -> None:
        nonlocal count
        count += 1
        await call()

    with pytest.raises(Exception) as raised:  # noqa: PT011 - whichever: it is returned
        await retried(counted, seconds=seconds)
    return count, raised.value


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        ({"question_id": ""}, assessments.InvalidInput),
        ({"anonymous_token": None, "user_id": 2**40}, assessments.UnknownUser),
        ({"answer_text": "Another answer."}, assessments.SubmissionConflict),
    ],
)
async def test_what_no_repetition_mends_is_not_repeated(
    pool: Any, token: UUID, mistake: dict[str, Any], error: type[Exception]
) -> None:
    """An error of this library's is raised at the first attempt."""
    given: dict[str, Any] = {"anonymous_token": token, "submission_key": uuid4()}
    await submit(pool, **given)

    count, raised = await attempts(lambda: submit(pool, **given | mistake), 30)

    assert count == 1
    assert type(raised) is error


async def test_a_closed_pool_is_not_asked_again(pool: Any, token: UUID) -> None:
    """A service that shuts down is not held up by calls that can no longer be made."""
    await pool.close()

    count, raised = await attempts(lambda: submit(pool, anonymous_token=token), 30)

    assert count == 1
    assert isinstance(raised, asyncpg.InterfaceError)


async def test_a_mistake_in_the_url_is_not_repeated() -> None:
    """The InterfaceError for a wrong argument is told from that for a lost connection."""
    count, raised = await attempts(lambda: asyncpg.connect("ftp://nowhere"), 30)

    assert count == 1
    assert isinstance(raised, asyncpg.InterfaceError)


async def test_a_server_that_stays_away_is_given_up_on(tmp_path: Path) -> None:
    """After the time given the last error is raised as it is."""
    trying = attempts(lambda: asyncpg.connect(host=str(tmp_path)), 0.3)

    count, raised = await asyncio.wait_for(trying, 15)

    assert count > 1
    assert isinstance(raised, FileNotFoundError)


@pytest.mark.parametrize("error", [*UNDONE, *UNKNOWN])
async def test_each_error_of_the_recipe_is_repeated(error: type[Exception]) -> None:
    """A call that fails once with it is through at the second attempt."""
    results: list[Any] = [error("once"), "through"]

    async def call() -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    assert await retried(call) == "through"
