"""The ownership rule, in one place.

A response belongs to exactly one of a signed-in user and an anonymous visitor. Whoever writes
names that one; whoever reads names at least one, and with both sees the rows of either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assessments import inputs
from assessments.errors import InvalidInput

if TYPE_CHECKING:
    from uuid import UUID

Owner = tuple["int | None", "UUID | None"]
"""``(user_id, anonymous_token)``, as the queries take them."""


def writer(user_id: object, anonymous_token: object) -> Owner:
    """Return the one owner of what is written; refuse none and both."""
    if user_id is not None and anonymous_token is not None:
        raise InvalidInput("user_id", "give exactly one of user_id and anonymous_token, not both")
    return reader(user_id, anonymous_token)


def reader(user_id: object, anonymous_token: object) -> Owner:
    """Return the owner or owners of what is read or erased; refuse none."""
    if user_id is None and anonymous_token is None:
        raise InvalidInput("user_id", "user_id or anonymous_token is needed, and neither is given")
    return (
        None if user_id is None else user(user_id),
        None if anonymous_token is None else visitor(anonymous_token),
    )


def user(user_id: object) -> int:
    """Return *user_id*, the key of a signed-in user."""
    return inputs.positive_bigint("user_id", user_id)


def visitor(anonymous_token: object) -> UUID:
    """Return *anonymous_token*, the secret of an anonymous visitor."""
    return inputs.random_uuid("anonymous_token", anonymous_token)
