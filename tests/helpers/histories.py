"""Random calls: one vocabulary for histories in a row and for pairs that run concurrently."""

# ruff: noqa: D102 - a method returns what it is named for: the arguments of that call
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from uuid import UUID

from tests.helpers.calls import Call
from tests.helpers.rows import ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.helpers.model import Model, Row

USERS = [1, 2]
TWO_USERS = "DELETE FROM users; DELETE FROM assessment_responses; INSERT INTO users VALUES (1), (2)"
TOKENS = [UUID(int=number << 64 | 1) for number in (2, 1)]
KEYS = [UUID(int=number) for number in (7, 8)]
QUESTIONS, MODULES = ("q1", "q10", "q3"), ("m1", "m2")  # one begins with another
UNKNOWN = 10**9
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
OLD = timedelta(days=365)
CONTENT = ("question_id", "module_slug", "answer_text", "answer_metadata")


@dataclass
class Draw:
    """Draws calls about two users, one who is unknown, two tokens and what the model holds."""

    chance: Random
    model: Model

    def call(self, *functions: str) -> Call:
        """Return a call of one of *functions*."""
        function = self.chance.choice(functions)
        return Call(function, getattr(self, function)())

    def user(self) -> int:
        return self.chance.choice([*USERS * 3, UNKNOWN])

    def writer(self) -> Row:
        if self.chance.choice((True, False, False)):
            return {"user_id": self.user()}
        return {"anonymous_token": self.chance.choice(TOKENS)}

    def reader(self) -> Row:
        user, token = self.chance.choice(USERS), self.chance.choice(TOKENS)
        both = {"user_id": user, "anonymous_token": token}
        return self.chance.choice([both, {"user_id": user}, {"anonymous_token": token}])

    def response_id(self) -> int:
        return self.chance.choice([*ids(self.model.responses), UNKNOWN])

    def scorer(self) -> Row:
        return {
            "model_id": self.chance.choice([None, "a", "b"]),
            "prompt_version": self.chance.choice([None, "p"]),
        }

    def submit_response(self) -> Row:
        new: Row = {
            "question_id": self.chance.choice(QUESTIONS),
            "module_slug": self.chance.choice(MODULES),
            "answer_text": self.chance.choice(["", *"abcdefgh"]),
            "answer_metadata": self.chance.choice([{}, {"a": [1, None]}]),
        }
        owner = self.writer()
        kind = self.chance.choice(["new", "new", "new", "new key", "retry", "altered retry"])
        if kind == "new" or (kind != "new key" and not self.model.keys):
            return {**owner, **new}
        if kind == "new key":
            return {**owner, **new, "submission_key": self.chance.choice(KEYS)}
        key = self.chance.choice(list(self.model.keys))
        stored = self.model.keys[key]
        retry = {name: stored[name] for name in ("user_id", "anonymous_token", *CONTENT)}
        if kind == "altered retry":
            altered = self.chance.choice(("owner", *CONTENT))
            retry |= (
                {altered: new[altered]}
                if altered in new
                else {"user_id": None, "anonymous_token": None} | owner
            )
        return {**retry, "submission_key": key}

    def submit_responses(self) -> Row:
        batch = [self.submit_response() for _ in range(self.chance.randint(1, 4))]
        if self.chance.choice((True, False)):
            batch = [{**response, "submission_key": None} for response in batch]
        return {"responses": batch}

    def claim_assessment_responses(self) -> Row:
        return {
            "anonymous_token": self.chance.choice(TOKENS),
            "user_id": self.user(),
            "skip_answered": self.chance.choice((True, True, False)),
        }

    def record_score(self) -> Row:
        points = self.chance.randint(0, 9)
        return {"response_id": self.response_id(), "score_data": {"p": points}, **self.scorer()}

    def record_score_once(self) -> Row:
        scorer = {"model_id": self.chance.choice(["a", "b"]), "prompt_version": "p"}
        return {**self.record_score(), **scorer}

    def record_scores(self) -> Row:
        return {"scores": [self.record_score() for _ in range(self.chance.randint(1, 3))]}

    def delete_responses(self) -> Row:
        return self.reader()

    def purge_anonymous_responses(self) -> Row:
        return {"older_than": OLD, "limit": self.chance.randint(1, 3)}

    purge_responses = purge_anonymous_responses

    def delete_user(self) -> Row:
        return {"user_id": self.chance.choice(USERS)}

    def backdate(self) -> Row:
        hours = timedelta(hours=self.chance.randint(0, 2))
        return {"response_id": self.response_id(), "created_at": LONG_AGO + hours}

    def get_responses(self) -> Row:
        filters = {
            "module_slug": self.chance.choice([None, *MODULES]),
            "question_id": self.chance.choice([None, *QUESTIONS]),
        }
        return {**self.reader(), **filters}

    def reads(self) -> Iterator[Call]:
        asked, key, limit = self.get_responses(), self.response_id(), self.chance.randint(1, 3)
        filters = {name: asked[name] for name in ("module_slug", "question_id")}
        owner = {name: asked[name] for name in asked if name not in filters}
        question_ids = self.chance.choice([None, [], [self.chance.choice(QUESTIONS)], ["q1", "q3"]])
        split = LONG_AGO + timedelta(hours=1)
        yield Call("get_responses", asked)
        yield Call("get_response", {**owner, "response_id": key})
        yield Call("get_responses_by_id", {"response_ids": [key, key, UNKNOWN, 1]})
        first = {"human_first": self.chance.choice((True, False))}
        yield Call("get_responses_with_latest_score", {**asked, **first})
        question = asked["question_id"] or "q1"
        yield Call("get_responses_for_question", {**owner, "question_id": question})
        latest = {"module_slug": asked["module_slug"], "question_ids": question_ids}
        yield Call("get_latest_responses", {**owner, **latest})
        yield Call("get_latest_responses_with_latest_score", {**owner, **latest, **first})
        yield Call("get_scores", {**owner, "response_id": key})
        yield Call("backoffice.get_scores", {"response_id": key})
        scorer = {**self.scorer(), **filters}
        for narrowing in ("latest_attempts_only", "skip_human_scored"):
            scorer[narrowing] = self.chance.choice((True, False))
        yield Call("get_unscored_responses", {**scorer, "after": key, "limit": limit})
        yield Call("get_unscored_responses", {**scorer, "up_to": key})
        for within in ({}, {"since": split}, {"until": split}):
            yield Call("iter_responses", {**filters, **within, "batch_size": limit})
            yield Call("iter_responses", {**asked, **within, "batch_size": limit})
            yield Call("iter_responses_with_scores", {**filters, **within, "batch_size": limit})
            yield Call("iter_responses_with_scores", {**asked, **within, "batch_size": limit})
        purge = {"older_than": OLD, "limit": limit, "dry_run": True}
        yield Call("purge_anonymous_responses", purge)
        yield Call("purge_responses", purge)
