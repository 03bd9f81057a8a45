"""The claim: an anonymous owner's responses become those of the user who signs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncpg import LockNotAvailableError

from assessments.errors import UnknownUser, UnsafeIsolation
from assessments.queries import queries
from assessments.transactions import atomic
from assessments.validation.scalars import check_bigint, check_bool, check_random_uuid

if TYPE_CHECKING:
    from uuid import UUID

    from assessments.queries import Connection

__all__ = ["claim_assessment_responses"]

_CLAIM_WAITS_FOR = (
    "The claim waited for another transaction: a claim of the same token or for the same user, an "
    "erasure of the token's responses, or a deletion of the user."
)


async def claim_assessment_responses(
    conn: Connection,
    *,
    anonymous_token: UUID | str,
    user_id: int,
    skip_answered: bool = True,
) -> int:
    """Move an anonymous owner's responses, with their scores, to the user who has signed in.

    All responses to a question that the user has already answered stay with the token;
    ``get_responses(anonymous_token=…)`` still returns them. Of concurrent claims of one token, one
    wins. Concurrent claims for one user wait for each other and end as if run one after the other.
    It may be called at every sign-in.

    Whoever signs in next in that browser can claim what stayed: issue a new token at sign-out.

    Inside the caller's transaction, the locks behind that promise (two advisory locks, no row
    locks) last until it ends: claim late, commit soon.

    Args:
        conn: An asyncpg connection, a pool's connection, or a pool.
        anonymous_token: The anonymous owner, a UUID or its string.
        user_id: The user, a key of the host's ``users``.
        skip_answered: Leave questions that the user has already answered; ``False`` moves all.

    Returns:
        The number of responses claimed; 0 if there was nothing to claim.

    Raises:
        InvalidInput: An argument breaks a rule above.
        UnknownUser: *user_id* is not in the host's ``users``; nothing was claimed.
        UnsafeIsolation: The caller's transaction is REPEATABLE READ or SERIALIZABLE; nothing was
            claimed.
        asyncpg.LockNotAvailableError: The caller's ``lock_timeout`` passed; its HINT says what the
            claim waited for.
    """
    owners: dict[str, Any] = {
        "anonymous_token": check_random_uuid("anonymous_token", anonymous_token),
        "user_id": check_bigint("user_id", user_id),
    }
    skip = check_bool("skip_answered", skip_answered)
    try:
        async with atomic(conn) as connection:
            locked = await queries.lock_claim(connection, **owners)
            if not locked["is_safe_isolation"]:
                raise UnsafeIsolation
            if not locked["user_exists"]:
                raise UnknownUser
            claimed: int = await queries.claim_assessment_responses(
                connection, **owners, skip_answered=skip
            )
    except LockNotAvailableError as error:
        error.hint = _CLAIM_WAITS_FOR
        raise
    return claimed
