"""A call of each kind that a service makes, to be failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import assessments
from assessments import backoffice
from tests.helpers.rows import SECRET, submit

if TYPE_CHECKING:
    from collections.abc import Awaitable


def submitting(conn: Any, token: UUID, _user_id: int, _response_id: int) -> Awaitable[Any]:
    """Submit an answer."""
    return submit(conn, anonymous_token=token, answer_text=SECRET, submission_key=uuid4())


def submitting_many(conn: Any, token: UUID, _user_id: int, _response_id: int) -> Awaitable[Any]:
    """Submit answers."""
    row: Any = {"question_id": "q", "module_slug": "m", "answer_text": SECRET}
    return assessments.submit_responses(conn, [row | {"anonymous_token": token}] * 2)


def claiming(conn: Any, token: UUID, user_id: int, _response_id: int) -> Awaitable[Any]:
    """Claim the answers."""
    return assessments.claim_assessment_responses(conn, anonymous_token=token, user_id=user_id)


def scoring(conn: Any, _token: UUID, _user_id: int, response_id: int) -> Awaitable[Any]:
    """Score an answer."""
    return backoffice.record_score(conn, response_id=response_id, score_data={"said": SECRET})


def reading(conn: Any, token: UUID, _user_id: int, _response_id: int) -> Awaitable[Any]:
    """Read the answers."""
    return assessments.get_responses(conn, anonymous_token=token)


def erasing(conn: Any, token: UUID, _user_id: int, _response_id: int) -> Awaitable[Any]:
    """Erase the answers."""
    return assessments.delete_responses(conn, anonymous_token=token)


CALLS = [submitting, submitting_many, claiming, scoring, reading, erasing]
