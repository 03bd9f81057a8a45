"""What examples/retry.py retries, and what it does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from examples.retry import UNDONE, UNKNOWN, retried
from tests.helpers.rows import submit
from tests.helpers.storms import clients

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.helpers.cluster import Cluster


async def attempts(call: Callable[[], Awaitable[Any]], seconds: float) -> tuple[int, BaseException]:
    """Return how many attempts *call* gets before its error is raised, and that error."""
    count = 0

    async def counted() -> None:
        nonlocal count
        count += 1
        await call()

    with pytest.raises(Exception) as raised:  # noqa: PT011 - whichever: it is returned
        await retried(counted, seconds=seconds)
    return count, raised.value


async def submit_after_close(pool: Any, **arguments: Any) -> None:
    """Submit on a pool that the service has closed."""
    await pool.close()
    await submit(pool, **arguments)


async def connect_to_wrong_url(_pool: Any, **_arguments: Any) -> None:
    """Connect with a URL that is not PostgreSQL's."""
    await asyncpg.connect("ftp://nowhere")


@pytest.mark.parametrize(
    ("call", "changes", "error"),
    [
        (submit, {"question_id": ""}, assessments.InvalidInput),
        (submit, {"anonymous_token": None, "user_id": 2**40}, assessments.UnknownUser),
        (submit, {"answer_text": "Another answer."}, assessments.SubmissionConflict),
        (submit_after_close, {}, asyncpg.InterfaceError),
        (connect_to_wrong_url, {}, asyncpg.exceptions.ClientConfigurationError),
    ],
)
async def test_an_error_that_no_retry_can_mend_is_raised_at_the_first_attempt(
    pool: Any,
    token: UUID,
    call: Callable[..., Awaitable[Any]],
    changes: dict[str, Any],
    error: type[Exception],
) -> None:
    """The library's own errors, a closed pool and a wrong URL are never retried."""
    arguments: dict[str, Any] = {"anonymous_token": token, "submission_key": uuid4()}
    await submit(pool, **arguments)

    count, raised = await attempts(lambda: call(pool, **arguments | changes), 30)

    assert count == 1
    assert type(raised) is error


async def test_retries_end_after_the_given_time(tmp_path: Path) -> None:
    """Where the server stays away, the last error is raised as it is."""
    trying = attempts(lambda: asyncpg.connect(host=str(tmp_path)), 0.3)

    count, raised = await asyncio.wait_for(trying, 15)

    assert count > 1
    assert isinstance(raised, FileNotFoundError)


@pytest.mark.parametrize("error", [*UNDONE, *UNKNOWN])
async def test_each_listed_error_is_retried(error: type[Exception]) -> None:
    """A call that fails once with a listed error succeeds at the second attempt."""
    results: list[Any] = [error("once"), "success"]

    async def call() -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    assert await retried(call) == "success"


@pytest.fixture
async def standby(cluster: Cluster) -> AsyncIterator[Cluster]:
    """Return the server as a standby; it is promoted at the end, if the test has not."""
    await cluster.demote()
    yield cluster
    await cluster.promote()


async def test_a_submission_is_stored_once_the_standby_is_promoted(
    standby: Cluster, token: UUID
) -> None:
    """In a failover, a standby stores nothing and the retry on the same pool stores the row."""
    rejected, key = 0, uuid4()
    async with clients(standby.url) as pool:

        async def call() -> Any:
            nonlocal rejected
            try:
                return await submit(pool, anonymous_token=token, submission_key=key)
            except asyncpg.ReadOnlySQLTransactionError:
                rejected += 1
                await standby.promote()
                raise

        stored = await retried(call)

        assert rejected == 1
        assert await assessments.get_responses(pool, anonymous_token=token) == [stored]
