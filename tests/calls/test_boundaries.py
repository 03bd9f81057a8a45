"""Where a rule of validation begins: the documented limits, and the edges of a value."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any

import pytest

import assessments
from assessments import validation
from assessments.backoffice import purge_anonymous_responses, record_score
from tests.helpers.rows import ids, new_response, submit

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    Connection = asyncpg.Connection[Any]


def json_of(size: int) -> dict[str, str]:
    """Return an object of *size* bytes of JSON."""
    return {"a": "b" * (size - len('{"a":""}'))}


def nested(levels: int) -> dict[str, Any]:
    """Return an object of so many levels, the object itself being the first."""
    innermost: list[Any] = []
    return {"a": reduce(lambda inner, _: [inner], range(levels - 2), innermost)}


@pytest.mark.parametrize(
    ("parameter", "largest", "too_large"),
    [
        ("question_id", "q" * 512, "q" * 513),
        ("module_slug", "é" * 512, "é" * 513),
        ("answer_text", "é" * 2**19, "é" * 2**19 + "e"),
        ("answer_metadata", json_of(2**16), json_of(2**16 + 1)),
        ("answer_metadata", nested(32), nested(33)),
        ("answer_metadata", {"a": 10**640 - 1}, {"a": 10**640}),
    ],
    ids=["question", "module", "answer", "metadata", "depth", "digits"],
)
async def test_a_response_s_columns_have_their_documented_limits(
    conn: Connection, token: UUID, parameter: str, largest: Any, too_large: Any
) -> None:
    """The largest is stored as it is, and one more is refused."""
    stored: Any = await submit(conn, **{"anonymous_token": token, parameter: largest})
    with pytest.raises(assessments.InvalidInput) as refused:
        await submit(conn, **{"anonymous_token": token, parameter: too_large})

    assert stored[parameter] == largest
    assert refused.value.parameter == parameter


async def test_a_score_has_its_documented_limit(conn: Connection, token: UUID) -> None:
    """256 KiB of JSON are stored, and a byte more is refused."""
    (key,) = ids([await submit(conn, anonymous_token=token)])

    await record_score(conn, response_id=key, score_data=json_of(2**18))
    with pytest.raises(assessments.InvalidInput):
        await record_score(conn, response_id=key, score_data=json_of(2**18 + 1))


async def test_a_batch_has_its_documented_limit(conn: Connection, token: UUID) -> None:
    """10,000 items are stored, and one more refuses them all."""
    batch = [new_response(anonymous_token=token)] * 10_000

    with pytest.raises(assessments.InvalidInput):
        await assessments.submit_responses(conn, [*batch, batch[0]])
    assert len(await assessments.submit_responses(conn, batch)) == 10_000


async def test_a_batch_s_characters_are_counted_to_the_last(
    conn: Connection, token: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of exactly the limit is stored, and one character more refuses it."""
    item = new_response(anonymous_token=token, answer_metadata={"a": 1})
    size = sum(map(len, (item["question_id"], item["module_slug"], item["answer_text"], '{"a":1}')))
    monkeypatch.setattr(validation, "MAX_BATCH_CHARACTERS", 2 * size)

    assert len(await assessments.submit_responses(conn, [item, item])) == 2
    with pytest.raises(assessments.InvalidInput):
        await assessments.submit_responses(conn, [item, {**item, "answer_text": "Because!!"}])


async def test_a_batch_item_has_no_other_keys(conn: Connection, token: UUID) -> None:
    """A misspelled optional key is refused, and not left out."""
    item: Any = {**new_response(anonymous_token=token), "learning_outcome": "lo1"}

    with pytest.raises(assessments.InvalidInput) as refused:
        await assessments.submit_responses(conn, [item])

    assert refused.value.parameter == "responses[0]"


async def test_a_retention_has_its_documented_limit(conn: Connection) -> None:
    """365,000 days are taken, and a microsecond more is refused."""
    longest = timedelta(365_000)

    assert await purge_anonymous_responses(conn, older_than=longest, dry_run=True) == 0
    with pytest.raises(assessments.InvalidInput):
        await purge_anonymous_responses(conn, older_than=longest + timedelta.resolution)


@pytest.mark.parametrize("text", ["\0", "\0a", "a\0", "a\0b", "\0é", "é\0"], ids=repr)
@pytest.mark.parametrize("parameter", ["question_id", "answer_text"])
async def test_a_nul_is_refused_wherever_it_stands(
    conn: Connection, token: UUID, parameter: str, text: str
) -> None:
    """PostgreSQL's text holds none, at its beginning or elsewhere."""
    new: Any = {"anonymous_token": token, parameter: text}
    with pytest.raises(assessments.InvalidInput) as refused:
        await submit(conn, **new)

    assert refused.value.parameter == parameter


async def test_an_empty_token_is_a_bad_token_and_not_a_missing_owner(conn: Connection) -> None:
    """What is to be corrected is named: the token that was given."""
    with pytest.raises(assessments.InvalidInput) as refused:
        await assessments.get_responses(conn, anonymous_token="")

    assert refused.value.parameter == "anonymous_token"
