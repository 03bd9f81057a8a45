"""What services and graders read: by id, with scores, a person's first, the narrowed backlog."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

import assessments
from assessments import backoffice
from tests.helpers.calls import FUNCTIONS
from tests.helpers.observe import StatementLog
from tests.helpers.rows import ids, new_user, submit, submit_all

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    Connection = asyncpg.Connection[Any]

PERSON, AI = None, "model-1"
SCORED = ["get_responses_with_latest_score", "get_latest_responses_with_latest_score"]


async def record(conn: Any, response_id: int, *model_ids: str | None) -> list[Any]:
    """Record a score by each of *model_ids*, one after the other; return their ids."""
    scores = [
        await backoffice.record_score(
            conn, response_id=response_id, score_data={}, model_id=model_id
        )
        for model_id in model_ids
    ]
    return [score["score_id"] for score in scores]


async def test_a_response_is_read_by_its_id_only_for_its_owner(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """Another owner's response and one that does not exist are both None."""
    mine = await submit(conn, user_id=user_id)
    anonymous = await submit(conn, anonymous_token=token)
    both: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}

    async def get(response: Any, **owner: Any) -> Any:
        key = response["response_id"]
        return await assessments.get_response(conn, response_id=key, **owner)

    assert await get(mine, user_id=user_id) == await get(mine, **both) == mine
    assert await get(anonymous, anonymous_token=token) == await get(anonymous, **both) == anonymous
    assert await get(mine, anonymous_token=token) is None
    assert await get(anonymous, user_id=user_id) is None
    assert await get(mine, user_id=user_id + 1) is None
    assert await get({"response_id": 10**9}, **both) is None


async def test_responses_by_id_come_in_the_order_of_their_ids(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """Whoever owns them, each once; those that do not exist are left out."""
    stored = [
        await submit(conn, **owner) for owner in ({"user_id": user_id}, {"anonymous_token": token})
    ]
    first, second = ids(stored)

    got = await backoffice.get_responses_by_id(conn, [10**9, second, first, second])

    assert got == stored
    assert await backoffice.get_responses_by_id(conn, []) == []


async def test_the_service_reads_the_scores_of_any_owner_s_response(
    conn: Connection, user_id: int, token: UUID
) -> None:
    """The same scores in the same order as the owner sees."""
    for owner in ({"user_id": user_id}, {"anonymous_token": token}):
        key = (await submit(conn, **owner))["response_id"]
        await record(conn, key, AI, PERSON, AI)

        scores = await backoffice.get_scores(conn, response_id=key)

        assert scores == await assessments.get_scores(conn, response_id=key, **owner)
        assert len(scores) == 3
    assert await backoffice.get_scores(conn, response_id=10**9) == []


@pytest.mark.parametrize("read", SCORED)
@pytest.mark.parametrize(
    ("authors", "newest", "human_first"),
    [
        ([PERSON, AI], 1, 0),
        ([AI, PERSON], 1, 1),
        ([PERSON, PERSON, AI], 2, 1),
        ([AI, AI], 1, 1),
        ([], None, None),
    ],
    ids=["person then AI", "AI then person", "two people", "AI only", "none"],
)
async def test_with_human_first_a_person_s_newest_score_goes_before_every_model_s(
    *,
    conn: Connection,
    token: UUID,
    read: str,
    authors: list[str | None],
    newest: int | None,
    human_first: int | None,
) -> None:
    """Without it, or without a person's score, the newest of all is shown; None where none is."""
    await submit(conn, "other", anonymous_token=token)
    key = (await submit(conn, anonymous_token=token))["response_id"]
    score_ids = await record(conn, key, *authors)

    for first, expected in ((False, newest), (True, human_first)):
        rows = await FUNCTIONS[read](conn, anonymous_token=token, human_first=first)
        (shown,) = [row["latest_score"] for row in rows if row["response_id"] == key]
        assert (shown and score_ids.index(shown["score_id"])) == expected


def _score_id(row: assessments.ScoredResponse) -> int | None:
    score = row["latest_score"]
    return score and score["score_id"]


async def test_human_first_holds_on_every_page(conn: Connection, token: UUID) -> None:
    """Page by page, each response is shown with the score that the whole list shows."""
    await submit_all(conn, [f"q{number}" for number in range(7)], anonymous_token=token)
    responses = await assessments.get_responses(conn, anonymous_token=token)
    by_people = {}
    for number, key in enumerate(ids(responses)):
        person, model = await record(conn, key, PERSON, AI)
        by_people[key] = person if number % 2 else model
        if not number % 2:
            await conn.execute("DELETE FROM assessment_scores WHERE score_id = $1", person)

    seen: dict[int, int | None] = {}
    before = None
    while page := await assessments.get_responses_with_latest_score(
        conn, anonymous_token=token, limit=3, before=before, human_first=True
    ):
        seen |= {row["response_id"]: _score_id(row) for row in page}
        before = (page[-1]["created_at"], page[-1]["response_id"])

    assert seen == by_people


async def test_a_scored_test_is_one_query(conn: Connection, user_id: int, token: UUID) -> None:
    """The rows of get_latest_responses, each with its own newest score, none of an earlier one."""
    for owner in ({"user_id": user_id}, {"anonymous_token": token}):
        for question in ("q1", "q2", "q1"):
            key = (await submit(conn, question, **owner))["response_id"]
            if question == "q1":
                await record(conn, key, AI)
    last = await submit(conn, "q1", user_id=user_id)
    owners: dict[str, Any] = {"user_id": user_id, "anonymous_token": token}
    latest = await assessments.get_latest_responses(conn, **owners)
    sent = StatementLog(conn)

    rows = await assessments.get_latest_responses_with_latest_score(conn, **owners)

    assert len(await sent.complete()) == 1
    scores = [row.pop("latest_score") for row in rows]  # type: ignore[misc]
    assert rows == latest
    assert ids(rows)[0] == last["response_id"]
    assert scores == [None, None]
    some = await assessments.get_latest_responses_with_latest_score(
        conn, anonymous_token=token, question_ids=["q1"], module_slug="m1"
    )
    assert [row["latest_score"] and row["latest_score"]["model_id"] for row in some] == [AI]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("owned", [False, True])
async def test_a_walk_yields_each_response_once_with_all_its_scores(
    conn: Connection, user_id: int, token: UUID, batch_size: int, *, owned: bool
) -> None:
    """In batches of any size, also where the scores of one response are more than a batch."""
    owners: dict[str, Any] = {"user_id": user_id, "anonymous_token": token} if owned else {}
    for number, scores in enumerate((0, 4, 1, 0, 2, 7, 0)):
        owner = {"user_id": user_id} if number % 2 else {"anonymous_token": token}
        key = (await submit(conn, f"q{number}", **owner))["response_id"]
        async with conn.transaction():  # one created_at
            await record(conn, key, *[AI] * scores)

    walk = backoffice.iter_responses_with_scores(conn, **owners, batch_size=batch_size)
    walked = [row async for row in walk]

    stored = [row async for row in backoffice.iter_responses(conn)]
    assert walked == [
        {**row, "scores": await backoffice.get_scores(conn, response_id=row["response_id"])}
        for row in stored
    ]


async def test_a_walk_with_scores_is_one_query_a_batch(conn: Connection, token: UUID) -> None:
    """Fifty scored responses in batches of 20 rows take three queries."""
    await submit_all(conn, [f"q{number}" for number in range(50)], anonymous_token=token)
    for key in range(1, 51):
        await record(conn, key, AI)
    sent = StatementLog(conn)

    walk = backoffice.iter_responses_with_scores(conn, batch_size=20)

    assert len([row async for row in walk]) == 50
    assert len(await sent.complete()) == 3


@pytest.mark.parametrize("walk", ["iter_responses", "iter_responses_with_scores"])
@pytest.mark.parametrize(("batch_size", "queries"), [(4, 2), (5, 2), (6, 1)])
async def test_a_walk_ends_after_a_short_batch(
    conn: Connection, token: UUID, walk: str, batch_size: int, queries: int
) -> None:
    """Another query would read on to the end of the table; only a full batch asks for one."""
    await submit_all(conn, ["q1", "q2", "q3", "q4", "q5"], anonymous_token=token)
    sent = StatementLog(conn)

    rows = [row async for row in FUNCTIONS[walk](conn, batch_size=batch_size)]

    assert len(rows) == 5
    assert len(await sent.complete()) == queries


async def test_a_claim_between_two_batches_splits_no_response(
    conn: Connection, other: Connection, user_id: int, token: UUID
) -> None:
    """The scores of a response come from one query, so a walk never shows a part of them."""
    for question in ("q1", "q2", "q3"):
        key = (await submit(conn, question, anonymous_token=token))["response_id"]
        await record(conn, key, AI, AI)

    walked = []
    walk = backoffice.iter_responses_with_scores(conn, anonymous_token=token, batch_size=3)
    async for row in walk:
        walked.append((row["question_id"], len(row["scores"])))
        await assessments.claim_assessment_responses(other, anonymous_token=token, user_id=user_id)

    assert set(walked) <= {("q1", 2), ("q2", 2), ("q3", 2)}
    assert walked[0] == ("q1", 2)


async def unscored(conn: Any, **narrowed: Any) -> list[int]:
    """Return the ids of the backlog."""
    return ids(await backoffice.get_unscored_responses(conn, **narrowed))


async def test_the_backlog_is_narrowed_by_module_and_question(
    conn: Connection, token: UUID
) -> None:
    """Both together mean both."""
    for module_slug in ("m1", "m2"):
        await submit_all(conn, ("q1", "q2"), module_slug=module_slug, anonymous_token=token)

    assert await unscored(conn, module_slug="m2") == [3, 4]
    assert await unscored(conn, question_id="q1") == [1, 3]
    assert await unscored(conn, module_slug="m2", question_id="q1") == [3]


@pytest.mark.parametrize("kind", ["user_id", "anonymous_token"])
async def test_an_attempt_that_its_owner_has_replaced_is_no_backlog(
    conn: Connection, user_id: int, token: UUID, kind: str
) -> None:
    """With latest_attempts_only: only a newer attempt of the same owner at the same question."""
    owner = {"user_id": user_id} if kind == "user_id" else {"anonymous_token": token}
    await submit_all(conn, ("q1", "q2", "q1"), **owner)
    async with conn.transaction():  # one created_at
        await submit_all(conn, ("q2", "q2"), **owner)
    await submit_all(conn, ("q1", "q2"), anonymous_token=uuid4())
    await submit_all(conn, ("q1", "q2"), user_id=await new_user(conn))
    await record(conn, 5, AI)

    assert await unscored(conn) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert await unscored(conn, latest_attempts_only=True) == [3, 6, 7, 8, 9]

    older = (
        "UPDATE assessment_responses SET created_at = now() - $1::interval WHERE response_id = 3"
    )
    await conn.execute(older, timedelta(days=1))
    assert await unscored(conn, latest_attempts_only=True) == [1, 6, 7, 8, 9]


async def test_what_a_person_has_scored_is_no_backlog(conn: Connection, token: UUID) -> None:
    """With skip_human_scored, whatever model or prompt version is asked for."""
    await submit_all(conn, ("q1", "q2", "q3"), anonymous_token=token)
    await record(conn, 1, PERSON, "model-2")
    await record(conn, 2, "model-2")

    assert await unscored(conn, model_id=AI) == [1, 2, 3]
    assert await unscored(conn, model_id=AI, skip_human_scored=True) == [2, 3]
    assert await unscored(conn, prompt_version="p", skip_human_scored=True) == [2, 3]
    assert await unscored(conn, skip_human_scored=True) == [3]
