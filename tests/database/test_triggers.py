"""Triggers of the host's on the two tables: what they drop, and what they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from assessments import NotStored, SubmissionConflict, submit_responses
from assessments.backoffice import record_score, record_scores
from tests.helpers.rows import counts, ids, new_response, questions, submit

if TYPE_CHECKING:
    from uuid import UUID

    from assessments import NewResponse, NewScore

    Connection = asyncpg.Connection[Any]

DROP = """
    CREATE FUNCTION drop_spam() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RETURN CASE WHEN to_jsonb(new) ->> '{column}' LIKE '%spam%' THEN NULL ELSE new END;
    END $$;
    CREATE TRIGGER drop_spam BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION drop_spam();
"""
TRIM = """
    CREATE FUNCTION trim_answer() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN new.answer_text = trim(new.answer_text); RETURN new; END $$;
    CREATE TRIGGER trim_answer BEFORE INSERT ON assessment_responses
    FOR EACH ROW EXECUTE FUNCTION trim_answer();
"""


@pytest.fixture
async def spam_filter(conn: Connection) -> None:
    """Have a trigger drop responses and scores with spam in them."""
    await conn.execute(DROP.format(column="answer_text", table="assessment_responses"))
    await conn.execute(
        DROP.format(column="score_data", table="assessment_scores").replace("_spam()", "_too()")
    )


def answers(token: UUID, *texts: str, keyed: bool = False) -> list[NewResponse]:
    """Return a batch of these answers."""
    return [
        new_response(
            anonymous_token=token, answer_text=text, submission_key=uuid4() if keyed else None
        )
        for text in texts
    ]


@pytest.mark.usefixtures("spam_filter")
@pytest.mark.parametrize("keyed", [False, True])
async def test_a_dropped_submission_is_not_stored_and_the_transaction_goes_on(
    conn: Connection, token: UUID, user_id: int, *, keyed: bool
) -> None:
    """It is never an unknown user, whoever the owner is, and never a conflict."""
    async with conn.transaction():
        for owner in ({"anonymous_token": token}, {"user_id": user_id}):
            key = uuid4() if keyed else None
            with pytest.raises(NotStored) as raised:
                await submit(conn, answer_text="spam", submission_key=key, **owner)
            assert raised.value.parameter is None
        await submit(conn, anonymous_token=token)

    assert await counts(conn) == (1, 0)


@pytest.mark.usefixtures("spam_filter")
@pytest.mark.parametrize("texts", ["a spam b", "spam a", "a spam", "spam spam", "spam"])
@pytest.mark.parametrize("keyed", [False, True])
async def test_a_batch_of_which_a_trigger_drops_some_is_not_stored(
    conn: Connection, token: UUID, texts: str, *, keyed: bool
) -> None:
    """All or nothing: no row of another item is stored or returned in its place."""
    with pytest.raises(NotStored):
        await submit_responses(conn, answers(token, *texts.split(), keyed=keyed))

    assert await counts(conn) == (0, 0)
    assert not conn.is_in_transaction()
    assert len(await submit_responses(conn, answers(token, "a", "b", keyed=keyed))) == 2


@pytest.mark.usefixtures("spam_filter")
async def test_a_batch_with_keys_names_the_dropped_item_and_the_transaction_goes_on(
    conn: Connection, token: UUID
) -> None:
    """It stores the batch in a savepoint, and so can tell."""
    async with conn.transaction():
        (kept,) = await submit_responses(conn, answers(token, "kept"))
        with pytest.raises(NotStored) as raised:
            await submit_responses(conn, answers(token, "a", "spam", keyed=True))
        assert await counts(conn) == (1, 0)
        await submit(conn, "q2", anonymous_token=token)

    assert raised.value.parameter == "responses[1]"
    assert kept["answer_text"] == "kept"
    assert await counts(conn) == (2, 0)


@pytest.mark.usefixtures("spam_filter")
async def test_a_mixed_batch_of_which_a_trigger_drops_one_is_not_stored(
    conn: Connection, token: UUID
) -> None:
    """Whether the dropped item has a key or not, beside retries, in the caller's transaction."""
    (stored,) = await submit_responses(conn, retry := answers(token, "stored", keyed=True))
    for dropped in (answers(token, "spam"), answers(token, "spam", keyed=True)):
        batch = [*answers(token, "a"), *retry, *dropped, *answers(token, "b", keyed=True)]
        async with conn.transaction():
            with pytest.raises(NotStored):
                await submit_responses(conn, batch)
            assert await submit_responses(conn, retry) == [stored]

    assert await counts(conn) == (1, 0)


@pytest.mark.usefixtures("spam_filter")
async def test_scores_of_which_a_trigger_drops_some_are_not_stored(
    conn: Connection, token: UUID
) -> None:
    """A dropped score is not an unknown response, alone or in a batch."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    scores: list[NewScore] = [
        {"response_id": response_id, "score_data": {"of": text}} for text in ("a", "spam", "b")
    ]

    with pytest.raises(NotStored):
        await record_score(conn, **scores[1])
    for batch in (scores, scores[:2], scores[1:], scores[1:2]):
        with pytest.raises(NotStored):
            await record_scores(conn, batch)

    assert await counts(conn) == (1, 0)
    assert len(await record_scores(conn, scores[::2])) == 2


async def test_a_trigger_that_changes_an_answer_makes_its_retry_a_conflict(
    conn: Connection, token: UUID
) -> None:
    """A retry is told by what is stored, which is no longer what was sent."""
    await conn.execute(TRIM)
    key = uuid4()

    stored = await submit(conn, anonymous_token=token, answer_text=" a ", submission_key=key)

    assert stored["answer_text"] == "a"
    with pytest.raises(SubmissionConflict):
        await submit(conn, anonymous_token=token, answer_text=" a ", submission_key=key)
    same = await submit(conn, anonymous_token=token, answer_text="a", submission_key=key)
    assert (ids([same]), questions([same])) == (ids([stored]), ["q1"])


async def test_a_rule_that_drops_rows_is_postgresql_s_own_error(
    conn: Connection, token: UUID
) -> None:
    """PostgreSQL refuses these statements on a table with such a rule: nothing is lost silently."""
    response_id = (await submit(conn, anonymous_token=token))["response_id"]
    for table in ("assessment_responses", "assessment_scores"):
        await conn.execute(f"CREATE RULE nothing AS ON INSERT TO {table} DO INSTEAD NOTHING")

    with pytest.raises(asyncpg.FeatureNotSupportedError):
        await submit(conn, anonymous_token=token)
    with pytest.raises(asyncpg.FeatureNotSupportedError):
        await record_score(conn, response_id=response_id, score_data={})
