"""What the checks of a valid call cost, beside encoding the same values without any check.

The checks are everything that a facade function does before the query is sent. The peer in the same
run is what any caller pays to hand the same values to asyncpg: ``json.dumps`` of the JSON and
``str.encode`` of the texts. In microseconds a call, the fastest of the rounds, which alternate: so
the load of other programs is left out.

    python benchmarks/checks.py [ROUNDS]
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import datetime, timezone
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from assessments.validation import arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

ROUNDS = 300
CALLS = 50
BATCH = 10
METADATA = {"locale": "en", "seconds": 184, "client": {"version": "7.1.0"}}
SCORE = {"points": 4, "of": 5, "feedback": "Say why.", "rubric": {"clear": 2, "whole": 2}}
LARGE = {
    "steps": [
        {"at": number / 7, "key": f"k{number}", "seen": True, "of": None} for number in range(200)
    ]
}
RESPONSE: dict[str, Any] = {
    "anonymous_token": uuid4(),
    "question_id": "photosynthesis-why-green",
    "module_slug": "plant-biology",
    "answer_text": "Leaves look green because chlorophyll absorbs mostly red and blue. " * 5,
}
GERMAN = {**RESPONSE, "answer_text": "Blätter sind grün, weil Chlorophyll Rot schluckt. " * 7}
LONG = {**RESPONSE, "answer_text": "Because. " * 10_000}
WITH_METADATA = {**RESPONSE, "answer_metadata": METADATA}
WITH_KEY = {**RESPONSE, "submission_key": uuid4()}
WITH_STRINGS = {**RESPONSE, "anonymous_token": str(uuid4()), "content_id": str(uuid4())}
PAGE = {
    **dict.fromkeys(("user_id", "module_slug", "question_id")),
    "anonymous_token": uuid4(),
    "limit": 20,
    "before": (datetime.now(timezone.utc), 1_000_000),
}


def main(rounds: int) -> None:
    """Measure each case and print a row for it."""
    print(f"{rounds} rounds of {CALLS} calls, microseconds\n")
    print(f"{'':44}{'encoding alone':>15}{'checks':>9}{'more':>7}")
    for title, checks, peer, elements in cases():
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for figures, call in zip(taken, (peer, checks), strict=True):
                figures.append(mean_microseconds(call) / elements)
        alone, checked = map(min, taken)
        print(f"{title:44}{alone:15.2f}{checked:9.2f}{checked - alone:7.2f}")


def mean_microseconds(call: Callable[[], object]) -> float:
    """Return the mean of `CALLS` calls, one after the other."""
    start = perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (perf_counter_ns() - start) / CALLS / 1000


def completed(check: Coroutine[Any, Any, object]) -> None:
    """Run *check*, which is too short to let other tasks run."""
    with suppress(StopIteration):
        check.send(None)


def encoded(values: dict[str, Any]) -> list[object]:
    """Return *values* as any caller encodes them for asyncpg: texts and JSON as bytes."""
    texts = (json.dumps(value) if isinstance(value, dict) else value for value in values.values())
    return [len(text.encode()) if isinstance(text, str) else text for text in texts]


def cases() -> list[tuple[str, Callable[[], object], Callable[[], object], int]]:
    """Return titles, the checks, the same values without checks, and the number of items."""
    check = arguments.check_new_response

    def submit(title: str, of: dict[str, Any]) -> Any:
        return f"submit_response, {title}", lambda: check(of), lambda: encoded(of), 1

    def score(title: str, of: dict[str, Any]) -> Any:
        values = {"response_id": 1_000_000, "score_data": of, "model_id": "model-1"}
        return (
            f"record_score, {title}",
            lambda: arguments.check_new_score(values),
            lambda: encoded(values),
            1,
        )

    def page() -> Any:
        owner = arguments.check_owner(PAGE["user_id"], PAGE["anonymous_token"])
        rest = (PAGE[name] for name in ("module_slug", "question_id", "limit", "before"))
        return arguments.check_page(owner, *rest)

    many, scores = [WITH_METADATA] * BATCH, [{"response_id": 1, "score_data": SCORE}] * BATCH
    return [
        submit("335 letters", RESPONSE),
        submit("350 letters, not ASCII", GERMAN),
        submit("90,000 letters", LONG),
        submit("metadata", WITH_METADATA),
        submit("submission_key", WITH_KEY),
        submit("UUIDs as strings", WITH_STRINGS),
        (
            f"submit_responses of {BATCH}, each",
            lambda: completed(arguments.check_new_responses(many)),
            lambda: [encoded(each) for each in many],
            BATCH,
        ),
        score("a small one", SCORE),
        score(f"{len(json.dumps(LARGE)):,} letters", LARGE),
        (
            f"record_scores of {BATCH}, each",
            lambda: completed(arguments.check_new_scores(scores)),
            lambda: [encoded(each) for each in scores],
            BATCH,
        ),
        ("get_responses, a page", page, lambda: encoded(PAGE), 1),
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
