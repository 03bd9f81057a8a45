"""Whatever codecs a host has set, rows keep the types of the records, and which row is whose.

`test_json.py` has the codecs for JSON.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import (
    SubmissionConflict,
    UnknownResponse,
    UnknownUser,
    UnsupportedCodec,
    get_responses,
    records,
    submit_responses,
)
from assessments.backoffice import iter_responses, iter_responses_with_scores, record_scores
from tests.helpers import pages
from tests.helpers.calls import RECORDS, SUBMITS, Subject, catalogue
from tests.helpers.codecs import KEY_CODECS, Decoded, set_codecs
from tests.helpers.observe import everything_shown
from tests.helpers.rows import counts, new_response, submit, submit_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from assessments import NewScore

    Connection = asyncpg.Connection[Any]


@pytest.fixture(params=KEY_CODECS)
async def coded(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Connection]:
    """Return a connection with codecs, on which PostgreSQL prints times at an offset."""
    connection = await asyncpg.connect(database, server_settings={"timezone": "Asia/Tokyo"})
    await set_codecs(connection, KEY_CODECS[request.param])
    yield connection
    await connection.close()


def typed(result: Any) -> Any:
    """Return *result* with its types; a host's text is the text that it stands for."""
    if isinstance(result, dict):
        return {name: typed(value) for name, value in result.items()}
    if isinstance(result, list):
        return [typed(item) for item in result]
    if isinstance(result, Decoded):
        return str, result.text
    if isinstance(result, datetime):
        return type(result), result, result.tzinfo
    return UUID if isinstance(result, UUID) else type(result), result


def unidentified(result: Any) -> Any:
    """Return *result*, with its types, without the keys and times of new rows."""
    rows = result if isinstance(result, list) else [result]
    new = ("response_id", "score_id", "created_at")
    return [
        {name: typed(value)[0] if name in new else typed(value) for name, value in row.items()}
        for row in rows
    ]


async def test_every_call_returns_the_same_under_every_codec(
    coded: Connection, conn: Connection, token: UUID, user_id: int
) -> None:
    """Rows have the same values and types, in the same order; counts are the same."""
    for question in ("q1", "q1", "q2"):
        row = await submit(conn, question, anonymous_token=token, content_id=uuid4())
    await submit(conn, user_id=user_id, content_id=uuid4())
    await submit(conn, user_id=user_id)  # the first of a list, whose UUIDs are null
    calls = catalogue(Subject(user_id, token, row["response_id"], {"anonymous_token": token}))
    for name, call in calls.items():
        results = []
        for connection in (conn, coded):
            transaction = connection.transaction()
            await transaction.start()
            results.append(await call(connection))
            await transaction.rollback()
        expected, found = map(unidentified if name in SUBMITS | RECORDS else typed, results)
        assert expected == found, name


async def test_an_iteration_continues_after_its_last_row_under_every_codec(
    coded: Connection, conn: Connection, token: UUID
) -> None:
    """Its cursor is of the records' types, whatever the codec has decoded."""
    await submit_all(conn, ("q1", "q2", "q3"), anonymous_token=token)
    for iterate in (iter_responses, iter_responses_with_scores):
        rows = [row async for row in iterate(coded, batch_size=1)]

        assert [str(row["question_id"]) for row in rows] == ["q1", "q2", "q3"]


async def test_the_page_s_codec_changes_no_type(pool: asyncpg.Pool[Any], token: UUID) -> None:
    """The block of docs/hosts.md does what the page says."""
    (block,) = pages.blocks("docs/hosts.md", "python", "Codecs")
    names = {"assessments": assessments, "pool": pool, "token": token}
    await pages.run(block, names)

    (row,) = await get_responses(pool, anonymous_token=token)
    assert names["row"] == row


@pytest.mark.parametrize(
    ("name", "decoder", "column"),
    [
        ("uuid", lambda text: text[:8], "anonymous_token"),
        ("uuid", lambda text: text.encode(), "anonymous_token"),
        ("int8", lambda text: float(text) + 0.5, "response_id"),
        ("int8", lambda text: float(text) + 2**53, "response_id"),
        ("int8", lambda text: f"number {text}", "response_id"),
        ("timestamptz", lambda text: datetime.fromisoformat(text[:19]), "created_at"),
        ("timestamptz", lambda text: text[:10], "created_at"),
    ],
)
async def test_what_cannot_be_read_as_its_type_is_an_error_that_names_the_column(
    conn: Connection, token: UUID, name: str, decoder: Callable[[str], Any], column: str
) -> None:
    """No value is guessed, and none is quoted."""
    await submit(conn, anonymous_token=token)
    await set_codecs(conn, {name: {"encoder": str, "decoder": decoder, "format": "text"}})

    with pytest.raises(UnsupportedCodec) as raised:
        await get_responses(conn, anonymous_token=token)

    assert raised.value.column == column
    assert str(raised.value).startswith(f"{column}: ")
    assert str(token)[:8] not in everything_shown(raised.value)
    assert raised.value.__context__ is None


async def test_what_a_codec_cannot_encode_is_an_error_that_quotes_nothing(
    conn: Connection, token: UUID
) -> None:
    """A codec that takes neither our value nor its text ends the call before it is sent."""
    await set_codecs(conn, {"uuid": {"encoder": int, "decoder": str, "format": "text"}})

    with pytest.raises(asyncpg.DataError) as raised:
        await submit(conn, anonymous_token=token)

    assert str(token) not in everything_shown(raised.value)
    assert await counts(conn) == (0, 0)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2026-11-26 02:32:45.5+00",
            "2026-11-26 08:02:45.5+05:30",
            "2026-11-26T08:02:45.500+0530",
        ),
        *("2026-11-26T02:32:45.500000Z", "2026-11-25 23:32:45.50-03"),
    ],
)
async def test_a_time_is_read_in_each_form_of_iso_8601(
    conn: Connection, token: UUID, text: str
) -> None:
    """PostgreSQL's own, and those that a host's class may print, on every Python."""
    await submit(conn, anonymous_token=token)
    codec = {"encoder": str, "decoder": lambda _: text, "format": "text"}
    await set_codecs(conn, {"timestamptz": codec})

    (row,) = await get_responses(conn, anonymous_token=token)

    expected = datetime(2026, 11, 26, 2, 32, 45, 500_000, timezone.utc)
    assert typed(row["created_at"]) == typed(expected)


async def test_without_a_codec_nothing_is_turned_back(
    conn: Connection, token: UUID, user_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that asyncpg has decoded are recognised as they are, by looking at them."""
    monkeypatch.delattr(records, "restore_types")
    row = await submit(conn, anonymous_token=token, content_id=uuid4())
    subject = Subject(user_id, token, row["response_id"], {"anonymous_token": token})

    for call in catalogue(subject).values():
        await call(conn)


async def test_an_infinite_time_is_as_asyncpg_decodes_it(conn: Connection, token: UUID) -> None:
    """A row that the host has dated so is no error, with no codec of the host's."""
    await submit(conn, anonymous_token=token)
    await conn.execute("UPDATE assessment_responses SET created_at = 'infinity'")

    (row,) = await get_responses(conn, anonymous_token=token)

    assert row["created_at"] == await conn.fetchval("SELECT 'infinity'::timestamptz")


async def test_a_batch_with_keys_keeps_its_order_under_every_codec(
    coded: Connection, conn: Connection, token: UUID
) -> None:
    """New items, retries, repeated keys and items without a key come back at their positions."""
    keys = [uuid4(), None, uuid4(), None, uuid4()]
    batch = [
        new_response(f"q{number}", anonymous_token=token, submission_key=key)
        for number, key in enumerate(keys)
    ]
    await submit_responses(coded, batch[2:3])

    rows = await submit_responses(coded, [*batch, batch[0]])
    again = await submit_responses(coded, batch[::2])

    expected = ["q0", "q1", "q2", "q3", "q4", "q0"]
    assert [str(row["question_id"]) for row in rows] == expected
    assert again == rows[0:5:2]
    assert await counts(conn) == (5, 0)


async def test_a_refused_item_is_named_under_every_codec(
    coded: Connection, conn: Connection, token: UUID
) -> None:
    """The unknown user, the unknown response and the taken key are each named by position."""
    key = uuid4()
    stored = await submit(conn, anonymous_token=token, submission_key=key)
    good = new_response(anonymous_token=token)
    score: NewScore = {"response_id": stored["response_id"], "score_data": {}}
    with pytest.raises(UnknownUser) as user:
        await submit_responses(coded, [good, new_response(user_id=2**40)])
    with pytest.raises(SubmissionConflict) as conflict:
        await submit_responses(
            coded, [good, {**good, "submission_key": key, "answer_text": "Another."}]
        )
    with pytest.raises(UnknownResponse) as response:
        await record_scores(coded, [score, {**score, "response_id": 2**40}])

    named = [error.value.parameter for error in (user, conflict, response)]
    assert named == ["responses[1]", "responses[1]", "scores[1]"]
    assert await counts(conn) == (1, 0)
