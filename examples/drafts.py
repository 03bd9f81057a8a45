"""Drafts in a table of your own: drafts.sql, and the calls that need more than one statement.

Those take a connection with an open transaction. Let their errors leave the transaction's block, so
that nothing is half done.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import aiosql

import assessments
from assessments import AssessmentResponse, SubmissionConflict

drafts: Any = aiosql.from_path(Path(__file__).with_suffix(".sql"), "asyncpg")


class DraftMoved(Exception):
    """The draft is another owner's: claimed at a sign-in. Nothing is stored; retry as the user."""


async def finish(
    connection: Any,
    *,
    draft_key: UUID | str,
    user_id: int | None = None,
    anonymous_token: UUID | str | None = None,
    **answer: Any,
) -> AssessmentResponse:
    """Delete the draft and submit *answer* as a response.

    The client sends the whole answer with each try: the retry after a lost reply finds no draft.
    With both owners the draft may be either's, and the response is the user's; one that an earlier
    try stored for the token is found, also where a claim moves it between two of the calls below.
    """
    answer["submission_key"] = draft_key
    user, token = {"user_id": user_id}, {"anonymous_token": anonymous_token}
    taken = await drafts.take_draft(connection, draft_key=draft_key, **user, **token)
    if not taken and await drafts.draft_exists(connection, draft_key=draft_key):
        raise DraftMoved
    owners: list[Any] = [user, token, user]
    if None in (user_id, anonymous_token):
        owners = [token if user_id is None else user]
    for owner in owners[:-1]:
        with suppress(SubmissionConflict):
            return await assessments.submit_response(connection, **owner, **answer)
    return await assessments.submit_response(connection, **owners[-1], **answer)


async def claim(connection: Any, *, anonymous_token: UUID | str, user_id: int) -> int:
    """Claim the token's drafts, then its responses; return the number of responses.

    Drafts first: the claim waits for a Finish in progress, and then claims its response too.
    """
    await drafts.lock_claim_of_drafts(connection, user_id=user_id)
    await drafts.claim_drafts(connection, anonymous_token=anonymous_token, user_id=user_id)
    return await assessments.claim_assessment_responses(
        connection, anonymous_token=anonymous_token, user_id=user_id
    )


async def erase(
    connection: Any, *, user_id: int | None = None, anonymous_token: UUID | str | None = None
) -> int:
    """Erase the drafts of both owners, then their responses; return the number of responses."""
    await drafts.delete_drafts(connection, user_id=user_id, anonymous_token=anonymous_token)
    return await assessments.delete_responses(
        connection, user_id=user_id, anonymous_token=anonymous_token
    )
