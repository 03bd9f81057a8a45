"""What is not let in: a named error before the database is asked, and nothing is lost."""

from __future__ import annotations

import enum
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

import assessments
from assessments import inputs
from assessments.backoffice import record_score
from tests.support import submit

if TYPE_CHECKING:
    import asyncpg

NOW = datetime(2026, 11, 22, tzinfo=timezone.utc)
SURROGATE = "\ud800"


class Kind(enum.Enum):
    """What is no JSON."""

    ONE = 1


class Lossy(dict[str, Any]):
    """A dict that shows less than it holds, as multi-dicts do."""

    def items(self) -> Any:
        """Return the first of each."""
        return [(key, value[0]) for key, value in super().items()]


class Level(enum.IntEnum):
    """What is an int to JSON."""

    ONE = 1


def nested(levels: int) -> dict[str, Any]:
    """Return an object of so many levels."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def circular() -> dict[str, Any]:
    """Return an object that contains itself."""
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


BAD_JSON: list[tuple[str, Any]] = [
    ("a list at the top", []),
    ("a string at the top", "{}"),
    ("a number at the top", 1),
    ("NaN", {"a": float("nan")}),
    ("infinity", {"a": [float("inf")]}),
    ("minus infinity", {"a": {"b": float("-inf")}}),
    ("NUL in a value", {"a": "b\0"}),
    ("NUL in a key", {"a\0": 1}),
    ("NUL in a list", {"a": ["\0"]}),
    ("surrogate in a value", {"a": SURROGATE}),
    ("surrogate in a key", {SURROGATE: 1}),
    ("int key", {1: "a"}),
    ("bool key", {"a": {True: 1}}),
    ("None key", {None: 1}),
    ("tuple", {"a": (1, 2)}),
    ("set", {"a": {1}}),
    ("bytes", {"a": b"b"}),
    ("datetime", {"a": NOW}),
    ("UUID", {"a": uuid4()}),
    ("Decimal", {"a": Decimal(1)}),
    ("object", {"a": object()}),
    ("enum", {"a": Kind.ONE}),
    ("int of 641 digits", {"a": 10**640}),
    ("negative int of 641 digits", {"a": -(10**640)}),
    ("int of 5000 digits", {"a": 10**5000}),
    ("float that JSONB rounds", {"a": 1e23}),
    ("33 levels", nested(33)),
    ("circular", circular()),
    ("multi-dict", Lossy(a=[1, 2])),
    ("multi-dict inside", {"a": Lossy(b=[1, 2])}),
]

BAD_IDENTIFIERS: list[tuple[str, Any]] = [
    ("empty", ""),
    ("not a str", 1),
    ("bytes", b"q"),
    ("too long", "q" * 513),
    ("NUL", "q\0"),
    ("surrogate", SURROGATE),
]

BAD_SUBMITS: list[tuple[str, str, Any]] = [
    *(("question_id", what, value) for what, value in [*BAD_IDENTIFIERS, ("None", None)]),
    *(("module_slug", what, value) for what, value in [*BAD_IDENTIFIERS, ("None", None)]),
    *(("learning_outcome_id", what, value) for what, value in BAD_IDENTIFIERS),
    ("content_id", "not a UUID", "lesson-7"),
    ("content_id", "an int", 1),
    ("answer_text", "None", None),
    ("answer_text", "bytes", b"answer"),
    ("answer_text", "an int", 1),
    ("answer_text", "NUL", "an\0swer"),
    ("answer_text", "surrogate", "an" + SURROGATE),
    ("answer_text", "too long", "a" * (inputs.MAX_ANSWER_BYTES + 1)),
    ("answer_text", "too long in bytes", "é" * (inputs.MAX_ANSWER_BYTES // 2 + 1)),
    *(("answer_metadata", what, value) for what, value in BAD_JSON),
    ("answer_metadata", "too large", {"a": "b" * inputs.MAX_METADATA_BYTES}),
    ("answer_metadata", "too large in bytes", {"a": "é" * (inputs.MAX_METADATA_BYTES // 2)}),
    ("answer_metadata", "too many", {"a": [None] * inputs.MAX_METADATA_BYTES}),
]

BAD_READS: list[tuple[str, str, Any]] = [
    *(("module_slug", what, value) for what, value in BAD_IDENTIFIERS),
    *(("question_id", what, value) for what, value in BAD_IDENTIFIERS),
    *(("limit", repr(value), value) for value in (0, -1, True, 1.0, "1", 2**63)),
    ("before", "not a pair", NOW),
    ("before", "a pair too long", (NOW, 1, 1)),
    ("before", "naive", (NOW.replace(tzinfo=None), 1)),
    ("before", "a string", (NOW.isoformat(), 1)),
    ("before", "a date", (NOW.date(), 1)),
    ("before", "no key", (NOW, None)),
    ("before", "key of 0", (NOW, 0)),
    ("before", "before year 1", (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), 1)),
    ("before", "the pair reversed", (1, NOW)),
]

BAD_SCORES: list[tuple[str, str, Any]] = [
    *(("response_id", repr(value), value) for value in (None, 0, -1, True, 1.5, "1", 2**63)),
    *(("score_data", what, value) for what, value in [*BAD_JSON, ("None", None)]),
    ("score_data", "too large", {"a": "b" * inputs.MAX_SCORE_BYTES}),
    *(("model_id", what, value) for what, value in BAD_IDENTIFIERS),
    *(("prompt_version", what, value) for what, value in BAD_IDENTIFIERS),
]


def table(rows: list[tuple[str, str, Any]]) -> pytest.MarkDecorator:
    """Return the parametrization of a test by *rows*."""
    return pytest.mark.parametrize(
        ("parameter", "value"),
        [pytest.param(name, value, id=f"{name}: {what}") for name, what, value in rows],
    )


async def refused(call: Any, parameter: str, value: Any) -> None:
    """Check that *call* is refused for *parameter*, and not in words that hold *value*."""
    with pytest.raises(assessments.InvalidInput) as raised:
        await call
    error = raised.value
    assert error.parameter == parameter
    assert isinstance(error, ValueError)
    assert len(repr(error)) < 150
    assert error.__cause__ is error.__context__ is None
    if isinstance(value, str) and len(value) > 3:
        assert value not in repr(error)


@table(BAD_SUBMITS)
async def test_a_bad_submit_is_refused(
    conn: asyncpg.Connection[Any], parameter: str, value: Any
) -> None:
    """The error names the argument, nothing is stored, and the open transaction goes on."""
    async with conn.transaction():
        await refused(submit(conn, **{"user_id": 1, parameter: value}), parameter, value)
        assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0


@table(BAD_READS)
async def test_a_bad_read_is_refused(
    conn: asyncpg.Connection[Any], parameter: str, value: Any
) -> None:
    """The error names the argument, and the open transaction goes on."""
    async with conn.transaction():
        call = assessments.get_responses(conn, user_id=1, **{parameter: value})
        await refused(call, parameter, value)
        assert await assessments.get_responses(conn, user_id=1) == []


@table(BAD_SCORES)
async def test_a_bad_score_is_refused(
    conn: asyncpg.Connection[Any], parameter: str, value: Any
) -> None:
    """The error names the argument, nothing is stored, and the open transaction goes on."""
    arguments: dict[str, Any] = {"response_id": 1, "score_data": {}, parameter: value}
    async with conn.transaction():
        await refused(record_score(conn, **arguments), parameter, value)
        assert await conn.fetchval("SELECT count(*) FROM assessment_scores") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"answer_text": ""},
        {"answer_text": " \n\t"},
        {"answer_text": "a" * inputs.MAX_ANSWER_BYTES},
        {"answer_text": "é" * (inputs.MAX_ANSWER_BYTES // 2)},
        {"answer_text": "\ufffe\uffff\U0010ffff\u202e e\u0301 '; DROP TABLE users; --"},
        {"question_id": "é" * inputs.MAX_ID_CHARACTERS},
        {"question_id": " "},
        {"learning_outcome_id": "𝔘" * inputs.MAX_ID_CHARACTERS},
        {"answer_metadata": nested(inputs.MAX_JSON_DEPTH)},
        {"answer_metadata": {"a": "b" * (inputs.MAX_METADATA_BYTES - len('{"a":""}'))}},
        {"answer_metadata": {"a": 10**640 - 1, "b": -(10**640) + 1}},
        {"answer_metadata": OrderedDict(a=Level.ONE)},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_what_is_just_within_the_limits_is_let_in(
    conn: asyncpg.Connection[Any], changes: dict[str, Any]
) -> None:
    """A value at the limit, blank or odd is stored and comes back equal."""
    stored = await submit(conn, anonymous_token=uuid4(), **changes)

    assert {name: stored[name] for name in changes} == changes  # type: ignore[literal-required]


async def test_a_content_id_may_be_given_as_its_string(conn: asyncpg.Connection[Any]) -> None:
    """content_id comes back as a UUID however it was given."""
    content_id = uuid4()

    stored = await submit(conn, anonymous_token=uuid4(), content_id=str(content_id))

    assert stored["content_id"] == content_id
