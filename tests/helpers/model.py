"""The library over lists in memory: what each call should return or raise, and what is stored.

The methods have the public functions' names and arguments, so that one `Call` runs on both.
"""
# ruff: noqa: D102 - the public functions of the same names say it

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import permutations
from typing import TYPE_CHECKING, Any

from assessments import AssessmentResponse, SubmissionConflict, UnknownResponse, UnknownUser
from assessments.backoffice import iter_responses

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from tests.helpers.calls import Call
    from tests.helpers.transactions import Connection

    Row = dict[str, Any]

HOST_STATEMENTS = {
    "insert_user": "INSERT INTO users (user_id) OVERRIDING SYSTEM VALUE VALUES ($1)",
    "update_user": "UPDATE users SET user_id = user_id WHERE user_id = $1",
    "delete_user": "DELETE FROM users WHERE user_id = $1",
    "backdate": """
        WITH dated AS (
            UPDATE assessment_scores SET created_at = $2
            WHERE score_id = (SELECT max(score_id) FROM assessment_scores WHERE response_id = $1)
        )
        UPDATE assessment_responses SET created_at = $2 WHERE response_id = $1
    """,
}
"""What a host or an import does to the tables, with the arguments of the model's method."""


async def perform(conn: Any, call: Call) -> Any:
    """Make *call*, of a public function or a host's statement, and return its result."""
    if call.function not in HOST_STATEMENTS:
        return await call(conn)
    statement = HOST_STATEMENTS[call.function]
    status = await conn.execute(statement, *call.arguments.values())
    return int(status.rpartition(" ")[2])


@dataclass
class Model:
    """Users, responses and scores; a row is new until it has the key that PostgreSQL gave it."""

    users: set[int]
    responses: list[Any]
    scores: list[Row]
    keys: dict[UUID, Row]

    @classmethod
    async def load(cls, conn: Connection) -> Model:
        """Return what the database holds."""
        users = {user for (user,) in await conn.fetch("SELECT user_id FROM users")}
        stored = {row["response_id"]: {**row} async for row in iter_responses(conn)}
        scores = [
            {**row, "score_data": json.loads(row["score_data"])}
            for row in await conn.fetch("SELECT * FROM assessment_scores")
        ]
        keyed = "SELECT submission_key, response_id FROM assessment_responses"
        keys = {key: stored[response_id] for key, response_id in await conn.fetch(keyed) if key}
        return cls(users, list(stored.values()), scores, keys)

    def state(self) -> Any:
        """Return all that is stored, comparable with another model's that has other new rows."""
        keys = {id(row): key for key, row in self.keys.items()}
        responses = [
            (without_identity(row), keys.get(id(row)), len(self._scores_of(row["response_id"])))
            for row in self.responses
        ]
        return self.users, len(self.scores), sorted(responses, key=repr)

    def leads_to(self, after: Model, calls: Iterable[tuple[Call, Any]]) -> bool:
        """Return whether *calls*, each with its result, would lead from here to *after*."""
        model = deepcopy(self)
        agree = (model.agrees(*made, names_item=False) for made in calls)  # a race may hide it
        return all(agree) and model.state() == after.state()

    def agrees(self, call: Call, result: Any, *, names_item: bool = True) -> bool:
        """Make *call*; return whether *result* is right, and take the keys of new rows from it."""
        expected = getattr(self, call.function.replace(".", "_"))(**call.arguments)
        if isinstance(expected, tuple) and isinstance(result, tuple) and not names_item:
            expected, result = expected[0], result[0]
        if not isinstance(expected, list | dict):
            return bool(expected == result)
        if isinstance(expected, dict):
            expected, result = [expected], [result]
        if not isinstance(result, list) or len(result) != len(expected):
            return False
        return all(map(self._learn, expected, result))

    def _learn(self, row: Row, stored: Any) -> bool:
        if not isinstance(stored, dict) or not row.items() <= stored.items():
            return False
        missing = stored.keys() - row.keys()
        given = {"response_id", "score_id", "created_at"} if "created_at" not in row else set()
        row.update(stored)
        return missing <= given

    # What is written.

    def submit_response(self, **response: Any) -> Any:
        result = self.submit_responses([response])
        return result[0] if isinstance(result, list) else (result[0], None)

    def submit_responses(self, responses: list[Row]) -> Any:
        for index, response in enumerate(responses):
            if response.get("user_id") not in self.users | {None}:
                return UnknownUser, f"responses[{index}]"
        keys, rows = dict(self.keys), []
        for index, response in enumerate(responses):
            row = dict.fromkeys(AssessmentResponse.__annotations__) | {"answer_metadata": {}}
            row = without_identity(row | response)
            key = row.pop("submission_key", None)
            stored = keys.get(key, row)
            if not row.items() <= stored.items():
                return SubmissionConflict, f"responses[{index}]"
            if key is not None:
                keys[key] = stored
            rows.append(stored)
        self.keys = keys
        for row in rows:
            if all(row is not stored for stored in self.responses):
                self.responses.append(row)
        return rows

    def claim_assessment_responses(
        self, *, anonymous_token: UUID, user_id: int, skip_answered: bool = True
    ) -> Any:
        if user_id not in self.users:
            return UnknownUser, None
        answered = {row["question_id"] for row in self._owned(user_id)} if skip_answered else ()
        claimed = [
            row
            for row in self._owned(anonymous_token=anonymous_token)
            if row["question_id"] not in answered
        ]
        for row in claimed:
            row.update(user_id=user_id, anonymous_token=None)
        return len(claimed)

    def record_score(self, **score: Any) -> Any:
        result = self.record_scores([score])
        return result[0] if isinstance(result, list) else (result[0], None)

    def record_scores(self, scores: list[Row]) -> Any:
        stored = {row.get("response_id") for row in self.responses}
        for index, score in enumerate(scores):
            if score["response_id"] not in stored:
                return UnknownResponse, f"scores[{index}]"
        rows = [{"model_id": None, "prompt_version": None, **score} for score in scores]
        self.scores += rows
        return rows

    def record_score_once(self, **score: Any) -> Any:
        scorer = {name: score[name] for name in ("model_id", "prompt_version")}
        if any(matches(row, scorer) for row in self._scores_of(score["response_id"])):
            return None
        return self.record_score(**score)

    def delete_responses(self, **owner: Any) -> int:
        return self._erase(self._owned(**owner))

    def purge_anonymous_responses(self, **arguments: Any) -> int:
        rows = (row for row in self.responses if row["anonymous_token"])
        return self._purge(rows, **arguments)

    def purge_responses(self, **arguments: Any) -> int:
        return self._purge(self.responses, **arguments)

    def _purge(
        self, rows: Iterable[Row], older_than: Any, limit: int = 10_000, *, dry_run: bool = False
    ) -> int:
        until = datetime.now(timezone.utc) - older_than
        expired = newest_first(row for row in rows if row["created_at"] < until)[::-1]
        expired.sort(key=lambda row: row["user_id"] is None)  # users' first, the oldest first
        return len(expired[:limit]) if dry_run else self._erase(expired[:limit])

    def insert_user(self, user_id: int) -> int:
        self.users.add(user_id)
        return 1

    def update_user(self, user_id: int) -> int:
        return len(self.users & {user_id})

    def delete_user(self, user_id: int) -> int:
        found = self.update_user(user_id)
        self.users.discard(user_id)
        self._erase(self._owned(user_id))
        return found

    def backdate(self, response_id: int, created_at: datetime) -> int:
        rows = [row for row in self.responses if row["response_id"] == response_id]
        last_score = sorted(self._scores_of(response_id), key=lambda row: row["score_id"])[-1:]
        for row in rows + last_score:
            row["created_at"] = created_at
        return len(rows)

    # What is read.

    def get_responses(
        self, *, limit: int | None = None, before: Any = None, **asked: Any
    ) -> list[Row]:
        rows = newest_first(self.iter_responses(**asked))
        if before:
            rows = [row for row in rows if (row["created_at"], row["response_id"]) < before]
        return rows[:limit]

    def get_response(self, *, response_id: int, **owner: Any) -> Row | None:
        rows = self._owned(**owner)
        return next((row for row in rows if row["response_id"] == response_id), None)

    def get_responses_by_id(self, *, response_ids: list[int]) -> list[Row]:
        return [row for row in self.responses if row["response_id"] in response_ids]

    def get_responses_with_latest_score(
        self, *, human_first: bool = False, **asked: Any
    ) -> list[Row]:
        return [self._with_latest_score(row, human_first) for row in self.get_responses(**asked)]

    def get_latest_responses_with_latest_score(
        self, *, human_first: bool = False, **asked: Any
    ) -> list[Row]:
        rows = self.get_latest_responses(**asked)
        return [self._with_latest_score(row, human_first) for row in rows]

    def _with_latest_score(self, row: Row, human_first: bool) -> Row:  # noqa: FBT001
        scores = self._scores_of(row["response_id"])
        by_people = [score for score in scores if human_first and score["model_id"] is None]
        return {**row, "latest_score": next(iter(by_people or scores), None)}

    get_responses_for_question = get_responses

    def get_latest_responses(
        self, *, question_ids: list[str] | None = None, **asked: Any
    ) -> list[Row]:
        newest: Row = {}
        for row in self.get_responses(**asked):
            newest.setdefault(row["question_id"], row)
        asked_for = newest if question_ids is None else question_ids
        return [row for question, row in newest.items() if question in asked_for]

    def get_scores(self, *, response_id: int, **owner: Any) -> list[Row]:
        owned = {row["response_id"] for row in self._owned(**owner)}
        return self._scores_of(response_id) if response_id in owned else []

    def backoffice_get_scores(self, *, response_id: int) -> list[Row]:
        return self._scores_of(response_id)

    def get_unscored_responses(
        self,
        *,
        limit: int = 100,
        after: int = 0,
        up_to: int = 2**62,
        latest_attempts_only: bool = False,
        skip_human_scored: bool = False,
        model_id: str | None = None,
        prompt_version: str | None = None,
        **asked: Any,
    ) -> list[Row]:
        scorer = {"model_id": model_id, "prompt_version": prompt_version}
        scored = {
            score["response_id"]
            for score in self.scores
            if matches(score, scorer) or (skip_human_scored and score["model_id"] is None)
        }
        newest: Row = {}
        for row in newest_first(self.responses):
            newest.setdefault(_attempted(row), row)
        return [
            row
            for row in self.responses
            if row["response_id"] not in scored
            and after < row["response_id"] <= up_to
            and matches(row, asked)
            and (not latest_attempts_only or newest[_attempted(row)] is row)
        ][:limit]

    def iter_responses(
        self, *, since: Any = None, until: Any = None, batch_size: int = 0, **asked: Any
    ) -> list[Row]:
        del batch_size  # changes nothing that the caller sees
        owner = {name: asked.pop(name) for name in ("user_id", "anonymous_token") if name in asked}
        rows = [
            row
            for row in (self._owned(**owner) if owner else self.responses)
            if matches(row, asked)
            and (since is None or row["created_at"] >= since)
            and (until is None or row["created_at"] < until)
        ]
        return newest_first(rows)[::-1] if owner else rows

    def iter_responses_with_scores(self, **asked: Any) -> list[Row]:
        rows = self.iter_responses(**asked)
        return [{**row, "scores": self._scores_of(row["response_id"])} for row in rows]

    def _owned(self, user_id: int | None = None, anonymous_token: UUID | None = None) -> list[Row]:
        return [
            row
            for row in self.responses
            if (user_id and row["user_id"] == user_id)
            or (anonymous_token and row["anonymous_token"] == anonymous_token)
        ]

    def _scores_of(self, response_id: int) -> list[Row]:
        scores = (score for score in self.scores if score["response_id"] == response_id)
        return newest_first(scores, "score_id")

    def _erase(self, rows: list[Row]) -> int:
        erased, keys = {id(row) for row in rows}, {row.get("response_id") for row in rows}
        self.responses = [row for row in self.responses if id(row) not in erased]
        self.scores = [score for score in self.scores if score["response_id"] not in keys]
        self.keys = {key: row for key, row in self.keys.items() if id(row) not in erased}
        return len(rows)


def is_serial(before: Model, calls: list[tuple[Call, Any]], after: Model) -> bool:
    """Return whether *calls*, each with its result, lead to *after* in one order or another."""
    return any(before.leads_to(after, order) for order in permutations(calls))


def _attempted(row: Row) -> Any:
    return row["user_id"], row["anonymous_token"], row["question_id"]


def matches(row: Row, filters: Row) -> bool:
    """Return whether *row* has each value asked for, where ``None`` asks for any."""
    return all(value in (None, row[name]) for name, value in filters.items())


def newest_first(rows: Iterable[Row], key: str = "response_id") -> list[Row]:
    """Return *rows* in the order in which they are listed."""
    return sorted(rows, key=lambda row: (row["created_at"], row[key]), reverse=True)


def without_identity(row: Row) -> Row:
    """Return *row* without what PostgreSQL gives a new row."""
    return {name: row[name] for name in row if name not in ("response_id", "created_at")}
