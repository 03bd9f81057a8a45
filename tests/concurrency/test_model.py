"""A history of calls, one after the other, leaves what a model in memory holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.helpers.calls import Call
from tests.helpers.histories import TWO_USERS, Draw
from tests.helpers.model import Model, perform
from tests.helpers.rows import ids
from tests.helpers.transactions import outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

EXAMPLES = 60
STEPS = 25
WRITES = (
    *("submit_response", "submit_responses", "backdate") * 2,
    *("backdate", "claim_assessment_responses", "record_score", "record_scores"),
    *("purge_anonymous_responses", "purge_responses", "delete_responses", "delete_user"),
)
chances = st.randoms(use_true_random=False)


class Session:
    """A connection, its event loop, and how many histories and steps ran over it."""

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


class History(RuleBasedStateMachine):
    """Random calls on the database and on the model, compared after each."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        session.run(session.conn.execute(TWO_USERS))
        self.model = session.run(Model.load(session.conn))
        session.done["histories"] += 1

    @initialize(chance=chances)
    def begin(self, chance: Random) -> None:
        """Submit a few responses."""
        for _ in range(chance.randint(5, 9)):
            self.check(Draw(chance, self.model).call("submit_response"))

    @rule(chance=chances)
    def step(self, chance: Random) -> None:
        """Make a call that writes; read with every function."""
        self.session.done["steps"] += 1
        draw = Draw(chance, self.model)
        call = draw.call(*WRITES)
        known = set(ids(self.model.responses))
        note(str(call))
        result = self.check(call)
        if call.function.startswith("submit") and not isinstance(result, tuple):
            rows = result if isinstance(result, list) else [result]
            new = [key for key in dict.fromkeys(ids(rows)) if key not in known]
            assert new == sorted(new)
            assert not new or new[0] > max(known, default=0)
        if call.function == "delete_user":
            self.check(Call("insert_user", call.arguments))
        for read in draw.reads():
            self.check(read)
            if read.function in ("get_responses", "get_responses_with_latest_score"):
                self.check_pages(read, chance.randint(1, 3))

    def check_pages(self, read: Call, limit: int) -> None:
        """Read page by page to the end, each from the last page's cursor."""
        before = None
        while page := self.check(
            Call(read.function, {**read.arguments, "limit": limit, "before": before})
        ):
            before = (page[-1]["created_at"], page[-1]["response_id"])

    def check(self, call: Call) -> Any:
        """Make *call* and return its result, which is to be the model's."""
        result = self.session.run(outcome(perform(self.session.conn, call)))
        assert self.model.agrees(call, result), (call, result)
        return result


def test_every_function_agrees_with_a_model_after_every_step_of_a_history(
    database: str, scale: int, figures: Callable[..., None]
) -> None:
    """After each step of a random history, every function returns what the model returns."""
    session = Session(database)
    try:
        run_state_machine_as_test(
            lambda: History(session),  # type: ignore[arg-type]
            settings=settings(
                max_examples=EXAMPLES * scale,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        session.close()
    figures("model", histories=session.done["histories"], steps=session.done["steps"])
