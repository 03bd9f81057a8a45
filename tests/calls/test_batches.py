"""Many at once: one statement, in the order given, all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

import assessments
from assessments import backoffice, inputs, submit_responses
from assessments.backoffice import record_scores
from tests.helpers.observe import StatementLog
from tests.helpers.rows import ids, new_user, submit

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from assessments import NewResponse, NewScore


def new_response(**changes: Any) -> NewResponse:
    """Return a response to submit of which only *changes* matter."""
    new: Any = {"question_id": "q1", "module_slug": "m1", "answer_text": "Because.", **changes}
    return new  # type: ignore[no-any-return]


async def stored(conn: asyncpg.Connection[Any]) -> tuple[int, int]:
    """Return how many responses and scores there are."""
    return (
        await conn.fetchval("SELECT count(*) FROM assessment_responses"),
        await conn.fetchval("SELECT count(*) FROM assessment_scores"),
    )


async def test_submit_responses_returns_what_each_submit_would(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """The rows come back in the order given, as submit_response returns them but for the key."""
    content_id = uuid4()
    given = [
        new_response(user_id=user_id, question_id="b", answer_metadata={"a": [1, 2.5, None]}),
        new_response(anonymous_token=str(token), question_id="a", learning_outcome_id="lo"),
        new_response(user_id=user_id, question_id="c", content_id=content_id, answer_text=""),
        new_response(anonymous_token=token, question_id="a", answer_text='{"a", NULL} \\ é 漢字'),
    ]

    async with conn.transaction():
        together = await submit_responses(conn, given)
        apart = [await assessments.submit_response(conn, **each) for each in given]

    assert [{**row, "response_id": 0} for row in together] == [
        {**row, "response_id": 0} for row in apart
    ]
    assert ids(together) == sorted(ids(together))
    assert await assessments.get_responses(conn, user_id=user_id, anonymous_token=token) == (
        [*reversed(apart), *reversed(together)]
    )


async def test_record_scores_returns_what_each_record_would(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """Scores come back in the order given, several for one response included."""
    first, second = [await submit(conn, anonymous_token=token) for _ in range(2)]
    given: list[NewScore] = [
        {"response_id": second["response_id"], "score_data": {"points": 1}},
        {"response_id": first["response_id"], "score_data": {}, "model_id": "m"},
        {"response_id": second["response_id"], "score_data": {"é": [1]}, "prompt_version": "p"},
    ]

    recorded = await record_scores(conn, given)

    expected = [{"model_id": None, "prompt_version": None, **each} for each in given]
    for row, want in zip(recorded, expected, strict=True):
        assert {name: row[name] for name in want} == want  # type: ignore[literal-required]
    for response in (first, second):
        key = response["response_id"]
        scores = await assessments.get_scores(conn, response_id=key, anonymous_token=token)
        assert scores == [row for row in reversed(recorded) if row["response_id"] == key]


async def test_any_sequence_is_a_batch(conn: asyncpg.Connection[Any], token: UUID) -> None:
    """A tuple of elements does as well as a list."""
    new = new_response(anonymous_token=token)

    assert len(await submit_responses(conn, (new, new))) == 2


async def test_ten_thousand_in_one_call_keep_their_order(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """The largest batch is stored in one statement and comes back in the order given."""
    given = [
        new_response(anonymous_token=token, question_id=f"q{number}", answer_text=str(number))
        for number in range(inputs.MAX_BATCH)
    ]

    rows = await submit_responses(conn, given)
    scores = await record_scores(
        conn,
        [
            {"response_id": row["response_id"], "score_data": {"n": row["answer_text"]}}
            for row in rows
        ],
    )

    assert [row["answer_text"] for row in rows] == [str(n) for n in range(inputs.MAX_BATCH)]
    assert [score["response_id"] for score in scores] == ids(rows)
    assert await stored(conn) == (inputs.MAX_BATCH, inputs.MAX_BATCH)


async def test_one_call_is_one_statement(conn: asyncpg.Connection[Any], token: UUID) -> None:
    """A batch is one round trip, however large, once asyncpg knows the connection's array types."""

    async def submit_and_score() -> None:
        rows = await submit_responses(conn, [new_response(anonymous_token=token)] * 50)
        await record_scores(conn, [{"response_id": key, "score_data": {}} for key in ids(rows)])

    await submit_and_score()
    sent = StatementLog(conn)
    await submit_and_score()

    assert [query.split(" ", 3)[1] for query in await sent.complete()] == [
        "assessments.submit_responses",
        "assessments.record_scores",
    ]


async def test_nothing_is_nothing(conn: asyncpg.Connection[Any]) -> None:
    """An empty batch returns an empty list and asks the database nothing."""
    sent = StatementLog(conn)

    assert await submit_responses(conn, []) == []
    assert await record_scores(conn, []) == []
    assert await sent.complete() == []


@pytest.mark.parametrize(
    ("element", "parameter"),
    [
        (new_response(), "responses[2].user_id"),
        (new_response(user_id=1, anonymous_token=uuid4()), "responses[2].user_id"),
        (new_response(user_id=True), "responses[2].user_id"),
        (new_response(user_id=1, question_id=""), "responses[2].question_id"),
        (new_response(user_id=1, answer_text=None), "responses[2].answer_text"),
        (new_response(user_id=1, answer_metadata=[]), "responses[2].answer_metadata"),
        (new_response(user_id=1, response_id=7), "responses[2]"),
        ({"user_id": 1, "question_id": "q", "module_slug": "m"}, "responses[2].answer_text"),
        ({1: 2}, "responses[2].question_id"),
        ("response", "responses[2]"),
        (None, "responses[2]"),
    ],
    ids=repr,
)
async def test_a_bad_response_is_named_by_its_position(
    conn: asyncpg.Connection[Any], user_id: int, element: Any, parameter: str
) -> None:
    """One bad element refuses the batch by name, and the open transaction goes on."""
    good = new_response(user_id=user_id)
    async with conn.transaction():
        with pytest.raises(assessments.InvalidInput) as raised:
            await submit_responses(conn, [good, good, element, good])
        await submit_responses(conn, [good])

    assert raised.value.parameter.startswith(parameter)
    assert await stored(conn) == (1, 0)


@pytest.mark.parametrize(
    ("element", "parameter"),
    [
        ({"response_id": 0, "score_data": {}}, "scores[1].response_id"),
        ({"response_id": 1, "score_data": []}, "scores[1].score_data"),
        ({"response_id": 1}, "scores[1].score_data"),
        ({"response_id": 1, "score_data": {}, "model_id": ""}, "scores[1].model_id"),
        ({"response_id": 1, "score_data": {}, "score_id": 1}, "scores[1]"),
    ],
    ids=repr,
)
async def test_a_bad_score_is_named_by_its_position(
    conn: asyncpg.Connection[Any], token: UUID, element: Any, parameter: str
) -> None:
    """The same holds for scores."""
    key = (await submit(conn, anonymous_token=token))["response_id"]
    async with conn.transaction():
        with pytest.raises(assessments.InvalidInput) as raised:
            await record_scores(conn, [{"response_id": key, "score_data": {}}, element])

    assert raised.value.parameter.startswith(parameter)
    assert await stored(conn) == (1, 0)


@pytest.mark.parametrize("given", [None, {}, "responses", 1, {new_response: 1}.keys()], ids=repr)
async def test_a_batch_is_a_list(conn: asyncpg.Connection[Any], given: Any) -> None:
    """What is not a list of dicts is refused."""
    for call in (submit_responses(conn, given), record_scores(conn, given)):
        with pytest.raises(assessments.InvalidInput):
            await call


async def test_a_batch_has_limits(conn: asyncpg.Connection[Any], token: UUID) -> None:
    """A batch too long, or too large for one statement, is refused before anything is sent."""
    sent = StatementLog(conn)
    long = [new_response(anonymous_token=token)] * (inputs.MAX_BATCH + 1)
    large = [new_response(anonymous_token=token, answer_text="a" * inputs.MAX_ANSWER_BYTES)] * (
        inputs.MAX_BATCH_CHARACTERS // inputs.MAX_ANSWER_BYTES
    )

    for given in (long, large):
        with pytest.raises(assessments.InvalidInput) as raised:
            await submit_responses(conn, given)
        assert raised.value.parameter == "responses"
    assert await sent.complete() == []


async def test_an_unknown_user_refuses_the_batch_by_position(
    conn: asyncpg.Connection[Any], user_id: int, token: UUID
) -> None:
    """UnknownUser names the first element with one; nothing is stored, the transaction goes on."""
    good, other = new_response(user_id=user_id), new_response(anonymous_token=token)
    async with conn.transaction():
        with pytest.raises(assessments.UnknownUser) as raised:
            await submit_responses(conn, [good, other, new_response(user_id=2**40), good])
        assert await stored(conn) == (0, 0)
        await submit_responses(conn, [good, other])

    assert raised.value.parameter == "responses[2]"
    assert str(raised.value).startswith("responses[2]: ")


async def test_an_unknown_response_refuses_the_batch_by_position(
    conn: asyncpg.Connection[Any], token: UUID
) -> None:
    """UnknownResponse names the first element; nothing is stored, the transaction goes on."""
    key = (await submit(conn, anonymous_token=token))["response_id"]
    async with conn.transaction():
        with pytest.raises(assessments.UnknownResponse) as raised:
            await record_scores(
                conn, [{"response_id": each, "score_data": {}} for each in (key, key + 1, key)]
            )
        assert await stored(conn) == (1, 0)
        await backoffice.record_score(conn, response_id=key, score_data={})

    assert raised.value.parameter == "scores[1]"


async def test_everybody_s_rows_may_be_in_one_batch(conn: asyncpg.Connection[Any]) -> None:
    """Each element has its own owner, and each owner reads their own."""
    users = [await new_user(conn) for _ in range(5)]

    await submit_responses(
        conn, [new_response(user_id=user, question_id=f"{user}") for user in users]
    )

    for user in users:
        (row,) = await assessments.get_responses(conn, user_id=user)
        assert row["question_id"] == f"{user}"
