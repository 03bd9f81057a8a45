"""The purges: erasure by age, a bounded batch a call. Public in `assessments.backoffice`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assessments.queries import queries
from assessments.validation.scalars import check_bigint, check_bool, check_retention

if TYPE_CHECKING:
    from datetime import timedelta

    from assessments.queries import Connection


async def purge_anonymous_responses(
    conn: Connection, *, older_than: timedelta, limit: int = 10_000, dry_run: bool = False
) -> int:
    """Erase unclaimed responses older than *older_than*, a bounded batch a call.

    Their scores are erased too. Call it until it returns 0. It waits for a claim in progress, and
    leaves what that has taken.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool; its role needs SELECT and
            DELETE on ``assessment_responses``.
        older_than: The retention of unclaimed responses: above zero, at most 365,000 days.
        limit: At most so many responses, 1 or more.
        dry_run: Erase nothing, only count.

    Returns:
        The number of responses erased or, with *dry_run*, the number that would be.

    Raises:
        InvalidInput: An argument breaks a rule above.
    """
    arguments = _check(older_than, limit)
    if check_bool("dry_run", dry_run):
        return int(await queries.count_anonymous_responses(conn, **arguments))
    erased: int = await queries.purge_anonymous_responses(conn, **arguments)
    return erased


async def purge_responses(
    conn: Connection, *, older_than: timedelta, limit: int = 10_000, dry_run: bool = False
) -> int:
    """Erase the responses of all owners older than *older_than*, a bounded batch a call.

    Their scores are erased too. Call it until it returns 0. It waits for a claim in progress, and
    erases what that has taken as well.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool; its role needs SELECT and
            DELETE on ``assessment_responses``.
        older_than: The retention of responses: above zero, at most 365,000 days.
        limit: At most so many responses, 1 or more.
        dry_run: Erase nothing, only count.

    Returns:
        The number of responses erased or, with *dry_run*, the number that would be.

    Raises:
        InvalidInput: An argument breaks a rule above.
    """
    arguments = _check(older_than, limit)
    if check_bool("dry_run", dry_run):
        return int(await queries.count_responses(conn, **arguments))
    erased: int = await queries.purge_responses(conn, **arguments)
    return erased


def _check(older_than: object, limit: object) -> dict[str, Any]:
    """Return the parameters of a purge's query."""
    return {
        "older_than": check_retention("older_than", older_than),
        "max_rows": check_bigint("limit", limit),
    }
