"""The example of drafts: whoever saves, finishes or claims, no answer is lost or doubled."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import backoffice
from examples.drafts import DraftMoved, drafts
from tests.helpers.drafts import call
from tests.helpers.rows import new_user, submit
from tests.helpers.transactions import blocked, open_transaction

if TYPE_CHECKING:
    from tests.helpers.transactions import Connection


@pytest.fixture(autouse=True)
async def table(conn: Connection) -> None:
    """Create the host's table."""
    await drafts.create_drafts(conn)


async def new_draft(conn: Connection, question_id: str = "q1", **owner: Any) -> UUID:
    """Return the key of the owner's draft for a question."""
    draft = await call(conn, "open_draft", question_id=question_id, **owner)
    key: UUID = draft["draft_key"]
    return key


async def save(
    conn: Connection, key: UUID, answer_text: str, revision: int = 1, **owners: Any
) -> Any:
    """Save a draft; return its revision, or None where nothing was saved."""
    text = {"answer_text": answer_text, "answer_metadata": "{}"}
    return await call(conn, "save_draft", draft_key=key, revision=revision, **text, **owners)


async def finished(conn: Connection, key: UUID, answer_text: str, **given: Any) -> Any:
    """Finish a draft for q1; return the response or the class of the error."""
    answer = {"question_id": "q1", "module_slug": "m1", "answer_text": answer_text}
    return await call(conn, "finish", draft_key=key, **answer | given)


async def texts(conn: Connection, **owner: Any) -> list[str]:
    """Return the texts of an owner's drafts."""
    owners = {"user_id": None, "anonymous_token": None, **owner}
    return [row["answer_text"] async for row in drafts.get_drafts(conn, **owners)]


async def test_one_answer_is_one_response_however_often_it_was_saved(
    conn: Connection, token: UUID
) -> None:
    """Forty-two autosaves and Finish leave one response, one item of backlog and no draft."""
    key = await new_draft(conn, anonymous_token=token)
    for revision in range(1, 43):
        assert await save(conn, key, "a" * revision, revision, anonymous_token=token) == revision
    assert await texts(conn, anonymous_token=token) == ["a" * 42]

    stored = await finished(conn, key, "a" * 42, anonymous_token=token)
    assert await assessments.get_responses(conn, anonymous_token=token) == [stored]
    assert await backoffice.get_unscored_responses(conn) == [stored]
    assert await texts(conn, anonymous_token=token) == []


async def test_a_save_never_replaces_a_higher_revision(conn: Connection, token: UUID) -> None:
    """A save that was overtaken, or comes from a tab that is behind, changes nothing."""
    key = await new_draft(conn, anonymous_token=token)
    assert await save(conn, key, "newer", 2, anonymous_token=token) == 2

    assert await save(conn, key, "overtaken", 1, anonymous_token=token) is None
    assert await save(conn, key, "of another tab", 2, anonymous_token=token) is None
    assert await texts(conn, anonymous_token=token) == ["newer"]


async def test_two_tabs_share_a_draft(conn: Connection, other: Connection, user_id: int) -> None:
    """Whoever opens the draft of an owner and question while another does gets the same one."""
    async with open_transaction(conn):
        first = await new_draft(conn, user_id=user_id)
        await save(conn, first, "begun", user_id=user_id)
        opening = await blocked(
            call(other, "open_draft", user_id=user_id, question_id="q1"), by=conn, on=other
        )
    second = await opening

    assert (second["draft_key"], second["answer_text"]) == (first, "begun")


async def test_a_double_finish_is_one_response(
    conn: Connection, other: Connection, token: UUID
) -> None:
    """The second waits for the first and returns the same row, as does a retry with no draft."""
    key = await new_draft(conn, anonymous_token=token)
    async with open_transaction(conn):
        first = await finished(conn, key, "Because.", anonymous_token=token)
        second = await blocked(
            finished(other, key, "Because.", anonymous_token=token), by=conn, on=other
        )

    assert await second == first
    assert await finished(conn, key, "Because.", anonymous_token=token) == first
    assert await assessments.get_responses(conn, anonymous_token=token) == [first]


async def test_an_edit_after_finish_is_a_new_response(conn: Connection, token: UUID) -> None:
    """The finished draft's key refuses other text, and the next draft has a key of its own."""
    key = await new_draft(conn, anonymous_token=token)
    await finished(conn, key, "Because.", anonymous_token=token)
    refused = await finished(conn, key, "Because of light.", anonymous_token=token)
    assert refused is assessments.SubmissionConflict

    again = await new_draft(conn, anonymous_token=token)
    await finished(conn, again, "Because of light.", anonymous_token=token)
    stored = await assessments.get_responses(conn, anonymous_token=token)
    assert [row["answer_text"] for row in stored] == ["Because of light.", "Because."]


async def test_a_save_after_finish_brings_nothing_back(
    conn: Connection, other: Connection, token: UUID
) -> None:
    """Neither a save that waited for Finish nor a later one stores a draft."""
    key = await new_draft(conn, anonymous_token=token)
    async with open_transaction(conn):
        await finished(conn, key, "Because.", anonymous_token=token)
        saving = await blocked(save(other, key, "late", anonymous_token=token), by=conn, on=other)

    assert await saving is None
    assert await save(conn, key, "later", anonymous_token=token) is None
    assert await texts(conn, anonymous_token=token) == []


async def test_a_failed_finish_keeps_the_draft(conn: Connection, token: UUID) -> None:
    """Where the library rejects the answer, the draft is as it was."""
    key = await new_draft(conn, anonymous_token=token)
    await save(conn, key, "Because.", anonymous_token=token)
    with pytest.raises(assessments.InvalidInput):
        await finished(conn, key, "Because.", module_slug="", anonymous_token=token)

    assert await texts(conn, anonymous_token=token) == ["Because."]


async def test_another_owner_s_draft_is_neither_read_nor_changed(
    conn: Connection, token: UUID, user_id: int
) -> None:
    """With the key alone nobody reads, saves or finishes it."""
    key = await new_draft(conn, anonymous_token=token)
    await save(conn, key, "Because.", anonymous_token=token)
    stranger: dict[str, Any] = {"user_id": user_id, "anonymous_token": uuid4()}

    assert await texts(conn, **stranger) == []
    assert await save(conn, key, "stolen", 2, **stranger) is None
    assert await finished(conn, key, "stolen", **stranger) is DraftMoved
    assert await texts(conn, anonymous_token=token) == ["Because."]
    assert await assessments.get_responses(conn, **stranger) == []


async def test_a_claim_also_claims_what_is_being_finished(
    conn: Connection, other: Connection, token: UUID, user_id: int
) -> None:
    """It waits for Finish, and the response is the user's."""
    key = await new_draft(conn, anonymous_token=token)
    async with open_transaction(conn):
        await finished(conn, key, "Because.", anonymous_token=token)
        claiming = await blocked(
            call(other, "claim", anonymous_token=token, user_id=user_id), by=conn, on=other
        )

    assert await claiming == 1
    assert len(await assessments.get_responses(conn, user_id=user_id)) == 1


async def test_a_finish_that_a_claim_overtakes_is_retried_as_the_user(
    conn: Connection, other: Connection, token: UUID, user_id: int
) -> None:
    """By the token alone it is refused and stores nothing; with the session it is the user's."""
    key = await new_draft(conn, anonymous_token=token)
    async with open_transaction(conn):
        await call(conn, "claim", anonymous_token=token, user_id=user_id)
        finishing = await blocked(
            finished(other, key, "Because.", anonymous_token=token), by=conn, on=other
        )
    assert await finishing is DraftMoved
    assert await assessments.get_responses(conn, anonymous_token=token) == []

    both: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}
    stored = await finished(conn, key, "Because.", **both)
    assert stored["user_id"] == user_id
    assert await texts(conn, **both) == []


async def test_a_finish_retried_after_a_claim_finds_its_response(
    conn: Connection, token: UUID, user_id: int
) -> None:
    """Where the claim left the response with the token, the retry with the session finds it."""
    await submit(conn, "q1", user_id=user_id)
    key = await new_draft(conn, anonymous_token=token)
    stored = await finished(conn, key, "Because.", anonymous_token=token)
    assert await call(conn, "claim", anonymous_token=token, user_id=user_id) == 0

    both: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}
    assert await finished(conn, key, "Because.", **both) == stored


async def test_a_retry_finds_a_response_that_a_claim_moves_meanwhile(
    conn: Connection,
    other: Connection,
    token: UUID,
    user_id: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The retry with both owners returns the row, whichever of the two has it when."""
    key = await new_draft(conn, anonymous_token=token)
    stored = await finished(conn, key, "Because.", anonymous_token=token)
    submit_response = assessments.submit_response

    async def submit_beside_a_claim(conn: Any, **arguments: Any) -> Any:
        try:
            return await submit_response(conn, **arguments)
        finally:
            await call(other, "claim", anonymous_token=token, user_id=user_id)

    monkeypatch.setattr(assessments, "submit_response", submit_beside_a_claim)
    found = await finished(conn, key, "Because.", user_id=user_id, anonymous_token=token)

    assert found["response_id"] == stored["response_id"]
    assert found["user_id"] == user_id


async def test_a_claim_moves_the_latest_text(
    conn: Connection, other: Connection, token: UUID, user_id: int
) -> None:
    """It waits for a save in progress."""
    key = await new_draft(conn, anonymous_token=token)
    async with open_transaction(conn):
        await save(conn, key, "latest", anonymous_token=token)
        claiming = await blocked(
            call(other, "claim", anonymous_token=token, user_id=user_id), by=conn, on=other
        )
    await claiming

    assert await texts(conn, user_id=user_id) == ["latest"]
    assert await save(conn, key, "by the token alone", 2, anonymous_token=token) is None
    assert await save(conn, key, "as the user", 2, user_id=user_id) == 2


async def test_a_claim_keeps_both_drafts_of_a_question(
    conn: Connection, other: Connection, token: UUID, user_id: int
) -> None:
    """The token's stays with it, even where the user opens theirs at the same time."""
    for question, text in (("q1", "mine too"), ("q2", "only mine")):
        key = await new_draft(conn, question, anonymous_token=token)
        await save(conn, key, text, anonymous_token=token)
    async with open_transaction(conn):
        await save(conn, await new_draft(conn, user_id=user_id), "theirs", user_id=user_id)
        claiming = await blocked(
            call(other, "claim", anonymous_token=token, user_id=user_id), by=conn, on=other
        )
    await claiming

    assert sorted(await texts(conn, user_id=user_id)) == ["only mine", "theirs"]
    assert await texts(conn, anonymous_token=token) == ["mine too"]


@pytest.mark.parametrize("second", ["claim", "erase"])
async def test_one_claim_takes_a_draft(
    conn: Connection, other: Connection, token: UUID, user_id: int, second: str
) -> None:
    """A claim for another user, or an erasure of the token, that waited for it changes nothing."""
    await save(conn, await new_draft(conn, anonymous_token=token), "Mine.", anonymous_token=token)
    later = {"claim": {"user_id": await new_user(conn)}, "erase": {}}[second]
    async with open_transaction(conn):
        await call(conn, "claim", anonymous_token=token, user_id=user_id)
        waiting = await blocked(
            call(other, second, anonymous_token=token, **later), by=conn, on=other
        )

    assert await waiting == 0
    assert await texts(conn, user_id=user_id) == ["Mine."]


async def test_an_erasure_and_a_claim_lock_in_one_order(
    conn: Connection, other: Connection, token: UUID, user_id: int
) -> None:
    """An erasure that waits for a draft holds no response that the claim needs: no deadlock."""
    await submit(conn, anonymous_token=token)
    await new_draft(conn, "q2", anonymous_token=token)
    owners: dict[str, Any] = {"anonymous_token": token, "user_id": user_id}
    async with open_transaction(conn):
        await drafts.claim_drafts(conn, **owners)
        erasing = await blocked(call(other, "erase", **owners), by=conn, on=other)
        assert await assessments.claim_assessment_responses(conn, **owners) == 1

    assert await erasing == 1
    assert await texts(conn, **owners) == []


async def test_drafts_are_listed_by_their_last_save(
    conn: Connection, token: UUID, user_id: int
) -> None:
    """Those of both owners come in one order, the last saved first; each has exactly one owner."""
    owners: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}
    for number, name in enumerate(["user_id", "anonymous_token", "user_id"]):
        owner = {name: owners[name]}
        key = await new_draft(conn, f"q{number}", **owner)
        await save(conn, key, f"text {number}", **owner)

    assert await texts(conn, **owners) == ["text 2", "text 1", "text 0"]
    with pytest.raises(asyncpg.CheckViolationError):
        await new_draft(conn, **owners)


async def test_drafts_are_erased_with_the_responses(
    conn: Connection, token: UUID, user_id: int
) -> None:
    """Erasure takes the drafts and responses of both owners; deleting a user takes their drafts."""
    owners: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}
    await submit(conn, "q1", user_id=user_id)
    for owner in ({"user_id": user_id}, {"anonymous_token": token}):
        await new_draft(conn, **owner)
    assert await call(conn, "erase", **owners) == 1
    assert await texts(conn, **owners) == []

    await new_draft(conn, user_id=user_id)
    await conn.execute("DELETE FROM users WHERE user_id = $1", user_id)
    assert await texts(conn, user_id=user_id) == []


async def test_the_purge_takes_old_drafts_that_are_not_in_use(
    conn: Connection, other: Connection, token: UUID
) -> None:
    """It waits for nobody: a draft that is being saved is left."""
    for question in ("old", "in use"):
        await new_draft(conn, question, anonymous_token=token)
    await conn.execute("UPDATE answer_drafts SET updated_at = now() - interval '31 days'")
    await new_draft(conn, "new", anonymous_token=token)
    async with open_transaction(conn):
        await conn.execute("UPDATE answer_drafts SET revision = 1 WHERE question_id = 'in use'")
        await asyncio.wait_for(
            drafts.purge_drafts(other, older_than=timedelta(days=30), max_rows=1000), 10
        )

    left = await conn.fetch("SELECT question_id FROM answer_drafts ORDER BY question_id")
    assert [row["question_id"] for row in left] == ["in use", "new"]
