"""Whatever is done in whatever order, what is read is what a plain model of it in memory holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

import assessments
from assessments import backoffice
from tests.helpers.rows import new_user

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Row = dict[str, Any]

EXAMPLES = 120
STEPS = 25
NOBODY = 10**9
TOKENS = [UUID(int=number << 64 | 1) for number in (2, 1)]
KEYS = [UUID(int=number) for number in (7, 8)]
OWNERS = ("user_id", "anonymous_token")
CONTENT = ("question_id", "module_slug", "answer_text", "answer_metadata")
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
OLD = timedelta(days=365)

users = st.integers(0, 1)
anybody = st.integers(0, 2)  # the last is not there
tokens = st.sampled_from(TOKENS)
modules = st.sampled_from(["m1", "m2"])
questions = st.sampled_from(["q1", "q2", "q3"])
positions = st.integers(0, 9)
limits = st.none() | st.integers(1, 3)
scorers = st.fixed_dictionaries(
    {
        "model_id": st.sampled_from([None, "a", "b"]),
        "prompt_version": st.sampled_from([None, "p"]),
    }
)
owners = st.tuples(users, st.none()) | st.tuples(st.none(), tokens)
readers = owners | st.tuples(users, tokens)
submits = st.fixed_dictionaries(
    {
        "owner": owners | owners | st.tuples(anybody, st.none()),
        "question_id": questions,
        "module_slug": modules,
        "answer_text": st.sampled_from(["", "x"]),
        "answer_metadata": st.sampled_from([{}, {"a": [1, None]}]),
        "submission_key": st.none() | st.none() | st.sampled_from(KEYS),
        "again": st.sampled_from([None, None, "as sent", "as stored", "altered"]),
        "position": positions,
    }
)


class Look(NamedTuple):
    """What is looked at after a step."""

    owner: tuple[int | None, UUID | None]
    module_slug: str | None
    question_id: str | None
    question_ids: list[str] | None
    limit: int | None
    position: int
    scorer: dict[str, Any]


looks = st.builds(
    Look,
    readers,
    st.none() | modules,
    st.none() | questions,
    st.none() | st.lists(questions, max_size=2),
    limits,
    positions,
    scorers,
)


class Session:
    """A connection, the event loop that it lives on, and how often what was done over it."""

    def __init__(self, database: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.conn = self.run(asyncpg.connect(database))
        self.done: Counter[str] = Counter()

    def run(self, work: Any) -> Any:
        """Return what *work* returns."""
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        """Close both."""
        self.run(self.conn.close())
        self.loop.close()


def newest_first(rows: Iterable[Row], key: str = "response_id") -> list[Row]:
    """Return *rows* in the order in which they are listed."""
    return sorted(rows, key=lambda row: (row["created_at"], row[key]), reverse=True)


def by_key(rows: Iterable[Row]) -> list[Row]:
    """Return *rows* in the order in which they are walked."""
    return sorted(rows, key=lambda row: row["response_id"])


def among(value: object, wanted: object) -> bool:
    """Return whether a filter for *wanted*, or for all, lets *value* through."""
    return wanted is None or value == wanted


class Model(RuleBasedStateMachine):
    """The responses and scores that there should be, as lists of rows."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session, self.conn, self.run = session, session.conn, session.run
        self.responses: list[Row] = []
        self.scores: list[Row] = []
        self.keys: dict[UUID, Row] = {}
        self.sent: list[Row] = []
        self.run(self.conn.execute("DELETE FROM users; DELETE FROM assessment_responses"))
        self.users = [*(self.run(new_user(self.conn)) for _ in range(2)), NOBODY]
        self.there = {None, *self.users[:2]}
        session.done["runs"] += 1

    # What is done.

    @initialize(submits=st.lists(submits, min_size=5, max_size=9))
    def begin(self, submits: list[Row]) -> None:
        """Submit some, so that there is something to act on."""
        for submit in submits:
            given = self.given(submit)
            got = self.outcome(assessments.submit_response(self.conn, **given))
            self.take_in([given], got if isinstance(got, tuple) else [got], [None])

    @rule(submit=submits, look=looks)
    def submit(self, submit: Row, look: Look) -> None:
        """Submit a response, perhaps with a key that was sent before."""
        given = self.given(submit)
        got = self.outcome(assessments.submit_response(self.conn, **given))
        self.take_in([given], got if isinstance(got, tuple) else [got], [None])
        self.compare(look)

    @rule(submits=st.lists(submits, min_size=1, max_size=4), keyed=st.booleans(), look=looks)
    def submit_many(self, submits: list[Row], keyed: bool, look: Look) -> None:  # noqa: FBT001
        """Submit several in one statement, all without a key or some with one."""
        given: Any = [self.given(submit) for submit in submits]
        if not keyed:
            given = [{**each, "submission_key": None} for each in given]
        got = self.outcome(assessments.submit_responses(self.conn, given))
        self.take_in(given, got, [f"responses[{index}]" for index in range(len(given))])
        self.compare(look)

    @rule(token=tokens, user=anybody, skip=st.booleans(), look=looks)
    def claim(self, token: UUID, user: int, skip: bool, look: Look) -> None:  # noqa: FBT001
        """Claim a token's responses, with or without those to questions already answered."""
        user_id = self.users[user]
        got = self.outcome(
            assessments.claim_assessment_responses(
                self.conn, anonymous_token=token, user_id=user_id, skip_answered=skip
            )
        )
        answered = {row["question_id"] for row in self.responses if row["user_id"] == user_id}
        moved = [
            row
            for row in self.responses
            if row["anonymous_token"] == token and not (skip and row["question_id"] in answered)
        ]
        if user_id not in self.there:
            assert got == (assessments.UnknownUser, None)
        else:
            assert got == len(moved)
            for row in moved:
                row.update(user_id=user_id, anonymous_token=None)
        self.compare(look)

    @rule(position=positions, scorer=scorers, look=looks)
    def score(self, position: int, scorer: Row, look: Look) -> None:
        """Score a response, or one that is not there."""
        given: Row = {"response_id": self.response(position), "score_data": {"p": 1}, **scorer}
        got = self.outcome(backoffice.record_score(self.conn, **given))
        if given["response_id"] == NOBODY:
            assert got == (assessments.UnknownResponse, None)
        else:
            assert given.items() <= got.items()
            self.scores.append(got)
        self.compare(look)

    @rule(many=st.lists(st.tuples(positions, scorers), min_size=1, max_size=3), look=looks)
    def score_many(self, many: list[tuple[int, Row]], look: Look) -> None:
        """Score several in one statement."""
        given: Any = [
            {"response_id": self.response(position), "score_data": {"p": number}, **scorer}
            for number, (position, scorer) in enumerate(many)
        ]
        got = self.outcome(backoffice.record_scores(self.conn, given))
        wanted = [score["response_id"] for score in given]
        if NOBODY in wanted:
            assert got == (assessments.UnknownResponse, f"scores[{wanted.index(NOBODY)}]")
        else:
            assert all(new.items() <= row.items() for new, row in zip(given, got, strict=True))
            self.scores += got
        self.compare(look)

    @rule(
        erase=st.sampled_from(["delete", "delete_user", "purge", "purge"]),
        owner=readers,
        user=users,
        limit=st.integers(1, 3),
        look=looks,
    )
    def erase(
        self,
        erase: str,
        owner: tuple[int | None, UUID | None],
        user: int,
        limit: int,
        look: Look,
    ) -> None:
        """Erase what is an owner's, a user with all that is theirs, or what is old and nobody's."""
        if erase == "delete":
            of = self.owner(owner)
            got = self.outcome(assessments.delete_responses(self.conn, **of))
            assert got == self.gone(self.owned(of))
        elif erase == "purge":
            purge = backoffice.purge_anonymous_responses(self.conn, older_than=OLD, limit=limit)
            old = sorted(newest_first(self.expired()), key=lambda row: str(row["anonymous_token"]))
            assert self.outcome(purge) == self.gone(old[:limit])
        else:
            self.users[2] = gone = self.users[user]
            self.users[user] = self.run(new_user(self.conn))
            self.there = {None, *self.users[:2]}
            self.run(self.conn.execute("DELETE FROM users WHERE user_id = $1", gone))
            self.gone([row for row in self.responses if row["user_id"] == gone])
        self.compare(look)

    @rule(position=positions, hours=st.integers(0, 2), of_score=st.booleans(), look=looks)
    def backdate(self, position: int, hours: int, of_score: bool, look: Look) -> None:  # noqa: FBT001
        """Make a response or its scores old, as an import does: with others at the same moment."""
        key, when = self.response(position), LONG_AGO + timedelta(hours=hours)
        table = "assessment_scores" if of_score else "assessment_responses"
        self.run(
            self.conn.execute(
                f"UPDATE {table} SET created_at = $1 WHERE response_id = $2",  # noqa: S608
                when,
                key,
            )
        )
        for row in self.scores if of_score else self.responses:
            if row["response_id"] == key:
                row["created_at"] = when
        self.compare(look)

    # What the model makes of it.

    def owner(self, drawn: tuple[int | None, UUID | None]) -> Row:
        """Return the owner arguments that were drawn."""
        user, token = drawn
        return {"user_id": None if user is None else self.users[user], "anonymous_token": token}

    def given(self, submit: Row) -> Row:
        """Return the arguments of a submit that was drawn: new ones, or some sent before."""
        new = {name: submit[name] for name in CONTENT}
        owner, position = self.owner(submit["owner"]), submit["position"]
        stored = [
            {"submission_key": key, **{name: row[name] for name in (*OWNERS, *CONTENT)}}
            for key, row in self.keys.items()
        ]
        sent: list[Row] = self.sent if submit["again"] == "as sent" else stored
        if not submit["again"] or not sent:
            return {**owner, **new, "submission_key": submit["submission_key"]}
        again: Row = sent[position % len(sent)]
        if submit["again"] == "altered":
            name = ("owner", *CONTENT)[position % 5]
            return {**again, **(owner if name == "owner" else {name: new[name]})}
        return again

    def owned(self, owner: Row) -> list[Row]:
        """Return what is of either owner."""
        return [
            row
            for row in self.responses
            for name, value in owner.items()
            if value is not None and row[name] == value
        ]

    def expired(self) -> list[Row]:
        """Return what a purge is to erase."""
        return [
            row
            for row in self.responses
            if row["anonymous_token"] and row["created_at"] < LONG_AGO + OLD
        ]

    def response(self, position: int) -> int:
        """Return the key of a response, or one that is not there."""
        there = by_key(self.responses)
        return of_key(there[position % len(there)]) if there and position else NOBODY

    def outcome(self, call: Awaitable[Any]) -> Any:
        """Return what *call* returns, or what kind of error it raises and for which element."""
        self.session.done["calls"] += 1
        try:
            return self.run(call)
        except assessments.AssessmentsError as error:
            return type(error), getattr(error, "parameter", None)

    def take_in(self, given: list[Row], got: Any, places: list[Any]) -> None:
        """Check what a submit of *given* returned or raised, and keep what it stored."""
        for each, place in zip(given, places, strict=True):
            if each["user_id"] not in self.there:
                assert got == (assessments.UnknownUser, place)
                return
        keys, want = dict(self.keys), []
        for each, place in zip(given, places, strict=True):
            content = {name: value for name, value in each.items() if name != "submission_key"}
            row = keys.get(each["submission_key"], content)
            if not content.items() <= row.items():
                assert got == (assessments.SubmissionConflict, place)
                return
            if each["submission_key"]:
                keys[each["submission_key"]] = row
            want.append(row)
        self.keys = keys
        self.sent += [each for each in given if each["submission_key"]]
        for row, new in zip(want, got, strict=True):
            if "response_id" not in row:
                assert row.items() <= new.items()
                assert new["response_id"] > max(map(of_key, self.responses), default=0)
                row.update(new)
                self.responses.append(row)
            assert new == row

    def gone(self, rows: list[Row]) -> int:
        """Erase *rows* with their scores and keys; return how many."""
        keys = set(map(of_key, rows))
        self.responses = [row for row in self.responses if of_key(row) not in keys]
        self.scores = [row for row in self.scores if of_key(row) not in keys]
        self.keys = {key: row for key, row in self.keys.items() if of_key(row) not in keys}
        return len(keys)

    # What is read.

    def compare(self, look: Look) -> None:
        """Read what *look* asks for with every function, and find what the model holds."""
        self.session.done["steps"] += 1
        owner = self.owner(look.owner)
        mine = newest_first(self.owned(owner))
        self.run(self.compare_lists(look, owner, mine))
        self.run(self.compare_attempts(look, owner, mine))
        self.run(self.compare_scores(look, owner))
        self.run(self.compare_walks(look, owner))

    async def compare_lists(self, look: Look, owner: Row, mine: list[Row]) -> None:
        """Compare lists: all, filtered, from a cursor on, and page by page to the end."""
        asked: Row = {**owner, "module_slug": look.module_slug, "question_id": look.question_id}
        want = matching(mine, look)
        for function, rows in (
            (assessments.get_responses, want),
            (
                assessments.get_responses_with_latest_score,
                [{**row, "latest_score": self.latest_score(row)} for row in want],
            ),
        ):
            read: Any = function
            assert await read(self.conn, **asked) == rows
            at, step = 0, look.limit or len(rows) + 1
            before = None
            while page := await read(self.conn, **asked, limit=look.limit, before=before):
                assert page == rows[at : at + step]
                at += step
                before = (page[-1]["created_at"], page[-1]["response_id"])
            assert at >= len(rows)

    def latest_score(self, response: Row) -> Row | None:
        """Return the newest score of a response."""
        return next(iter(self.scores_of(of_key(response))), None)

    def scores_of(self, response_id: int) -> list[Row]:
        """Return the scores of a response, newest first."""
        return newest_first((s for s in self.scores if of_key(s) == response_id), "score_id")

    async def compare_attempts(self, look: Look, owner: Row, mine: list[Row]) -> None:
        """Compare the attempts at a question, and the newest at each."""
        question = look.question_id or "q1"
        attempts = assessments.get_responses_for_question(self.conn, **owner, question_id=question)
        assert await attempts == [row for row in mine if row["question_id"] == question]
        newest: Row = {}
        for row in mine:
            if among(row["module_slug"], look.module_slug):
                newest.setdefault(row["question_id"], row)
        latest = assessments.get_latest_responses(
            self.conn, **owner, module_slug=look.module_slug, question_ids=look.question_ids
        )
        asked = newest if look.question_ids is None else look.question_ids
        assert await latest == [row for name, row in newest.items() if name in asked]

    async def compare_scores(self, look: Look, owner: Row) -> None:
        """Compare the scores of a response, if it is the owner's, and the backlog."""
        key = self.response(look.position)
        scores = await assessments.get_scores(self.conn, **owner, response_id=key)
        is_mine = key in map(of_key, self.owned(owner))
        assert scores == (self.scores_of(key) if is_mine else [])
        scored = {
            of_key(score)
            for score in self.scores
            if all(among(score[name], wanted) for name, wanted in look.scorer.items())
        }
        rows = by_key(row for row in self.responses if of_key(row) not in scored)
        parts: list[tuple[Row, list[Row]]] = [
            ({"after": key, "limit": look.limit or 100}, [r for r in rows if of_key(r) > key]),
            ({"up_to": key}, [row for row in rows if of_key(row) <= key]),
        ]
        for bounds, want in parts:
            backlog = backoffice.get_unscored_responses(self.conn, **look.scorer, **bounds)
            assert await backlog == want[: bounds.get("limit")]

    async def compare_walks(self, look: Look, owner: Row) -> None:
        """Compare walks over everybody's and over the owner's, and the count of a purge."""
        split = LONG_AGO + timedelta(hours=1)
        filters: Row = {"module_slug": look.module_slug, "question_id": look.question_id}
        for of, rows in (({}, self.responses), (owner, self.owned(owner))):
            want = by_key(matching(rows, look))
            parts: list[tuple[Row, list[Row]]] = [
                ({}, want),
                ({"since": split}, [row for row in want if row["created_at"] >= split]),
                ({"until": split}, [row for row in want if row["created_at"] < split]),
            ]
            for bounds, within in parts:
                walk = backoffice.iter_responses(
                    self.conn, **of, **filters, **bounds, batch_size=look.limit or 1000
                )
                assert [row async for row in walk] == within
        count = backoffice.purge_anonymous_responses(
            self.conn, older_than=OLD, limit=look.limit or 1000, dry_run=True
        )
        assert await count == len(self.expired()[: look.limit])


def of_key(row: Row) -> int:
    """Return the key of a response, or of the response that a score is of."""
    key: int = row["response_id"]
    return key


def matching(rows: list[Row], look: Look) -> list[Row]:
    """Return those of *rows* that the filters of *look* let through."""
    return [
        row
        for row in rows
        if among(row["module_slug"], look.module_slug)
        and among(row["question_id"], look.question_id)
    ]


def test_what_is_read_is_what_the_model_holds(
    database: str, scale: int, figures: Callable[..., None]
) -> None:
    """After every step of any history, every function reads what a list in memory would."""
    session = Session(database)
    try:
        run_state_machine_as_test(
            lambda: Model(session),  # type: ignore[arg-type]
            settings=settings(
                max_examples=EXAMPLES * scale,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        session.close()
    figures("model", histories=session.done["runs"], steps=session.done["steps"])
