"""Bad input is refused with a named error before anything is sent, and nothing is lost."""

from __future__ import annotations

import inspect
from collections import Counter, OrderedDict, UserList, defaultdict
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

import assessments
from assessments import backoffice, validation
from tests.helpers.bad_values import BAD, NIL, Cursor, JsonList, Level, Token, Word, nested
from tests.helpers.calls import FUNCTIONS, Call, catalogue
from tests.helpers.observe import StatementLog
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import asyncpg

CALLS = {call.function: call for name, call in catalogue().items() if " " not in name}

WALKS = {"iter_responses", "iter_responses_with_scores"}


class Case(NamedTuple):
    """A call with one bad argument, and the parameter that the error names."""

    call: Call
    what: str
    arguments: dict[str, Any]
    parameter: str
    value: Any = None


def parameters(function: str) -> dict[str, inspect.Parameter]:
    """Return what *function* takes beside the connection."""
    every = inspect.signature(FUNCTIONS[function]).parameters
    return {name: parameter for name, parameter in every.items() if name != "conn"}


def bad_arguments(call: Call) -> Iterator[Case]:
    """Yield *call* with each of its arguments bad in every way."""
    for name, parameter in parameters(call.function).items():
        required = parameter.default is not None and name not in ("responses", "scores")
        for what, value, *path in [*BAD[name], *([("None", None)] if required else ())]:
            arguments = {**call.arguments, name: value}
            if call.function == "submit_response" and name == "user_id":
                arguments["anonymous_token"] = None
            yield Case(call, f"{name}: {what}", arguments, name + "".join(path), value)


def bad_owners(call: Call) -> Iterator[Case]:
    """Yield *call* without an owner and, where it writes, with two."""
    if call.function not in ("claim_assessment_responses", *WALKS):
        none = {**call.arguments, "user_id": None, "anonymous_token": None}
        yield Case(call, "no owner", none, "user_id")
    if call.function == "submit_response":
        yield Case(call, "two owners", {**call.arguments, "user_id": 1}, "user_id")


def bad_items(batch: Call, parameter: str, single: Call) -> Iterator[Case]:
    """Yield *batch* with each argument of *single* bad in its second item, or missing."""
    good, path = single.arguments, f"{parameter}[1]"

    def case(what: str, item: Any, where: str, value: Any = None) -> Case:
        return Case(batch, f"[1].{what}", {parameter: [good, item, good]}, where, value)

    for bad in (*bad_arguments(single), *(bad_owners(single) if "user_id" in good else ())):
        yield case(bad.what, bad.arguments, f"{path}.{bad.parameter}", bad.value)
    for name, needed in parameters(single.function).items():
        if needed.default is inspect.Parameter.empty:
            rest = {key: value for key, value in good.items() if key != name}
            yield case(f"no {name}", rest, f"{path}.{name}")
    for key in ("conn", "self", "Question_id", "", 1, None, ("question_id",)):
        yield case(f"extra key {key!r}", {**good, key: 1}, path)


def bad_calls() -> Iterator[Case]:
    """Yield every call that is to be refused."""
    for call in CALLS.values():
        yield from bad_arguments(call)
        if "anonymous_token" in call.arguments:
            yield from bad_owners(call)
    yield from bad_items(CALLS["submit_responses"], "responses", CALLS["submit_response"])
    yield from bad_items(CALLS["record_scores"], "scores", CALLS["record_score"])


async def miss(conn: asyncpg.Connection[Any], log: StatementLog, case: Case) -> str | None:
    """Return what is wrong with how *case* is refused, within an open transaction."""
    await log.complete()
    log.clear()
    try:
        await case.call(conn, **case.arguments)
    except assessments.InvalidInput as error:
        if problem := wrong_with(error, case):
            return problem
    except Exception as error:  # noqa: BLE001 - whatever else is a miss
        return repr(error)[:100]
    else:
        return "is accepted"
    usable = await conn.fetchval("SELECT 1") == 1
    return None if usable and await log.complete() == ["SELECT 1"] else "sends something"


def wrong_with(error: assessments.InvalidInput, case: Case) -> str | None:
    """Return what is wrong with the *error* that *case* raises."""
    shown = repr(error) + str(error)
    quotable = type(case.value) is str and len(case.value) > 3
    if error.parameter != case.parameter:
        return f"names {error.parameter}"
    if not (error.__context__ is None or isinstance(error.__context__, assessments.InvalidInput)):
        return "has a chain"
    return "quotes" if len(shown) > 600 or (quotable and case.value in shown) else None


async def test_every_bad_input_is_refused(
    conn: asyncpg.Connection[Any], figures: Callable[..., None]
) -> None:
    """The error names the argument, nothing is sent, and the open transaction stays usable."""
    misses, tried = [], 0
    async with conn.transaction():
        log = StatementLog(conn)
        for tried, case in enumerate(bad_calls(), start=1):  # noqa: B007 - the last is the count
            if problem := await miss(conn, log, case):
                misses.append(f"{case.call.function}, {case.what}: {problem}")
        assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0

    figures("bad inputs", tried=tried, misses=len(misses))
    assert "\n".join(misses) == ""
    assert tried > 1200


GOOD_JSON: list[Any] = [
    {},
    nested(validation.MAX_JSON_DEPTH),
    {"a": "b" * (validation.MAX_METADATA_BYTES - len('{"a":""}'))},
    {"a": "é" * (validation.MAX_METADATA_BYTES // 2 - 4)},
    {"a": 10**validation.MAX_JSON_DIGITS - 1, "b": -(10**validation.MAX_JSON_DIGITS) + 1},
    {"a": [0.0, -0.0, 5e-324, 1e16, 1e22, 9007199254740993, 2**63, -(2**63) - 1]},
    {"a": [2.2250738585072014e-308, 0.1, 1e-7, 123456789.123456789]},
    {"\\u0000": "\\u0000 \\\\u0000", "": {"": ""}, "\U0010ffff": "\ufffe\uffff\ud7ff\ue000"},
    {"e+": "1e+16", "a": [[], {}, [[]], [{}]], "b": [None, True, False]},
    OrderedDict(b=Level.ONE, a=[OrderedDict(c=Word.ONE)]),
    {Word.ONE: defaultdict(list, a=JsonList([1, [2]]))},
    Counter("abba"),
]
GOOD_VALUES: list[tuple[str, Any]] = [
    *(("answer_metadata", value) for value in GOOD_JSON),
    *(("answer_text", text) for text in ("", " \n\t", "a" * validation.MAX_ANSWER_BYTES)),
    ("answer_text", "é" * (validation.MAX_ANSWER_BYTES // 2)),
    ("answer_text", "𝔘" * (validation.MAX_ANSWER_BYTES // 4)),
    ("answer_text", "\ufffe\uffff\U0010ffff\u202e e\u0301 '; DROP TABLE users; --"),
    ("answer_text", "\ufeff\x01\x7f\x80\\000 \\x00 %s :name $1 {}"),
    ("answer_text", Word.ONE),
    *(("question_id", name) for name in (" ", "é" * validation.MAX_ID_CHARACTERS, Word.ONE)),
    ("learning_outcome_id", "𝔘" * validation.MAX_ID_CHARACTERS),
    *(("content_id", uuid) for uuid in (NIL, UUID(int=2**128 - 1), Token(int=7))),
    ("anonymous_token", UUID(int=1)),
]


async def test_what_is_within_the_limits_comes_back_equal(conn: asyncpg.Connection[Any]) -> None:
    """A value at its limit, blank, odd or of a subclass is stored, singly and in a batch."""
    for name, value in GOOD_VALUES:
        given = {"anonymous_token": uuid4(), name: value}
        stored: Any = await submit(conn, **given)
        new: Any = {"question_id": "q1", "module_slug": "m1", "answer_text": "", **given}
        batched: Any = (await assessments.submit_responses(conn, [new]))[0]

        assert stored[name] == batched[name] == value, name


async def test_a_subclass_does_what_the_built_in_type_does(
    conn: asyncpg.Connection[Any], user_id: int
) -> None:
    """Enums, named tuples and subclasses of lists and UUIDs are keys, limits, cursors and names."""
    assert user_id == Level.ONE
    rows = [await submit(conn, user_id=Level.ONE) for _ in range(3)]
    berlin = rows[1]["created_at"].astimezone(ZoneInfo("Europe/Berlin"))

    get: Any = partial(assessments.get_responses, conn, user_id=user_id)
    assert await get(limit=Level.ONE) == rows[:1:-1]
    assert await get(before=Cursor(rows[1]["created_at"], rows[1]["response_id"])) == rows[:1]
    assert await get(before=[berlin, rows[1]["response_id"]]) == rows[:1]
    questions = JsonList([Word.ONE, "q1"])
    latest = assessments.get_latest_responses(conn, user_id=user_id, question_ids=questions)
    assert await latest == rows[:1:-1]
    batch: Any = UserList([{"response_id": Level.ONE, "score_data": {}, "model_id": Word.ONE}])
    (score,) = await backoffice.record_scores(conn, batch)
    assert (score["response_id"], score["model_id"]) == (1, "a")


@pytest.mark.parametrize("fold", [0, 1])
async def test_a_time_is_the_same_time_in_any_zone(
    conn: asyncpg.Connection[Any], fold: int
) -> None:
    """An hour that a zone has twice, or not at all, is the time that Python takes it for."""
    twice = datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin"))
    never = datetime(2026, 3, 29, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin"))
    for time in (twice, never, datetime.min.replace(tzinfo=timezone.utc)):
        token = uuid4()
        key = (await submit(conn, anonymous_token=token))["response_id"]
        same = time.astimezone(timezone.utc)
        await conn.execute(
            "UPDATE assessment_responses SET created_at = $1 WHERE response_id = $2", same, key
        )
        just_after = same + timedelta(microseconds=1)
        for until, found in ((time, 0), (just_after, 1)):
            iteration = backoffice.iter_responses(conn, since=same, until=until)
            assert [row["response_id"] async for row in iteration] == [key] * found
        await assessments.delete_responses(conn, anonymous_token=token)


async def test_a_content_id_may_be_given_as_its_string(conn: asyncpg.Connection[Any]) -> None:
    """content_id comes back as a UUID however it was given."""
    content_id = uuid4()

    stored = await submit(conn, anonymous_token=uuid4(), content_id=str(content_id).upper())

    assert stored["content_id"] == content_id
