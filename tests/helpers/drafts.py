"""The calls of examples/drafts.py, and a model of what they should return and store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from assessments import SubmissionConflict
from examples.drafts import DraftMoved, claim, drafts, erase, finish

if TYPE_CHECKING:
    from uuid import UUID

    from tests.helpers.transactions import Connection

TRANSACTIONAL: dict[str, Any] = {"finish": finish, "claim": claim, "erase": erase}
Owner: TypeAlias = "int | UUID | None"


async def call(conn: Connection, function: str, **arguments: Any) -> Any:
    """Return what a query of the example returns, or one of its functions in a transaction.

    An owner that is not given is null. Of an error of theirs return the class.
    """
    given = {"user_id": None, "anonymous_token": None, **arguments}
    if function not in TRANSACTIONAL:
        return await getattr(drafts, function)(conn, **given)
    try:
        async with conn.transaction():
            return await TRANSACTIONAL[function](conn, **given)
    except (DraftMoved, SubmissionConflict) as error:
        return type(error)


class Draft(NamedTuple):
    """A row of the host's table."""

    owner: Owner
    question_id: str
    revision: int
    answer_text: str


class Response(NamedTuple):
    """A response that a draft has become."""

    owner: Owner
    question_id: str
    answer_text: str


@dataclass
class Model:
    """Drafts and responses by the draft's key; the methods are the example's calls."""

    drafts: dict[UUID, Draft] = field(default_factory=dict)
    responses: dict[UUID, Response] = field(default_factory=dict)

    @classmethod
    async def load(cls, conn: Connection) -> Model:
        """Return what is stored."""
        stored = await conn.fetch(
            "SELECT coalesce(user_id::text, anonymous_token::text) AS owner, * FROM answer_drafts"
        )
        submitted = await conn.fetch("SELECT * FROM assessment_responses")
        return cls(
            {
                row["draft_key"]: Draft(
                    row["user_id"] or row["anonymous_token"],
                    *(row[name] for name in Draft._fields[1:]),
                )
                for row in stored
            },
            {row["submission_key"]: response_of(row) for row in submitted},
        )

    def copy(self) -> Model:
        """Return a model of the same rows."""
        return Model(dict(self.drafts), dict(self.responses))

    def agrees(self, function: str, arguments: dict[str, Any], result: Any) -> bool:
        """Make the call; return whether its result, which may be a new key, is *result*."""
        if function == "open_draft":
            key: UUID = result["draft_key"]
            return self.open_draft(**arguments, new_key=key) == key
        if isinstance(result, dict):
            result = response_of(result)
        answer: Any = getattr(self, function)(**arguments)
        return bool(answer == result)

    def open_draft(
        self,
        *,
        question_id: str,
        new_key: UUID,
        user_id: int | None = None,
        anonymous_token: UUID | None = None,
    ) -> UUID:
        """Return the key of the owner's draft; *new_key* becomes that of a new one."""
        owner = user_id or anonymous_token
        for key, draft in self.drafts.items():
            if (draft.owner, draft.question_id) == (owner, question_id):
                return key
        self.drafts[new_key] = Draft(owner, question_id, 0, "")
        return new_key

    def save_draft(
        self,
        *,
        draft_key: UUID,
        revision: int,
        answer_text: str,
        answer_metadata: str,  # noqa: ARG002 - the query's
        user_id: int | None = None,
        anonymous_token: UUID | None = None,
    ) -> int | None:
        """Return the revision, or None where nothing is saved."""
        draft = self.drafts.get(draft_key)
        if not draft or draft.owner not in (user_id, anonymous_token) or draft.revision >= revision:
            return None
        self.drafts[draft_key] = draft._replace(revision=revision, answer_text=answer_text)
        return revision

    def finish(
        self,
        *,
        draft_key: UUID,
        question_id: str,
        module_slug: str,  # noqa: ARG002 - the function's
        answer_text: str,
        user_id: int | None = None,
        anonymous_token: UUID | None = None,
    ) -> Response | type[Exception]:
        """Return the response, or the class of the error."""
        owners = [owner for owner in (user_id, anonymous_token) if owner]
        draft = self.drafts.get(draft_key)
        if draft and draft.owner not in owners:
            return DraftMoved
        answer = Response(owners[0], question_id, answer_text)
        stored = self.responses.setdefault(draft_key, answer)
        if stored.owner not in owners or stored[1:] != answer[1:]:
            return SubmissionConflict
        self.drafts.pop(draft_key, None)
        return stored

    def claim(self, *, anonymous_token: UUID, user_id: int) -> int:
        """Return the number of responses claimed."""
        own = {each.question_id for each in self.drafts.values() if each.owner == user_id}
        for key, draft in self.drafts.items():
            if draft.owner == anonymous_token and draft.question_id not in own:
                self.drafts[key] = draft._replace(owner=user_id)
        answered = {each.question_id for each in self.responses.values() if each.owner == user_id}
        moved = [
            key
            for key, each in self.responses.items()
            if each.owner == anonymous_token and each.question_id not in answered
        ]
        for key in moved:
            self.responses[key] = self.responses[key]._replace(owner=user_id)
        return len(moved)

    def erase(self, *, user_id: int | None = None, anonymous_token: UUID | None = None) -> int:
        """Return the number of responses erased."""
        owners = [owner for owner in (user_id, anonymous_token) if owner]
        self.drafts = {key: row for key, row in self.drafts.items() if row.owner not in owners}
        left = {key: row for key, row in self.responses.items() if row.owner not in owners}
        erased = len(self.responses) - len(left)
        self.responses = left
        return erased


def response_of(row: Any) -> Response:
    """Return a row of assessment_responses as the model has it."""
    return Response(
        row["user_id"] or row["anonymous_token"], row["question_id"], row["answer_text"]
    )
