"""The catalogue of public calls: every function, with every argument.

Tests of rights, locks, secrets, validation, timeouts and lost connections take their calls from
it. A function or an argument missing here fails `tests/calls/test_catalogue.py`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID

import assessments
from assessments import backoffice
from tests.helpers.rows import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOMENT = datetime(2026, 11, 22, tzinfo=timezone.utc)
TOKEN = UUID("5ec2e700-70ce-4000-8000-00000000a11e")
KEY = UUID("5ec2e7ce-4e19-4000-8000-00000000b0b0")
CONTENT = UUID("5ec2e7c0-4e19-4000-8000-00000000c0c0")

FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"backoffice.{name}" if module is backoffice and hasattr(assessments, name) else name: function
    for module in (assessments, backoffice)
    for name in module.__all__
    if (
        inspect.iscoroutinefunction(function := getattr(module, name))
        or inspect.isasyncgenfunction(function)
    )
    and function is not assessments.check
}
"""The functions on rows that take a connection, by their names, qualified where two have one."""

SUBMITS = {
    "submit_response",
    "submit_response with a key",
    "submit_responses",
    "submit_responses with keys",
}
RECORDS = {"record_score", "record_score_once", "record_scores"}
BATCHES = {"responses", "scores"}
"""The arguments that hold batch items."""
ERASURES = {"delete_responses", "purge_anonymous_responses"}


@dataclass(frozen=True)
class Call:
    """A public function and the arguments that it is called with."""

    function: str
    arguments: dict[str, Any]

    async def __call__(self, conn: Any, **changes: Any) -> Any:
        """Return what the function returns, as a list if it yields."""
        answer = FUNCTIONS[self.function](conn, **self.arguments | changes)
        return [row async for row in answer] if inspect.isasyncgen(answer) else await answer

    def each_argument_as(self, value: Any) -> Iterator[dict[str, Any]]:
        """Yield changes that put *value* in place of each argument, and of each in a batch item."""
        for name, given in self.arguments.items():
            yield {name: value}
            if name in BATCHES:
                yield from ({name: [{**given[0], key: value}]} for key in given[0])


@dataclass(frozen=True)
class Subject:
    """Whom and what the calls are about; a test stores the rows that they need."""

    user_id: int = 1
    anonymous_token: UUID = TOKEN
    response_id: int = 1
    writer: dict[str, Any] = field(default_factory=lambda: {"anonymous_token": TOKEN})
    """The owner of what is submitted."""
    text: str = SECRET
    """What answers, metadata and scores hold."""


def catalogue(subject: Subject | None = None) -> dict[str, Call]:
    """Return a call of every function, and of each variant, with every argument; erasures last."""
    subject = subject or Subject()
    owners = {"user_id": subject.user_id, "anonymous_token": subject.anonymous_token}
    response = {
        "user_id": None,
        "anonymous_token": None,
        **subject.writer,
        "question_id": "q1",
        "module_slug": "m1",
        "learning_outcome_id": "lo1",
        "content_id": CONTENT,
        "answer_text": subject.text,
        "answer_metadata": {f"metadata: {subject.text}": [subject.text]},
        "submission_key": None,
    }
    keyed = {**response, "submission_key": KEY}
    score = {
        "response_id": subject.response_id,
        "score_data": {f"score: {subject.text}": subject.text},
        "model_id": "model-1",
        "prompt_version": "p1",
    }
    page = {
        **owners,
        "module_slug": "m1",
        "question_id": "q1",
        "limit": 10,
        "before": (MOMENT + timedelta(days=10_000), 10**6),
    }
    latest = {**owners, "module_slug": "m1", "question_ids": ["q1"]}
    walk = {
        **owners,
        "module_slug": "m1",
        "question_id": "q1",
        "since": MOMENT - timedelta(days=10_000),
        "until": MOMENT + timedelta(days=10_000),
        "batch_size": 10,
    }
    calls = {
        "submit_response": response,
        "submit_response with a key": keyed,
        "submit_responses": {"responses": [response]},
        "submit_responses with keys": {"responses": [keyed]},
        "get_response": {**owners, "response_id": subject.response_id},
        "get_responses": page,
        "get_responses_with_latest_score": {**page, "human_first": True},
        "get_responses_for_question": {**owners, "question_id": "q1"},
        "get_latest_responses": latest,
        "get_latest_responses_with_latest_score": {**latest, "human_first": True},
        "get_scores": {**owners, "response_id": subject.response_id},
        "claim_assessment_responses": {**owners, "skip_answered": True},
        "record_score": score,
        "record_scores": {"scores": [score]},
        "record_score_once": {**score, "model_id": "model-2"},
        "backoffice.get_scores": {"response_id": subject.response_id},
        "get_responses_by_id": {"response_ids": [subject.response_id]},
        "get_unscored_responses": {
            "model_id": "model-1",
            "prompt_version": "p1",
            "module_slug": "m1",
            "question_id": "q1",
            "latest_attempts_only": True,
            "skip_human_scored": True,
            "limit": 10,
            "after": 0,
            "up_to": 10**6,
        },
        "iter_responses": walk,
        "iter_responses_with_scores": walk,
        "delete_responses": owners,
        "purge_anonymous_responses": {
            "older_than": timedelta(microseconds=1),
            "limit": 10,
            "dry_run": False,
        },
    }
    return {name: Call(name.partition(" ")[0], arguments) for name, arguments in calls.items()}
