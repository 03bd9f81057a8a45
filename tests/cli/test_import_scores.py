"""``assessments import`` stores every exported score once, in the order of the file."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from assessments.queries import queries
from tests.helpers.commands import content, summary
from tests.helpers.jsonl import line
from tests.helpers.polling import until

if TYPE_CHECKING:
    from tests.helpers.commands import Database

MEBIBYTE = 1024 * 1024
AT = "2026-11-01T12:00:00Z"
EQUAL: dict[str, Any] = {"score_data": {"n": 1}, "created_at": AT}


async def score_all(database: Database, data: str, **columns: Any) -> None:
    """Give a score to every response."""
    await database.conn.execute(
        "INSERT INTO assessment_scores (response_id, score_data, model_id, created_at) "
        "SELECT response_id, $1::text::jsonb, $2, coalesce($3::text::timestamptz, now()) "
        "FROM assessment_responses ORDER BY response_id",
        data,
        columns.get("model_id"),
        columns.get("created_at"),
    )


async def test_a_newer_export_brings_the_scores_added_since(
    source: Database, target: Database
) -> None:
    """A second import adds them to responses that are stored; a third adds nothing."""
    await source.fill(10)
    target.run("import", given=source.export())
    await score_all(source, '{"points": 2}')
    exported = source.export()

    done = [target.run("import", given=exported).stderr for _ in range(2)]

    assert done == [summary(0, 10, 10), summary(0, 0, 10)]
    assert await content(target.conn) == await content(source.conn)


async def test_an_import_adds_no_score_to_the_responses_exported(source: Database) -> None:
    """Imported into its own database, where responses have no keys, an export changes nothing."""
    await source.fill(10)

    done = source.run("import", given=source.export())

    assert done.stderr == summary(0, 0, 10)


async def test_a_number_that_no_float_holds_arrives_as_it_is(
    source: Database, target: Database
) -> None:
    """What SQL has stored is not rounded on its way, and so is not stored once more."""
    data = '{"p": [1.10, 0.12345678901234567890, -0.00000001, 1.5]}'
    await source.fill(1)
    await score_all(source, data)
    await source.conn.execute(
        "UPDATE assessment_responses SET answer_metadata = $1::text::jsonb", data
    )
    exported = source.export()

    done = [database.run("import", given=exported).stderr for database in (source, target)]

    assert done == [summary(0, 0, 1), summary(1, 1, 0)]
    stored = await target.conn.fetchrow(
        "SELECT answer_metadata::text, score_data::text "
        "FROM assessment_responses JOIN assessment_scores USING (response_id)"
    )
    assert stored == (data, data)


@pytest.mark.parametrize("number", ["1e-20000", "0." + "1" * 20_000])
async def test_a_number_that_no_database_holds_is_rounded(target: Database, number: str) -> None:
    """Digits that JSONB refuses, and no export has, are those of a float."""
    given = line(scores=[EQUAL | {"score_data": {"p": 0.5}}]).replace(b"0.5", number.encode())

    done = target.run("import", given=given)

    assert done.stderr == summary(1, 1, 0)
    stored = await target.conn.fetchval("SELECT score_data::text FROM assessment_scores")
    assert json.loads(stored) == {"p": float(number)}


async def test_scores_at_the_target_stay(source: Database, target: Database) -> None:
    """What has been scored at the target stays, beside what is imported."""
    await source.fill(2)
    exported = source.export()
    without = [json.loads(each) | {"scores": []} for each in exported.splitlines()]
    target.run("import", given=b"\n".join(json.dumps(each).encode() for each in without))
    await score_all(target, '{"points": 7}')

    done = target.run("import", given=exported)

    assert done.stderr == summary(0, 1, 2)
    assert [
        [each["score_data"]["points"] for each in scores]
        for _, scores in await content(target.conn)
    ] == [[7], [7, 1]]


async def import_scores(target: Database, *imports: list[dict[str, Any]]) -> int:
    """Import a response with scores, and again with others; return how many are stored."""
    key = str(uuid4())
    for scores in imports:
        done = target.run("import", given=line(submission_key=key, scores=scores))
        assert done.returncode == 0, done.stderr
    stored: int = await target.count("assessment_scores")
    return stored


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": "2026-11-01T12:00:00.000001Z"},
        {"score_data": {"n": 1.0}},
        {"model_id": "m"},
        {"prompt_version": "p"},
    ],
)
async def test_scores_that_differ_in_anything_are_both_stored(
    target: Database, change: dict[str, Any]
) -> None:
    """Time, data as text, model and prompt version tell one score from another."""
    assert await import_scores(target, [EQUAL], [EQUAL | change], [EQUAL | change, EQUAL]) == 2


async def test_equal_scores_are_told_apart_by_their_occurrence(target: Database) -> None:
    """Of equal scores as many are stored as exported, whichever of them come first or again."""
    twice = [EQUAL, EQUAL | {"occurrence": 2}]

    assert await import_scores(target, [EQUAL], twice, twice, [EQUAL], twice[1:]) == 2


async def test_scores_in_one_file_are_stored_once(target: Database) -> None:
    """A repeated line adds the scores that the one before did not have, and no other."""
    key = str(uuid4())
    others = [EQUAL | {"model_id": "m"}, EQUAL]
    given = [line(submission_key=key, scores=scores) for scores in ([EQUAL], others, others)]

    done = target.run("import", given=b"".join(given))

    assert done.stderr == summary(1, 2, 2)


async def test_a_repeated_import_reads_the_scores_of_its_responses_only(target: Database) -> None:
    """Without statistics, and however many scores have one time, it reads each score once."""
    count = 2_000
    await target.conn.execute(
        "ALTER TABLE assessment_responses SET (autovacuum_enabled = off);"
        "ALTER TABLE assessment_scores SET (autovacuum_enabled = off)"
    )
    await target.fill(count)
    await score_all(target, '{"n": 1}', created_at=AT)
    rows = await target.conn.fetch(
        """
        SELECT response_id, anonymous_token, question_id, module_slug, answer_text, created_at
        FROM assessment_responses LIMIT 1000
        """
    )
    ids = [str(number) for number in range(1, len(rows) + 1)]
    empty = ("user_id", "learning_outcome_id", "content_id", "score_model_id")
    given: dict[str, Any] = {
        **{f"{name}s": [str(row[name]) for row in rows] for name in rows[0].keys()},  # noqa: SIM118
        **{f"{name}s": [None] * len(rows) for name in (*empty, "score_prompt_version")},
        "submission_keys": [str(uuid4()) for _ in rows],
        "answer_metadatas": ["{}"] * len(rows),
        "score_numbers": ids,
        "score_datas": ['{"n": 1}'] * len(rows),
        "score_created_ats": [AT] * len(rows),
        "score_occurrences": ["1"] * len(rows),
        "skip_conflicts": False,
    }
    await target.conn.execute("SET plan_cache_mode = force_custom_plan")

    async with target.conn.transaction():
        done = await queries.cli.import_responses(target.conn, **given)
        read = await target.conn.fetchval(
            "SELECT sum(pg_stat_get_xact_tuples_returned(relid) "
            "+ pg_stat_get_xact_tuples_returned(indexrelid)) "
            "FROM pg_stat_user_indexes WHERE relname = 'assessment_scores'"
        )

    assert (done["already_stored"], done["scores"]) == (len(rows), 0)
    assert read <= 2 * len(rows)


async def test_concurrent_imports_store_a_score_once(source: Database, target: Database) -> None:
    """Of imports at the same time, one goes on when the other has committed its batch."""
    await source.fill(10)
    target.run("import", given=source.export())
    await score_all(source, '{"points": 2}')
    await target.conn.execute(
        """
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END';
        CREATE TRIGGER wait BEFORE INSERT ON assessment_scores
        FOR EACH ROW EXECUTE FUNCTION wait();
        SELECT pg_advisory_lock(1);
        """
    )
    exported = source.export()
    processes = [target.start("import") for _ in range(2)]
    running = [
        asyncio.create_task(asyncio.to_thread(process.communicate, exported))
        for process in processes
    ]
    await until(
        target.conn,
        "SELECT count(*) = 2 FROM pg_stat_activity "
        "WHERE wait_event = 'advisory' AND datname = current_database()",
    )
    await target.conn.execute("SELECT pg_advisory_unlock(1)")

    errors = sorted([errors for _, errors in await asyncio.gather(*running)])

    assert errors == [summary(0, 0, 10), summary(0, 10, 10)]


async def test_a_response_with_many_long_scores_is_moved(
    source: Database, target: Database
) -> None:
    """Its scores go on further lines, each well below what an import takes, and all arrive."""
    await source.fill(3)
    await source.conn.execute(
        """
        INSERT INTO assessment_scores (response_id, score_data, created_at)
        SELECT 2, jsonb_build_object('n', n % 3, 'text', repeat('é', 131000)),
            timestamptz '2026-11-20Z' + n % 2 * interval '1 second'
        FROM generate_series(1, 80) AS n
        """
    )
    exported = source.export()
    lines = [json.loads(each) for each in exported.splitlines()]

    done = [target.run("import", given=exported) for _ in range(2)]

    assert [each["response_id"] for each in lines] == [1, 2, 2, 2, 3]
    assert max(map(len, exported.splitlines())) < 9 * MEBIBYTE
    assert [each.returncode for each in done] == [0, 0]
    assert done[1].stderr == summary(0, 0, 5)
    assert in_order(await content(target.conn)) == in_order(await content(source.conn))


def in_order(rows: list[Any]) -> list[Any]:
    """Return responses with their scores oldest first, as an export has them."""
    return [(row, sorted(scores, key=lambda each: each["created_at"])) for row, scores in rows]


async def test_every_page_of_scores_is_exported(source: Database, target: Database) -> None:
    """Responses with no score, with one and with many at one time: every score arrives once."""
    await source.fill(450)
    for response_id, count in {3: 700, 4: 1, 7: 249, 8: 250, 199: 251, 201: 1, 450: 500}.items():
        await source.conn.execute(
            "INSERT INTO assessment_scores (response_id, score_data, created_at) "
            "SELECT $1, jsonb_build_object('n', n), timestamptz '2026-11-20Z' + n / 90 * "
            "interval '1 second' FROM generate_series(1, $2::bigint) AS n",
            response_id,
            count,
        )

    done = target.run("import", given=source.export())

    assert done.returncode == 0
    assert in_order(await content(target.conn)) == in_order(await content(source.conn))


async def test_the_scores_of_a_batch_are_not_in_memory_at_once(source: Database) -> None:
    """An export needs less memory than a response's scores."""
    count, size = 2_500, 100_000
    await source.fill(1)
    await source.conn.execute(
        "INSERT INTO assessment_scores (response_id, score_data) "
        "SELECT 1, jsonb_build_object('n', n, 'text', repeat('x', $2)) "
        "FROM generate_series(1, $1::bigint) AS n",
        count,
        size,
    )

    def limit_memory() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (count * size, count * size))

    with source.start(
        "export", stdout=subprocess.DEVNULL, stderr=None, preexec_fn=limit_memory
    ) as process:
        status = await asyncio.to_thread(process.wait, 30)

    assert status == 0
