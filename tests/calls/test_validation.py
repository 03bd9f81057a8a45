"""What is not let in: a named error before the database is asked, and nothing is lost."""

from __future__ import annotations

import enum
import inspect
from collections import Counter, OrderedDict, UserDict, UserList, UserString, defaultdict
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import Mock
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

import assessments
from assessments import backoffice, inputs
from tests.helpers.observe import StatementLog
from tests.helpers.rows import submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import asyncpg

NOW = datetime(2026, 11, 22, tzinfo=timezone.utc)
SURROGATE = "\ud800"
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function
    for module in (assessments, backoffice)
    for name in module.__all__
    if inspect.isfunction(function := getattr(module, name))
}


class Kind(enum.Enum):
    """What is no JSON."""

    ONE = 1


class Level(enum.IntEnum):
    """What is an int to JSON."""

    ONE = 1


class Word(str, enum.Enum):
    """What is a str to JSON."""

    ONE = "a"


class Lossy(dict[str, Any]):
    """A dict that shows less than it holds, as multi-dicts do."""

    def items(self) -> Any:
        """Return the first of each."""
        return [(key, value[0]) for key, value in super().items()]


class Attributes(dict[str, Any]):
    """A dict of which a key is an attribute, *items* included."""

    def __init__(self, **items: Any) -> None:
        super().__init__(items)
        self.__dict__ = self


class Raising(dict[str, Any]):
    """A dict that cannot be read."""

    def items(self) -> Any:
        """Raise."""
        raise KeyError


class Same:
    """What says that it equals everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("question_id")


class Index:
    """What could be made an int."""

    def __index__(self) -> int:
        return 1


class Text(str):
    """A str of which every check would come out well."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1

    def __contains__(self, _part: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__

    def isascii(self) -> bool:
        """Say so."""
        return True

    def encode(self, *_: Any) -> bytes:
        """Say something else."""
        return b"a"

    def __str__(self) -> str:
        return "a"


class Number(int):
    """An int of which every check would come out well."""

    def __le__(self, other: object) -> bool:
        return True

    __ge__ = __lt__ = __gt__ = __le__

    def __int__(self) -> int:
        raise KeyError

    __index__ = __int__


class Fickle(list[Any]):
    """A list that shows something else each time."""

    times = 0

    def __iter__(self) -> Iterator[Any]:
        self.times += 1
        return iter([1] if self.times == 1 else [float("nan"), object()])


class Endless(UserList[Any]):
    """A sequence of the host's own that counts one element and never ends."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _index: Any) -> Any:
        return "q"

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield "q"


class Zone(tzinfo):
    """A time zone that answers with what it was made with, or raises it."""

    def __init__(self, offset: Any) -> None:
        self.offset = offset

    def utcoffset(self, _when: datetime | None) -> Any:
        """Answer."""
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

    def astimezone(self, _zone: tzinfo | None = None) -> Any:
        """Return itself."""
        return self


class NewerTime(datetime):
    """A datetime of a subclass, made in another way."""

    def __new__(cls, made: datetime | None = None, **_: Any) -> Any:
        """Refuse to be made as a datetime is."""
        if made is None:
            raise KeyError
        return datetime.__new__(cls, *made.timetuple()[:6], made.microsecond, made.tzinfo)


class Short(timedelta):
    """A timedelta that is within any bound."""

    def __le__(self, other: timedelta) -> bool:
        return True

    __lt__ = __gt__ = __ge__ = __le__


class Token(UUID):
    """A subclass of UUID."""


class Many(tuple[Any, ...]):
    """A tuple that counts two."""

    __slots__ = ()

    def __len__(self) -> int:
        return 2


class Cursor(NamedTuple):
    """A pair with names."""

    created_at: datetime
    response_id: int


def nested(levels: int) -> dict[str, Any]:
    """Return an object of so many levels."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def circular(kind: type = dict) -> dict[str, Any]:
    """Return an object that contains itself."""
    value = kind()
    value["self"] = [value]
    return value  # type: ignore[no-any-return]


def doubled(kind: type) -> dict[str, Any]:
    """Return a small object that is two to the power of 30 lines of JSON."""
    value: Any = kind(a=1)
    for _ in range(30):
        value = kind(a=value, b=value)
    return value  # type: ignore[no-any-return]


def deep(levels: int) -> dict[str, Any]:
    """Return an object of so many levels of lists of a subclass."""
    value: list[Any] = []
    for _ in range(levels):
        value = UserListOfJson([value])
    return {"a": value}


class UserListOfJson(list[Any]):
    """A list of a subclass that is honest."""


def bad_json(max_bytes: int) -> list[tuple[str, Any]]:
    """Return what is no JSON object of at most *max_bytes*, or not one that comes back equal."""
    return [
        ("a list at the top", []),
        ("a string at the top", "{}"),
        ("a number at the top", 1),
        ("True at the top", True),
        ("pairs at the top", [("a", 1)]),
        ("UserDict at the top", UserDict(a=1)),
        ("proxy at the top", MappingProxyType({"a": 1})),
        ("mock at the top", Mock(spec=dict)),
        ("NaN", {"a": float("nan")}),
        ("infinity", {"a": [float("inf")]}),
        ("minus infinity", {"a": {"b": float("-inf")}}),
        ("NUL in a value", {"a": "b\0"}),
        ("NUL in a key", {"a\0": 1}),
        ("NUL in a list", {"a": ["\0"]}),
        ("NUL in a value that says no", {"a": Text("\0")}),
        ("NUL in a key that says no", {Text("\0"): 1}),
        ("surrogate in a value", {"a": SURROGATE}),
        ("surrogate in a key", {SURROGATE: 1}),
        ("surrogate in a value that says no", {"a": Text(SURROGATE)}),
        ("halves of a pair", {"a": "\ud83d", "b": "\ude00"}),
        ("int key", {1: "a"}),
        ("bool key", {"a": {True: 1}}),
        ("None key", {None: 1}),
        ("bytes key", {b"a": 1}),
        ("tuple key", {("a",): 1}),
        ("key of two kinds", {"a": 1, Same(): 2}),
        ("int key in a subclass", OrderedDict({1: "a"})),
        ("tuple", {"a": (1, 2)}),
        ("named tuple", {"a": Cursor(NOW, 1)}),
        ("set", {"a": {1}}),
        ("bytes", {"a": b"b"}),
        ("bytearray", {"a": bytearray(b"b")}),
        ("datetime", {"a": NOW}),
        ("UUID", {"a": uuid4()}),
        ("Decimal", {"a": Decimal(1)}),
        ("Fraction", {"a": Fraction(1)}),
        ("complex", {"a": 1j}),
        ("object", {"a": object()}),
        ("what equals everything", {"a": Same()}),
        ("ellipsis", {"a": ...}),
        ("type", {"a": dict}),
        ("enum", {"a": Kind.ONE}),
        ("range", {"a": range(3)}),
        ("generator", {"a": (n for n in range(3))}),
        ("keys of a dict", {"a": {}.keys()}),
        ("mock of a str", {"a": Mock(spec=str)}),
        ("mock of a dict", {"a": Mock(spec=dict)}),
        ("UserString", {"a": UserString("a")}),
        ("int of 641 digits", {"a": 10**inputs.MAX_JSON_DIGITS}),
        ("negative int of 641 digits", {"a": -(10**inputs.MAX_JSON_DIGITS)}),
        ("int of 5000 digits", {"a": 10**5000}),
        ("int of 5000 digits in bounds", {"a": Number(10**5000)}),
        ("float that JSONB rounds", {"a": 1e23}),
        ("33 levels", nested(inputs.MAX_JSON_DEPTH + 1)),
        ("33 levels of lists", {"a": [nested(inputs.MAX_JSON_DEPTH - 1)]}),
        ("levels of a subclass", deep(inputs.MAX_JSON_DEPTH)),
        ("100,000 levels", nested(100_000)),
        ("100,000 levels of a subclass", deep(100_000)),
        ("circular", circular()),
        ("circular, of a subclass", circular(OrderedDict)),
        ("doubled", doubled(dict)),
        ("doubled, of a subclass", doubled(OrderedDict)),
        ("multi-dict", Lossy(a=[1, 2])),
        ("multi-dict inside", {"a": Lossy(b=[1, 2])}),
        ("dict that cannot be read", Raising(a=1)),
        ("dict inside that cannot be read", {"a": [Raising(a=1)]}),
        ("too large", {"a": "b" * (max_bytes - len('{"a":""}') + 1)}),
        ("too large in bytes", {"a": "é" * (max_bytes // 2)}),
        ("too large by escapes", {"a": '"' * (max_bytes // 2)}),
        ("too large in keys", {"b" * max_bytes: 1}),
        ("too many", {"a": [None] * max_bytes}),
        ("too many keys", {str(number): None for number in range(max_bytes)}),
        ("too many, of a subclass", {"a": UserListOfJson([None] * max_bytes)}),
    ]


BAD_NAMES: list[tuple[str, Any]] = [
    ("empty", ""),
    ("an int", 1),
    ("True", True),
    ("bytes", b"q"),
    ("bytearray", bytearray(b"q")),
    ("a list", ["q"]),
    ("an enum", Kind.ONE),
    ("UserString", UserString("q")),
    ("a mock", Mock(spec=str)),
    ("what equals everything", Same()),
    ("too long", "q" * (inputs.MAX_ID_CHARACTERS + 1)),
    ("far too long", "q" * 10**7),
    ("NUL", "q\0"),
    ("surrogate", SURROGATE),
    ("half a pair", "q\ud83d"),
    ("halves in the wrong order", "\ude00\ud83d"),
    ("empty that says no", Text("")),
    ("too long that says no", Text("q" * 513)),
    ("NUL that says no", Text("q\0")),
    ("surrogate that says no", Text(SURROGATE)),
]
BAD_ANSWERS: list[tuple[str, Any]] = [
    *(each for each in BAD_NAMES if "empty" not in each[0] and "long" not in each[0]),
    ("too long", "a" * (inputs.MAX_ANSWER_BYTES + 1)),
    ("too long in bytes", "é" * (inputs.MAX_ANSWER_BYTES // 2 + 1)),
    ("too long in four bytes", "𝔘" * (inputs.MAX_ANSWER_BYTES // 4) + "a"),
    ("too long that says no", Text("a" * (inputs.MAX_ANSWER_BYTES + 1))),
]
BAD_INTS: list[tuple[str, Any]] = [
    *((f"{value!r}", value) for value in (0, -1, True, False, 1.0, 1.5, "1", "", b"1", 1j)),
    *((f"{value!r}", value) for value in (float("nan"), Decimal(1), Fraction(1), [1], 2**63)),
    ("-2**63", -(2**63)),
    ("5000 digits", 10**5000),
    ("what could be an int", Index()),
    ("a mock", Mock(spec=int)),
    ("what equals everything", Same()),
    ("0 that says no", Number(0)),
    ("-1 that says no", Number(-1)),
    ("2**63 that says no", Number(2**63)),
]
BAD_UUIDS: list[tuple[str, Any]] = [
    ("text", "lesson-7"),
    ("empty", ""),
    ("no hyphens", uuid4().hex),
    ("braces", f"{{{uuid4()}}}"),
    ("URN", uuid4().urn),
    ("a space before", f" {uuid4()}"),
    ("a line end after", f"{uuid4()}\n"),
    ("NUL after", f"{uuid4()}\0"),
    ("digits of another script", "１" * 8 + str(uuid4())[8:]),
    ("far too long", "0" * 10**7),
    ("an int", 1),
    ("bytes", uuid4().bytes),
    ("its text in bytes", str(uuid4()).encode()),
    ("True", True),
    ("a mock", Mock(spec=UUID)),
    ("what equals everything", Same()),
    ("text that says no", Text("lesson-7")),
]
BAD_SECRETS = [
    *BAD_UUIDS,
    ("nil", UUID(int=0)),
    ("nil of a subclass", Token(int=0)),
    ("nil as a string", str(UUID(int=0))),
]
BAD_MOMENTS: list[tuple[str, Any]] = [
    ("naive", NOW.replace(tzinfo=None)),
    ("the last, naive", datetime.max),  # noqa: DTZ901 - that is what is bad
    ("a string", NOW.isoformat()),
    ("a date", NOW.date()),
    ("a time", NOW.timetz()),
    ("a number", NOW.timestamp()),
    ("a mock", Mock(spec=datetime)),
    ("what equals everything", Same()),
    ("before year 1", datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))),
    ("after year 9999", datetime.max.replace(tzinfo=timezone(-timedelta(hours=14)))),
    ("a zone without an offset", NOW.replace(tzinfo=Zone(None))),
    ("a zone that does not answer", NOW.replace(tzinfo=tzinfo())),  # type: ignore[abstract]
    ("a zone that raises", NOW.replace(tzinfo=Zone(KeyError("zone")))),
    ("a zone of ints", NOW.replace(tzinfo=Zone(5))),
    ("a zone of days", NOW.replace(tzinfo=Zone(timedelta(days=3)))),
    ("not a time", NotATime(2026, 1, 1)),
]
BAD_BOOLS: list[tuple[str, Any]] = [
    *((f"{value!r}", value) for value in (0, 1, "true", "", 1.0, [1])),
    ("a mock", Mock(spec=bool)),
    ("what equals everything", Same()),
]
BAD_LISTS: list[tuple[str, Any]] = [
    ("a string", "q"),
    ("a str of a subclass", Text("q")),
    ("an int", 1),
    ("True", True),
    ("a generator", (each for each in "q")),
    ("an iterator", iter(["q"])),
    ("a mock", Mock(spec=list)),
    ("what equals everything", Same()),
    ("too many", ["q"] * (inputs.MAX_BATCH + 1)),
    ("far too many", ["q"] * 10**6),
    ("endless", Endless()),
]
BAD_BATCHES: list[Any] = [
    *BAD_LISTS,
    ("None", None),
    ("bytes", b"q"),
    ("a set", {"q"}),
    ("a dict", {"q": 1}),
    ("None inside", [None], "[0]"),
    ("a list inside", [[]], "[0]"),
    ("a string inside", ["q"], "[0]"),
    ("pairs inside", [[("question_id", "q")]], "[0]"),
    ("UserDict inside", [UserDict(question_id="q")], "[0]"),
    ("a mock inside", [Mock(spec=dict)], "[0]"),
]
# What each argument refuses, wherever it stands; None too, where it has to be given. A third
# item is the place within the argument that the error names.
BAD: dict[str, list[Any]] = {
    "user_id": BAD_INTS,
    "anonymous_token": BAD_SECRETS,
    "submission_key": BAD_SECRETS,
    "content_id": BAD_UUIDS,
    **dict.fromkeys(
        ("question_id", "module_slug", "learning_outcome_id", "model_id", "prompt_version"),
        BAD_NAMES,
    ),
    "answer_text": BAD_ANSWERS,
    "answer_metadata": bad_json(inputs.MAX_METADATA_BYTES),
    "score_data": bad_json(inputs.MAX_SCORE_BYTES),
    **dict.fromkeys(("response_id", "limit", "up_to", "batch_size"), BAD_INTS),
    "after": [each for each in BAD_INTS if each[0] != "0"],
    **dict.fromkeys(("since", "until"), BAD_MOMENTS),
    "before": [
        ("not a pair", NOW),
        ("one", (NOW,)),
        ("a pair too long", (NOW, 1, 1)),
        ("too long that says no", Many((NOW, 1, 1))),
        ("a dict", {NOW: 1, 1: NOW}),
        ("a string of two", "ab"),
        ("a mock", Mock(spec=tuple)),
        ("no moment", (None, 1)),
        ("the pair reversed", (1, NOW)),
        ("None for a key", (NOW, None)),
        *((f"{what} for a moment", (value, 1)) for what, value in BAD_MOMENTS),
        *((f"{what} for a key", (NOW, value)) for what, value in BAD_INTS),
    ],
    "older_than": [
        *((f"{value!r}", value) for value in (1, 1.5, "90d", True)),
        ("zero", timedelta(0)),
        ("below zero", timedelta(microseconds=-1)),
        ("too long", timedelta(inputs.MAX_DAYS, microseconds=1)),
        ("the longest", timedelta.max),
        ("the shortest", timedelta.min),
        ("zero that says no", Short(0)),
        ("too long that says no", Short(10**9 - 1)),
        ("a mock", Mock(spec=timedelta)),
        ("what equals everything", Same()),
    ],
    **dict.fromkeys(("skip_answered", "dry_run"), BAD_BOOLS),
    "question_ids": [
        *BAD_LISTS,
        ("bytes", b"q", "[0]"),
        ("None inside", ["q", None], "[1]"),
        *((f"{what} inside", ["q", value], "[1]") for what, value in BAD_NAMES),
    ],
    **dict.fromkeys(("responses", "scores"), BAD_BATCHES),
}
GOOD: dict[str, dict[str, Any]] = {
    "submit_response": {
        "user_id": 1,
        "anonymous_token": None,
        "question_id": "q1",
        "module_slug": "m1",
        "learning_outcome_id": "lo1",
        "content_id": uuid4(),
        "answer_text": "Because.",
        "answer_metadata": {"a": 1},
        "submission_key": uuid4(),
    },
    "get_responses": {
        "user_id": 1,
        "anonymous_token": uuid4(),
        "module_slug": "m1",
        "question_id": "q1",
        "limit": 1,
        "before": (NOW, 1),
    },
    "get_responses_for_question": {
        "user_id": 1,
        "anonymous_token": uuid4(),
        "question_id": "q1",
    },
    "get_latest_responses": {
        "user_id": 1,
        "anonymous_token": uuid4(),
        "module_slug": "m1",
        "question_ids": ["q1"],
    },
    "claim_assessment_responses": {
        "anonymous_token": uuid4(),
        "user_id": 1,
        "skip_answered": True,
    },
    "delete_responses": {"user_id": 1, "anonymous_token": uuid4()},
    "get_scores": {"response_id": 1, "user_id": 1, "anonymous_token": uuid4()},
    "record_score": {
        "response_id": 1,
        "score_data": {},
        "model_id": "m1",
        "prompt_version": "p1",
    },
    "get_unscored_responses": {
        "model_id": "m1",
        "prompt_version": "p1",
        "limit": 1,
        "after": 0,
        "up_to": 1,
    },
    "iter_responses": {
        "user_id": 1,
        "anonymous_token": uuid4(),
        "module_slug": "m1",
        "question_id": "q1",
        "since": NOW,
        "until": NOW,
        "batch_size": 1,
    },
    "purge_anonymous_responses": {
        "older_than": timedelta(days=1),
        "limit": 1,
        "dry_run": True,
    },
}
GOOD["get_responses_with_latest_score"] = GOOD["get_responses"]
GOOD["submit_responses"] = {"responses": [GOOD["submit_response"]]}
GOOD["record_scores"] = {"scores": [GOOD["record_score"]]}


def parameters(function: str) -> dict[str, inspect.Parameter]:
    """Return what *function* takes beside the connection."""
    every = inspect.signature(FUNCTIONS[function]).parameters
    return {name: parameter for name, parameter in every.items() if name != "conn"}


def optional(function: str, name: str) -> bool:
    """Return whether ``None`` is as good as nothing."""
    return parameters(function)[name].default is None


async def called(function: str, conn: Any, arguments: dict[str, Any]) -> Any:
    """Return what *function* returns, as a list if it yields."""
    answer = FUNCTIONS[function](conn, **arguments)
    return [row async for row in answer] if inspect.isasyncgen(answer) else await answer


class Case(NamedTuple):
    """A call with one bad argument, and the parameter that the error names."""

    function: str
    what: str
    arguments: dict[str, Any]
    parameter: str
    value: Any = None


def bad_arguments(function: str) -> Iterator[Case]:
    """Yield *function* with each of its arguments bad in every way."""
    for name in GOOD[function]:
        bad = list(BAD[name])
        if not optional(function, name) and name not in ("responses", "scores"):
            bad.append(("None", None))
        for what, value, *place in bad:
            arguments = {**GOOD[function], name: value}
            if function == "submit_response" and name == "anonymous_token":
                arguments["user_id"] = None
            yield Case(function, f"{name}: {what}", arguments, name + "".join(place), value)


def bad_owners(function: str) -> Iterator[Case]:
    """Yield *function* without an owner and, where one is written, with two."""
    good = GOOD[function]
    if function not in ("claim_assessment_responses", "iter_responses"):
        none = {**good, "user_id": None, "anonymous_token": None}
        yield Case(function, "no owner", none, "user_id")
    if function == "submit_response":
        yield Case(function, "two owners", {**good, "anonymous_token": uuid4()}, "user_id")


def bad_elements(batch: str, parameter: str, single: str) -> Iterator[Case]:
    """Yield *batch* with each argument of *single* bad in its second element, or not there."""
    good = GOOD[single]
    place = f"{parameter}[1]"

    def case(what: str, element: Any, where: str, value: Any = None) -> Case:
        return Case(batch, f"[1].{what}", {parameter: [good, element, good]}, where, value)

    for bad in (*bad_arguments(single), *(bad_owners(single) if "user_id" in good else ())):
        yield case(bad.what, bad.arguments, f"{place}.{bad.parameter}", bad.value)
    for name, needed in parameters(single).items():
        if needed.default is inspect.Parameter.empty:
            rest = {key: value for key, value in good.items() if key != name}
            yield case(f"no {name}", rest, f"{place}.{name}")
    for key in ("conn", "self", "Question_id", "", 1, None, ("question_id",), Text("conn")):
        yield case(f"{key!r} too much", {**good, key: 1}, place)


def bad_calls() -> Iterator[Case]:
    """Yield every call that is to be refused."""
    for function, good in GOOD.items():
        yield from bad_arguments(function)
        if "anonymous_token" in good:
            yield from bad_owners(function)
    yield from bad_elements("submit_responses", "responses", "submit_response")
    yield from bad_elements("record_scores", "scores", "record_score")


async def miss(conn: asyncpg.Connection[Any], sent: StatementLog, case: Case) -> str | None:
    """Return what is wrong with how *case* is refused, within an open transaction."""
    await sent.complete()
    sent.clear()
    try:
        await called(case.function, conn, case.arguments)
    except assessments.InvalidInput as error:
        if problem := wrong_with(error, case):
            return problem
    except Exception as error:  # noqa: BLE001 - whatever else is a miss
        return repr(error)[:100]
    else:
        return "is let in"
    usable = await conn.fetchval("SELECT 1") == 1
    return None if usable and await sent.complete() == ["SELECT 1"] else "sends something"


def wrong_with(error: assessments.InvalidInput, case: Case) -> str | None:
    """Return what is wrong with the *error* that *case* raises."""
    said = repr(error) + str(error)
    quotable = type(case.value) is str and len(case.value) > 3
    if error.parameter != case.parameter:
        return f"names {error.parameter}"
    if error.__cause__ or error.__context__:
        return "has a chain"
    return "quotes" if len(said) > 600 or (quotable and case.value in said) else None


@pytest.mark.parametrize("function", sorted(FUNCTIONS.keys() - {"create_pool"}))
def test_every_argument_has_its_bad_inputs(function: str) -> None:
    """The tables leave out no argument of any function, nor of any element of a batch."""
    assert GOOD[function].keys() == parameters(function).keys()
    assert GOOD[function].keys() <= BAD.keys()


async def test_every_bad_input_is_refused(
    conn: asyncpg.Connection[Any], figures: Callable[..., None]
) -> None:
    """The error names the argument, nothing is sent, and the open transaction goes on."""
    misses, tried = [], 0
    async with conn.transaction():
        sent = StatementLog(conn)
        for tried, case in enumerate(bad_calls(), start=1):  # noqa: B007 - the last is the count
            if problem := await miss(conn, sent, case):
                misses.append(f"{case.function}, {case.what}: {problem}")
        assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0

    figures("bad inputs", tried=tried, misses=len(misses))
    assert "\n".join(misses) == ""
    assert tried > 1500


GOOD_JSON: list[Any] = [
    {},
    nested(inputs.MAX_JSON_DEPTH),
    {"a": "b" * (inputs.MAX_METADATA_BYTES - len('{"a":""}'))},
    {"a": "é" * (inputs.MAX_METADATA_BYTES // 2 - 4)},
    {"a": 10**inputs.MAX_JSON_DIGITS - 1, "b": -(10**inputs.MAX_JSON_DIGITS) + 1},
    {"a": [0.0, -0.0, 5e-324, 1e16, 1e22, 9007199254740993, 2**63, -(2**63) - 1]},
    {"a": [2.2250738585072014e-308, 0.1, 1e-7, 123456789.123456789]},
    {"\\u0000": "\\u0000", "": {"": ""}, "\U0010ffff": "\ufffe\uffff\ud7ff\ue000"},
    {"a": [[], {}, [[]], [{}]], "b": [None, True, False]},
    OrderedDict(b=Level.ONE, a=[OrderedDict(c=Word.ONE)]),
    {Word.ONE: {Text("b"): Text("c")}},
    defaultdict(list, a=UserListOfJson([1, [Number(2)]])),
    Counter("abba"),
    Attributes(items=[1], keys={"values": 2}),
    {"a": [Attributes(items=1)]},
]
GOOD_VALUES: list[tuple[str, Any]] = [
    *(("answer_metadata", value) for value in GOOD_JSON),
    ("answer_text", ""),
    ("answer_text", " \n\t"),
    ("answer_text", "a" * inputs.MAX_ANSWER_BYTES),
    ("answer_text", "é" * (inputs.MAX_ANSWER_BYTES // 2)),
    ("answer_text", "𝔘" * (inputs.MAX_ANSWER_BYTES // 4)),
    ("answer_text", "\ufffe\uffff\U0010ffff\u202e e\u0301 '; DROP TABLE users; --"),
    ("answer_text", "\ufeff\x01\x7f\x80\\000 \\x00 %s :name $1 {}"),
    ("answer_text", Word.ONE),
    ("answer_text", Text("ab" * 300)),
    ("question_id", "é" * inputs.MAX_ID_CHARACTERS),
    ("question_id", " "),
    ("question_id", Text("q" * inputs.MAX_ID_CHARACTERS)),
    ("module_slug", Word.ONE),
    ("learning_outcome_id", "𝔘" * inputs.MAX_ID_CHARACTERS),
    ("content_id", UUID(int=0)),
    ("content_id", UUID(int=2**128 - 1)),
    ("content_id", Token(int=7)),
    ("anonymous_token", UUID(int=1)),
]


def held(value: Any) -> Any:
    """Return what *value* holds as JSON has it, whatever its class says."""
    if isinstance(value, dict):
        return {str.__str__(key): held(item) for key, item in dict.items(value)}
    if isinstance(value, list):
        return [held(item) for item in list.copy(value)]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__add__(value, 0)
    return value


async def test_what_is_just_within_the_limits_is_let_in(conn: asyncpg.Connection[Any]) -> None:
    """A value at the limit, blank, odd or of a subclass is stored and comes back equal."""
    for name, value in GOOD_VALUES:
        given = {"anonymous_token": uuid4(), name: value}
        stored: Any = await submit(conn, **given)

        assert stored[name] == held(value), name


async def test_a_subclass_is_what_it_holds(conn: asyncpg.Connection[Any], user_id: int) -> None:
    """Keys, counts, cursors, moments and ages of a subclass do what plain ones do."""
    rows = [await submit(conn, user_id=Number(user_id)) for _ in range(3)]
    newest, cursor = rows[-1], Cursor(rows[1]["created_at"], Number(rows[1]["response_id"]))
    berlin = rows[1]["created_at"].astimezone(ZoneInfo("Europe/Berlin"))

    get: Any = partial(assessments.get_responses, conn, user_id=user_id)
    assert await get(limit=Number(1)) == [newest]
    assert await get(limit=Level.ONE) == [newest]
    assert await get(before=cursor) == rows[:1]
    assert await get(before=[berlin, rows[1]["response_id"]]) == rows[:1]
    walked = backoffice.iter_responses(conn, until=NewerTime(rows[1]["created_at"]))
    assert [row async for row in walked] == rows[:1]
    assert await backoffice.purge_anonymous_responses(conn, older_than=Short(days=1)) == 0
    questions = UserListOfJson([Word.ONE, Text("q1")])
    latest = assessments.get_latest_responses(conn, user_id=user_id, question_ids=questions)
    assert await latest == [newest]


@pytest.mark.parametrize("fold", [0, 1])
async def test_a_moment_is_the_same_moment_in_any_zone(
    conn: asyncpg.Connection[Any], fold: int
) -> None:
    """An hour that comes twice, or never, in a zone is the moment that Python takes it for."""
    twice = datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin"))
    never = datetime(2026, 3, 29, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin"))
    for moment in (twice, never, datetime.min.replace(tzinfo=timezone.utc)):
        stored = await submit(conn, anonymous_token=uuid4())
        key = stored["response_id"]
        same = moment.astimezone(timezone.utc)
        await conn.execute(
            "UPDATE assessment_responses SET created_at = $1 WHERE response_id = $2", same, key
        )
        just_after = same + timedelta(microseconds=1)
        for until, found in ((moment, 0), (just_after, 1)):
            walk = backoffice.iter_responses(conn, since=same, until=until)
            assert [row["response_id"] async for row in walk] == [key] * found
        await assessments.delete_responses(conn, anonymous_token=stored["anonymous_token"])


async def test_a_content_id_may_be_given_as_its_string(conn: asyncpg.Connection[Any]) -> None:
    """content_id comes back as a UUID however it was given."""
    content_id = uuid4()

    stored = await submit(conn, anonymous_token=uuid4(), content_id=Text(content_id))

    assert stored["content_id"] == content_id


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("dsn", value) for value in (None, 1, b"postgresql://", "postgresql://[::1", Same())),
        *(("pooler", value) for value in ("session", "", True, 1, "Transaction")),
    ],
)
def test_a_pool_of_bad_options_is_refused(parameter: str, value: Any) -> None:
    """create_pool names the argument, too, before it connects to anything."""
    arguments = {"dsn": "postgresql://u:hunter2@h/d", parameter: value}

    with pytest.raises(assessments.InvalidInput) as raised:
        assessments.create_pool(**arguments)

    assert raised.value.parameter == parameter
    assert "hunter2" not in repr(raised.value)
