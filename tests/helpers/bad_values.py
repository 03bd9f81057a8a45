"""What each argument of the public functions refuses, and odd values that it accepts."""

from __future__ import annotations

import enum
from collections import OrderedDict, UserDict, UserString
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from assessments import validation
from tests.helpers.calls import MOMENT

SURROGATE = "\ud800"


class Plain(enum.Enum):
    """An enum that is not JSON."""

    ONE = 1


class Level(enum.IntEnum):
    """An enum that is an int."""

    ONE = 1


class Word(str, enum.Enum):
    """An enum that is a str."""

    ONE = "a"


class MultiDict(dict[str, Any]):
    """A dict that shows the first of several values, as web frameworks' multi-dicts do."""

    def items(self) -> Any:
        """Return the first value of each key."""
        return [(key, value[0]) for key, value in super().items()]


class JsonList(list[Any]):
    """A subclass of list."""


class Token(UUID):
    """A subclass of UUID."""


class Cursor(NamedTuple):
    """A cursor as a named tuple."""

    created_at: datetime
    response_id: int


class Zone(tzinfo):
    """A time zone that returns, or raises, what it was made with."""

    def __init__(self, offset: Any) -> None:
        self.offset = offset

    def utcoffset(self, _when: datetime | None) -> Any:
        """Return or raise the offset."""
        if isinstance(self.offset, Exception):
            raise self.offset
        return self.offset

    dst = utcoffset
    tzname = utcoffset


class NotATime(datetime):
    """A datetime that is none, as data frames have it."""

    def utcoffset(self) -> Any:
        """Return itself."""
        return self

    def date(self) -> Any:
        """Refuse."""
        raise ValueError


def nested(levels: int, kind: Any = dict) -> dict[str, Any]:
    """Return an object of so many levels."""
    value: Any = kind()
    for _ in range(levels - 2):
        value = kind(a=value) if issubclass(kind, dict) else kind([value])
    return {"a": value}


def circular(kind: type = dict) -> dict[str, Any]:
    """Return an object that contains itself."""
    value = kind()
    value["self"] = [value]
    return value  # type: ignore[no-any-return]


def doubled() -> dict[str, Any]:
    """Return a small object whose JSON text would have over 2**30 characters."""
    value: dict[str, Any] = {"a": 1}
    for _ in range(30):
        value = {"a": value, "b": value}
    return value


def bad_json(max_bytes: int) -> list[tuple[str, Any]]:
    """Return what is no JSON object of at most *max_bytes*, or would not come back equal."""
    at_the_top: Any = ([], "{}", 1, True, [("a", 1)], UserDict(a=1), MappingProxyType({"a": 1}))
    no_json: Any = (
        *({1}, b"b", bytearray(b"b"), MOMENT, uuid4(), Decimal(1), Fraction(1), 1j, object(), ...),
        *(dict, Plain.ONE, range(3), (n for n in range(3)), {}.keys(), UserString("a")),
    )
    digits = validation.MAX_JSON_DIGITS
    return [
        *((f"{type(value).__name__} at the top", value) for value in at_the_top),
        *((f"{type(value).__name__} inside", {"a": value}) for value in no_json),
        *((f"{value} inside", {"a": [float(value)]}) for value in ("nan", "inf", "-inf")),
        *((f"key {key!r}", {"a": {key: 1}}) for key in (1, True, None, b"a", ("a",), 1.5)),
        ("keys of two kinds", {"a": 1, "1": 2, 1: 3}),
        ("int key in a subclass", OrderedDict({1: "a"})),
        ("NUL in a value", {"a": "b\0"}),
        ("NUL after a backslash", {"a": "\\\0"}),
        ("NUL in a key", {"a\0": 1}),
        ("NUL in a list", {"a": ["\0"]}),
        ("surrogate in a value", {"a": SURROGATE}),
        ("surrogate in a key", {SURROGATE: 1}),
        ("halves of a surrogate pair", {"a": "\ud83d", "b": "\ude00"}),
        ("tuple", {"a": (1, 2)}),
        ("named tuple", {"a": Cursor(MOMENT, 1)}),
        ("multi-dict", MultiDict(a=[1, 2])),
        ("multi-dict inside", {"a": MultiDict(b=[1, 2])}),
        ("int of 641 digits", {"a": 10**digits}),
        ("negative int of 641 digits", {"a": -(10**digits)}),
        ("int of 641 digits beside a large float", {"a": 1e16, "b": 10**digits}),
        ("int of 5000 digits", {"a": 10**5000}),
        ("float that JSONB rounds", {"a": 1e23}),
        ("33 levels", nested(validation.MAX_JSON_DEPTH + 1)),
        ("33 levels of lists", nested(validation.MAX_JSON_DEPTH + 1, list)),
        ("33 levels of a subclass", nested(validation.MAX_JSON_DEPTH + 1, JsonList)),
        ("100,000 levels", nested(100_000)),
        ("circular", circular()),
        ("circular, of a subclass", circular(OrderedDict)),
        ("doubled", doubled()),
        ("too large", {"a": "b" * (max_bytes - len('{"a":""}') + 1)}),
        ("too large in bytes", {"a": "é" * (max_bytes // 2)}),
        ("too large by escapes", {"a": '"' * (max_bytes // 2)}),
        ("too large in keys", {"b" * max_bytes: 1}),
        ("too many values", {"a": [None] * max_bytes}),
        ("too many keys", {str(number): None for number in range(max_bytes)}),
        ("too many values, of a subclass", {"a": JsonList([None] * max_bytes)}),
    ]


def shown(bad: list[Any]) -> list[tuple[str, Any]]:
    """Return the values of *bad* with their representations."""
    return [(repr(value)[:60], value) for value in bad]


BAD_TEXTS = [
    *shown([1, True, b"q", bytearray(b"q"), ["q"], Plain.ONE, UserString("q")]),
    ("NUL", "q\0"),
    *((repr(text), text) for text in (SURROGATE, "q\ud83d", "\ude00\ud83d")),
]
BAD_NAMES = [
    *BAD_TEXTS,
    ("empty", ""),
    ("too long", "q" * (validation.MAX_ID_CHARACTERS + 1)),
    ("far too long", "q" * 10**7),
]
BAD_ANSWERS = [
    *BAD_TEXTS,
    ("too long", "a" * (validation.MAX_ANSWER_BYTES + 1)),
    ("too long in bytes", "é" * (validation.MAX_ANSWER_BYTES // 2 + 1)),
    ("too long in four bytes", "𝔘" * (validation.MAX_ANSWER_BYTES // 4) + "a"),
]
BAD_INTS = [
    *shown([0, -1, True, False, 1.0, 1.5, "1", "", b"1", 1j, float("nan"), Decimal(1), [1], 2**63]),
    *shown([-(2**63), Fraction(1)]),
    ("5000 digits", 10**5000),
]
BAD_UUIDS = [
    *shown(["lesson-7", "", uuid4().hex, f"{{{uuid4()}}}", uuid4().urn, f" {uuid4()}"]),
    *shown([f"{uuid4()}\n", f"{uuid4()}\0", 1, True, uuid4().bytes, str(uuid4()).encode()]),
    ("digits of another script", "\uff11" * 8 + str(uuid4())[8:]),
    ("far too long", "0" * 10**7),
]
NIL = UUID(int=0)
BAD_RANDOM_UUIDS = [*BAD_UUIDS, *shown([NIL, Token(int=0), str(NIL)])]
BAD_TIMES = [
    *shown([MOMENT.replace(tzinfo=None), MOMENT.isoformat(), MOMENT.date(), MOMENT.timestamp()]),
    ("before year 1", datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))),
    ("after year 9999", datetime.max.replace(tzinfo=timezone(-timedelta(hours=14)))),
    ("a zone that raises", MOMENT.replace(tzinfo=Zone(KeyError("zone")))),
    *(
        (f"a zone that returns {offset!r}", MOMENT.replace(tzinfo=Zone(offset)))
        for offset in (None, 5, timedelta(days=3))
    ),
    ("not a time", NotATime(2026, 1, 1)),
]
BAD_BOOLS = shown([0, 1, "true", "", 1.0, [1]])
BAD_LISTS = [
    *shown(["q", 1, True, (each for each in "q"), iter(["q"])]),
    ("too many", ["q"] * (validation.MAX_BATCH + 1)),
    ("far too many", ["q"] * 10**6),
]
BAD_BATCHES: list[Any] = [
    *BAD_LISTS,
    *shown([None, b"q", {"q"}, {"q": 1}]),
    *(
        (f"{value!r} inside", [value], "[0]")
        for value in (None, [], "q", [("question_id", "q")], UserDict(question_id="q"))
    ),
]
# What each argument refuses, wherever it stands; None too, where it is required. A third item is
# the path within the argument that the error names.
BAD: dict[str, list[Any]] = {
    "user_id": BAD_INTS,
    **dict.fromkeys(("anonymous_token", "submission_key"), BAD_RANDOM_UUIDS),
    "content_id": BAD_UUIDS,
    **dict.fromkeys(
        ("question_id", "module_slug", "learning_outcome_id", "model_id", "prompt_version"),
        BAD_NAMES,
    ),
    "answer_text": BAD_ANSWERS,
    "answer_metadata": bad_json(validation.MAX_METADATA_BYTES),
    "score_data": bad_json(validation.MAX_SCORE_BYTES),
    **dict.fromkeys(("response_id", "limit", "up_to", "batch_size"), BAD_INTS),
    "after": [each for each in BAD_INTS if each[0] != "0"],
    **dict.fromkeys(("since", "until"), BAD_TIMES),
    "before": [
        *shown([MOMENT, (MOMENT,), (MOMENT, 1, 1), {MOMENT: 1, 1: MOMENT}, "ab", (None, 1)]),
        *shown([(1, MOMENT), (MOMENT, None)]),
        *((f"{what} as the time", (value, 1)) for what, value in BAD_TIMES),
        *((f"{what} as the key", (MOMENT, value)) for what, value in BAD_INTS),
    ],
    "older_than": [
        *shown([1, 1.5, "90d", True, timedelta(0), timedelta(microseconds=-1)]),
        *shown([timedelta(validation.MAX_DAYS, microseconds=1), timedelta.max, timedelta.min]),
    ],
    **dict.fromkeys(
        ("skip_answered", "dry_run", "human_first", "latest_attempts_only", "skip_human_scored"),
        BAD_BOOLS,
    ),
    "question_ids": [
        *BAD_LISTS,
        ("bytes", b"q"),
        ("None inside", ["q", None], "[1]"),
        *((f"{what} inside", ["q", value], "[1]") for what, value in BAD_NAMES),
    ],
    "response_ids": [
        *BAD_LISTS,
        ("bytes", b"q"),
        ("None inside", [1, None], "[1]"),
        *((f"{what} inside", [1, value], "[1]") for what, value in BAD_INTS),
    ],
    **dict.fromkeys(("responses", "scores"), BAD_BATCHES),
}
