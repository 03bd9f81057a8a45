"""Exactly one owner writes, at least one reads or erases, and nobody sees another's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments.backoffice import record_score
from tests.helpers.calls import ERASURES, SUBMITS, catalogue
from tests.helpers.rows import counts, ids, new_user, submit

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]

OWNED = [
    name
    for name, call in catalogue().items()
    if {"user_id", "anonymous_token"} <= call.arguments.keys()
]
READS = [name for name in OWNED if name not in {*SUBMITS, *ERASURES, "claim_assessment_responses"}]
WALKS = {"iter_responses", "iter_responses_with_scores"}
EVERY_ROW: dict[str, Any] = {"before": None, "question_ids": None}
"""Arguments with which a read leaves out no row of its owner."""


@pytest.fixture
async def owners(conn: Connection) -> list[dict[str, Any]]:
    """Return two users and two anonymous owners, with two scored responses each."""
    owners: list[dict[str, Any]] = [
        {"user_id": await new_user(conn)},
        {"user_id": await new_user(conn)},
        {"anonymous_token": uuid4()},
        {"anonymous_token": uuid4()},
    ]
    for owner in owners * 2:
        response_id = (await submit(conn, **owner))["response_id"]
        await record_score(conn, response_id=response_id, score_data={"of": "the owner"})
    return owners


async def read(conn: Any, name: str, **owner: Any) -> list[int]:
    """Return the ids of all responses that the call *name* shows, or shows the scores of."""
    call = catalogue()[name]
    changes = {key: value for key, value in EVERY_ROW.items() if key in call.arguments}
    changes |= {"user_id": None, "anonymous_token": None, **owner}
    if "response_id" not in call.arguments:
        return sorted(ids(await call(conn, **changes)))
    found: list[int] = []
    for (response_id,) in await conn.fetch("SELECT response_id FROM assessment_responses"):
        shown = await call(conn, **changes, response_id=response_id)
        found += ids(shown if isinstance(shown, list) else [shown] if shown else [])
    return sorted(found)


@pytest.mark.parametrize("given", ["none", "both"])
async def test_a_response_has_exactly_one_owner(
    conn: Connection, user_id: int, token: UUID, given: str
) -> None:
    """No owner, or two, raise ValueError in a submit and violate a CHECK in plain SQL."""
    user, anonymous = (None, None) if given == "none" else (user_id, token)

    with pytest.raises(ValueError, match="user_id") as raised:
        await submit(conn, user_id=user, anonymous_token=anonymous)
    with pytest.raises(asyncpg.CheckViolationError) as violated:
        await conn.execute(
            "INSERT INTO assessment_responses"
            " (question_id, module_slug, answer_text, user_id, anonymous_token)"
            " VALUES ('q', 'm', 'a', $1, $2)",
            user,
            anonymous,
        )

    assert isinstance(raised.value, assessments.InvalidInput)
    assert raised.value.parameter == "user_id"
    assert violated.value.constraint_name == "assessment_responses_exactly_one_owner"
    assert await counts(conn) == (0, 0)


@pytest.mark.parametrize("name", sorted({*READS, "delete_responses"} - WALKS))
async def test_reads_and_erasures_take_at_least_one_owner(
    conn: Connection, token: UUID, name: str
) -> None:
    """A call without an owner raises ValueError, whatever is stored."""
    await submit(conn, anonymous_token=token)

    with pytest.raises(ValueError, match="user_id or anonymous_token"):
        await catalogue()[name](conn, user_id=None, anonymous_token=None)

    assert await counts(conn) == (1, 0)


@pytest.mark.parametrize("name", READS)
async def test_nobody_reads_another_s_rows(
    conn: Connection, owners: list[dict[str, Any]], name: str
) -> None:
    """Each owner reads their own rows and scores and no others, alone and in pairs."""
    newest_only = "latest_responses" in name  # all have responded to one question, twice

    for first, owner in enumerate(owners, start=1):
        own = [first + 4] if newest_only else [first, first + 4]
        assert await read(conn, name, **owner) == own
    pair = await read(conn, name, **owners[0], **owners[2])
    assert pair == ([7] if newest_only else [1, 3, 5, 7])
    strangers: list[dict[str, Any]] = [{"user_id": 2**62}, {"anonymous_token": uuid4()}]
    for stranger in (*strangers, strangers[0] | strangers[1]):
        assert await read(conn, name, **stranger) == []


@pytest.mark.parametrize("erased", [[0], [2], [0, 2]], ids=["user", "anonymous", "both"])
async def test_an_erasure_removes_all_of_its_owners_and_nothing_else(
    conn: Connection, owners: list[dict[str, Any]], erased: list[int]
) -> None:
    """After delete_responses no row of theirs is in any table, and every other is unchanged."""
    whose = {name: value for n in erased for name, value in owners[n].items()}
    rest = """
        SELECT * FROM assessment_responses LEFT JOIN assessment_scores USING (response_id)
        WHERE (user_id = $1 OR anonymous_token = $2) IS NOT TRUE ORDER BY response_id
    """
    arguments = rest, whose.get("user_id"), whose.get("anonymous_token")
    before = await conn.fetch(*arguments)

    assert await assessments.delete_responses(conn, **whose) == 2 * len(erased)

    assert await conn.fetch(*arguments) == before
    assert await counts(conn) == (len(before), len(before)) == (8 - 2 * len(erased),) * 2
    assert await assessments.delete_responses(conn, **whose) == 0


async def test_a_token_is_a_uuid_or_its_string_in_any_case(conn: Connection, token: UUID) -> None:
    """A token means the same as a UUID, as its string and as its string in capitals."""
    forms: list[Any] = [token, str(token), str(token).upper()]
    stored = [await submit(conn, anonymous_token=form) for form in forms]

    for form in (*forms, stored[0]["anonymous_token"]):
        found = await assessments.get_responses(conn, anonymous_token=form)
        assert sorted(ids(found)) == ids(stored)
