"""Exactly one owner writes, at least one reads, and nobody sees another's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from tests.helpers.rows import ids, new_user, submit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NIL = UUID(int=0)


async def _get_responses(conn: Any, **owner: Any) -> list[Any]:
    return [*await assessments.get_responses(conn, **owner)]


async def _get_responses_for_question(conn: Any, **owner: Any) -> list[Any]:
    return [*await assessments.get_responses_for_question(conn, question_id="q1", **owner)]


async def _get_latest_responses(conn: Any, **owner: Any) -> list[Any]:
    return [*await assessments.get_latest_responses(conn, **owner)]


async def _get_latest_responses_of(conn: Any, **owner: Any) -> list[Any]:
    return [*await assessments.get_latest_responses(conn, question_ids=["q1"], **owner)]


async def _get_responses_with_latest_score(conn: Any, **owner: Any) -> list[Any]:
    return [*await assessments.get_responses_with_latest_score(conn, **owner)]


async def _get_scores(conn: Any, **owner: Any) -> list[Any]:
    keys = await conn.fetch("SELECT response_id FROM assessment_responses")
    return [
        score
        for (response_id,) in keys
        for score in await assessments.get_scores(conn, response_id=response_id, **owner)
    ]


LISTS = [
    _get_responses,
    _get_responses_for_question,
    _get_latest_responses,
    _get_latest_responses_of,
    _get_responses_with_latest_score,
]
READS = [*LISTS, _get_scores]


@pytest.mark.parametrize("owners", ["none", "both"])
async def test_writing_takes_exactly_one_owner(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID, owners: str
) -> None:
    """A submit with no owner or with two raises ValueError and stores nothing."""
    given: dict[str, Any] = (
        {} if owners == "none" else {"user_id": user_id, "anonymous_token": token}
    )

    with pytest.raises(ValueError, match="user_id") as raised:
        await submit(conn, **given)

    assert isinstance(raised.value, assessments.InvalidInput)
    assert raised.value.parameter == "user_id"
    assert await conn.fetchval("SELECT count(*) FROM assessment_responses") == 0


@pytest.mark.parametrize("owners", ["NULL, NULL", "(SELECT user_id FROM users), gen_random_uuid()"])
async def test_the_database_holds_the_same_rule(
    conn: asyncpg.Connection[Any], user_id: int, owners: str
) -> None:
    """Plain SQL cannot store a response with no owner or with two, either."""
    assert user_id

    with pytest.raises(asyncpg.CheckViolationError) as raised:
        await conn.execute(
            "INSERT INTO assessment_responses"
            " (question_id, module_slug, answer_text, user_id, anonymous_token)"
            f" SELECT 'q', 'm', 'a', {owners}"
        )

    assert raised.value.constraint_name == "assessment_responses_exactly_one_owner"


@pytest.mark.parametrize("read", READS)
async def test_reading_takes_at_least_one_owner(
    conn: asyncpg.Connection[Any], token: UUID, read: Callable[..., Awaitable[list[Any]]]
) -> None:
    """A read without an owner raises ValueError, whatever there is to read."""
    await submit(conn, anonymous_token=token)

    with pytest.raises(ValueError, match="user_id or anonymous_token"):
        await read(conn)


@pytest.mark.parametrize("read", READS)
async def test_nobody_reads_another_s(
    conn: asyncpg.Connection[Any], read: Callable[..., Awaitable[list[Any]]]
) -> None:
    """Each of four owners sees their own row or score and no other, alone and in pairs."""
    owners: list[dict[str, Any]] = [
        {"user_id": await new_user(conn)},
        {"user_id": await new_user(conn)},
        {"anonymous_token": uuid4()},
        {"anonymous_token": uuid4()},
    ]
    mine = []
    for owner in owners:
        stored = await submit(conn, **owner)
        await assessments.backoffice.record_score(
            conn, response_id=stored["response_id"], score_data={}
        )
        mine.append(stored["response_id"])

    for owner, own in zip(owners, mine, strict=True):
        assert [row["response_id"] for row in await read(conn, **owner)] == [own]
    pair = await read(conn, **owners[0], **owners[2])
    # All have answered one question, to which only the newest response is the latest.
    only_newest = read in {_get_latest_responses, _get_latest_responses_of}
    assert {row["response_id"] for row in pair} == (
        {mine[2]} if only_newest else {mine[0], mine[2]}
    )
    assert await read(conn, user_id=2**62) == []
    assert await read(conn, anonymous_token=uuid4()) == []
    assert await read(conn, user_id=2**62, anonymous_token=uuid4()) == []


async def test_a_token_is_taken_as_uuid_or_string_in_any_case(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """A token means the same as a UUID, as its string and as its string in capitals."""
    stored = [
        await submit(conn, anonymous_token=form) for form in (token, str(token), str(token).upper())
    ]

    for form in (token, str(token), str(token).upper(), stored[0]["anonymous_token"]):
        found = await assessments.get_responses(conn, anonymous_token=form)
        assert sorted(ids(found)) == ids(stored)


@pytest.mark.parametrize(
    "value",
    [True, False, 0, -1, 2**63, 1.0, 1.5, float("nan"), "1", b"1", [1]],
    ids=repr,
)
async def test_user_id_is_an_int_and_nothing_is_coerced(
    conn: asyncpg.Connection[Any], value: object
) -> None:
    """A user_id that is no int from 1 to 2**63-1 is refused by every function."""
    token = uuid4()
    calls = [
        submit(conn, user_id=value),
        *(read(conn, user_id=value) for read in LISTS),
        assessments.get_scores(conn, response_id=1, user_id=value),  # type: ignore[arg-type]
        assessments.delete_responses(conn, user_id=value),  # type: ignore[arg-type]
        assessments.claim_assessment_responses(
            conn,
            anonymous_token=token,
            user_id=value,  # type: ignore[arg-type]
        ),
    ]
    for call in calls:
        with pytest.raises(assessments.InvalidInput) as raised:
            await call
        assert raised.value.parameter == "user_id"


@pytest.mark.parametrize(
    "value",
    [
        NIL,
        str(NIL),
        "",
        "token",
        "{12345678-1234-4234-8234-123456789abc}",
        "urn:uuid:12345678-1234-4234-8234-123456789abc",
        "12345678123442348234123456789abc",
        " 12345678-1234-4234-8234-123456789abc",
        "12345678-1234-4234-8234-123456789abc\n",
        "１2345678-1234-4234-8234-123456789abc",
        b"12345678-1234-4234-8234-123456789abc",
        1,
        [],
    ],
    ids=repr,
)
async def test_a_token_that_is_none_is_refused_without_being_quoted(
    conn: asyncpg.Connection[Any], value: object
) -> None:
    """What is not a UUID, or the nil UUID, is refused by every function and not echoed."""
    calls = [
        submit(conn, anonymous_token=value),
        *(read(conn, anonymous_token=value) for read in LISTS),
        assessments.get_scores(
            conn,
            response_id=1,
            anonymous_token=value,  # type: ignore[arg-type]
        ),
        assessments.delete_responses(conn, anonymous_token=value),  # type: ignore[arg-type]
        assessments.claim_assessment_responses(
            conn,
            anonymous_token=value,  # type: ignore[arg-type]
            user_id=1,
        ),
    ]
    for call in calls:
        with pytest.raises(assessments.InvalidInput) as raised:
            await call
        assert raised.value.parameter == "anonymous_token"
        assert "1234" not in repr(raised.value)
