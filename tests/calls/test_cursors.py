"""Cursors as text: each comes back equal, and no other text is accepted."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from struct import pack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import assessments
from assessments import InvalidInput, decode_cursor, encode_cursor
from tests.helpers.rows import SECRET, ids, submit_all

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DAY = 24 * 3600 * 10**6
LARGEST = 2**63 - 1
OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
FIRST = datetime(1, 1, 1, tzinfo=timezone.utc)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc)
ALPHABET = "AQgwBZaz09-_"
# Of any time zone, so that the instant in UTC is a datetime too.
moments = st.datetimes(
    (FIRST + timedelta(1)).replace(tzinfo=None),
    (LAST - timedelta(1)).replace(tzinfo=None),
    timezones=OFFSETS,
)
keys = st.integers(1, LARGEST)


def cursor(created_at: Any = EPOCH, response_id: Any = 1) -> str:
    """Return the cursor after a response with these two."""
    row: Any = {"created_at": created_at, "response_id": response_id}
    return encode_cursor(row)


def packed(microseconds: int, response_id: int) -> str:
    """Return text in the form of a cursor, whatever its numbers."""
    data = pack(">qq", microseconds, response_id)
    return urlsafe_b64encode(data).decode().rstrip("=")


def rejected(text: Any) -> InvalidInput:
    """Return the error of *text*, which is no cursor."""
    with pytest.raises(InvalidInput) as raised:
        decode_cursor(text)
    assert raised.value.parameter == "before"
    assert str(raised.value) == "before: must be the cursor of a page"
    assert raised.value.__context__ is None
    return raised.value


@given(moments, keys)
def test_a_cursor_comes_back_equal(created_at: datetime, response_id: int) -> None:
    """Every instant, to the microsecond and from any time zone, and every key."""
    decoded = decode_cursor(cursor(created_at, response_id))

    assert decoded == (created_at, response_id)
    assert decoded[0].utcoffset() == timedelta(0)


@pytest.mark.parametrize("instant", [FIRST, LAST])
def test_the_first_and_the_last_instant_come_back(instant: datetime) -> None:
    """Years 1 to 9999 in UTC, which are a datetime's."""
    assert decode_cursor(cursor(instant, LARGEST)) == (instant, LARGEST)


@given(moments, keys)
def test_a_cursor_needs_no_quoting_in_a_url(created_at: datetime, response_id: int) -> None:
    """It is 22 letters, digits, - and _."""
    text = cursor(created_at, response_id)

    assert len(text) == 22
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()


@given(
    st.text()
    | st.text(ALPHABET, min_size=22, max_size=22)
    | st.builds(packed, st.integers(-LARGEST - 1, LARGEST), st.integers(-LARGEST - 1, LARGEST))
    | st.builds(cursor, moments, keys)
)
def test_a_text_is_a_cursor_or_refused(text: str) -> None:
    """What is accepted is the one text of its cursor; all else is `InvalidInput`."""
    decoded = None
    with suppress(InvalidInput):
        decoded = decode_cursor(text)

    if decoded is None:
        rejected(text)
    else:
        assert cursor(*decoded) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        cursor()[:-1],
        cursor() + "=",
        cursor() + "\n",
        f" {cursor()}",
        cursor()[:-1] + "R",  # decodes to the same bytes
        cursor()[:5] + "+" + cursor()[6:],
        "٣" * 21 + "A",
        "\ud800" * 22,
        "\0" * 22,
        packed(0, 0),
        packed(0, -1),
        packed(-(719162 * DAY) - 1, 1),
        packed(2932897 * DAY, 1),
        packed(LARGEST, 1),
        packed(-LARGEST - 1, 1),
        5,
        cursor().encode(),
        (EPOCH, 1),
    ],
)
def test_another_text_is_refused_and_not_quoted(text: Any) -> None:
    """Cut, padded or forged text, and numbers out of range, are `InvalidInput` of *before*."""
    error = rejected(text)

    assert SECRET not in repr(error)


def test_the_first_page_has_no_cursor() -> None:
    """None is None, so that a handler passes on what it was given."""
    assert decode_cursor(None) is None


@pytest.mark.parametrize(
    ("row", "parameter"),
    [
        (None, "response"),
        ((EPOCH, 1), "response"),
        ({"response_id": 1}, "response.created_at"),
        ({"response_id": 1, "created_at": EPOCH.replace(tzinfo=None)}, "response.created_at"),
        ({"response_id": 1, "created_at": EPOCH.isoformat()}, "response.created_at"),
        ({"created_at": EPOCH}, "response.response_id"),
        ({"created_at": EPOCH, "response_id": 0}, "response.response_id"),
        ({"created_at": EPOCH, "response_id": True}, "response.response_id"),
        ({"created_at": EPOCH, "response_id": LARGEST + 1}, "response.response_id"),
    ],
)
def test_only_a_response_has_a_cursor(row: Any, parameter: str) -> None:
    """Anything else is `InvalidInput` that names what is wrong."""
    with pytest.raises(InvalidInput) as raised:
        encode_cursor(row)

    assert raised.value.parameter == parameter


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
async def test_pages_end_without_an_empty_one(
    conn: asyncpg.Connection[Any], token: UUID, size: int
) -> None:
    """A row more than the page holds tells whether there is another: each row comes once."""
    async with conn.transaction():  # one created_at: the key decides
        await submit_all(conn, ["q1", "q2"], anonymous_token=token)
    await submit_all(conn, ["q3", "q4", "q5"], anonymous_token=token)
    whole = await assessments.get_responses(conn, anonymous_token=token)

    pages, text, more = [], None, True
    while more:
        rows = await assessments.get_responses(
            conn, anonymous_token=token, limit=size + 1, before=decode_cursor(text)
        )
        more = len(rows) > size
        pages.append(rows[:size])
        text = encode_cursor(pages[-1][-1])

    assert [len(page) for page in pages] == [len(whole[at : at + size]) for at in range(0, 5, size)]
    assert [response_id for page in pages for response_id in ids(page)] == ids(whole)
