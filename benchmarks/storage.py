"""Bytes a response and a score, WAL a call, what claims leave behind, and what a purge reads.

Loads responses of realistic length (the table of texts below; metadata, a submission key each, one
or two scores with feedback) over the users, tokens, questions and modules of benchmarks/plans.py.

    python -m benchmarks.storage [ROWS]     ten million take 25 GB of disk and most of an hour

A call's WAL is shown without full-page images, and directly after a checkpoint, when each page that
it touches is written whole; under load it lies between the two. Claims are measured on a table of
300,000 responses that grows by half, each new response claimed once; VACUUM runs where autovacuum
would start it: by PostgreSQL's thresholds, or by a tenth of them.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

import assessments
from assessments import backoffice
from assessments.testing import migrations, server
from benchmarks.plans import ROWS, show

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Connection = asyncpg.Connection[Any]
    Call = Callable[[], Awaitable[Any]]

TEXTS = 4000
"""Different answers; each is in many rows, which changes no row's size."""
CALLS = 200
CLAIMED = 300_000
OWNED = 10
"""Responses of one claim, and of one erasure."""

chance = Random(1)  # noqa: S311 - lengths and words
WORDS = [
    "".join(chance.choices("etaoinshrdlucmfwypvbgk", k=chance.randint(2, 11))) for _ in range(2000)
]

LOAD = """
SET session_replication_role = replica; -- checks no foreign key
INSERT INTO users SELECT FROM generate_series(1, $1 / 20);
INSERT INTO assessment_responses (
    user_id, anonymous_token, submission_key, question_id, module_slug, learning_outcome_id,
    answer_text, answer_metadata, created_at
)
SELECT
    CASE WHEN n % 3 > 0 THEN 1 + (power(random(), 2) * ($1 / 20 - 1))::int END,
    CASE WHEN n % 3 = 0 THEN md5((n % ($1 / 12))::text)::uuid END,
    gen_random_uuid(), 'question-' || (random() * 500)::int, 'module-' || (random() * 50)::int,
    'outcome-' || (random() * 100)::int, t.answer,
    jsonb_build_object('locale', 'en', 'seconds', n % 300, 'client', 'web 3.2.1'),
    now() - ($1 - n) * interval '10 seconds'
FROM generate_series(1, $1) AS n
INNER JOIN texts AS t ON n % 4000 = t.text_id;
INSERT INTO assessment_scores (response_id, score_data, model_id, prompt_version, created_at)
SELECT
    r.response_id,
    jsonb_build_object('points', 3, 'of', 5, 'confidence', 0.87, 'feedback', t.feedback),
    'model-2026-11', 'p' || s, r.created_at + s * interval '1 minute'
FROM assessment_responses AS r
INNER JOIN texts AS t ON r.response_id % 4000 = t.text_id
CROSS JOIN generate_series(1, 1 + r.response_id % 2) AS s;
RESET session_replication_role;
"""

SIZES = """
WITH tables AS (
    SELECT c.oid, c.relname, c.reltoastrelid, c.relname::text AS of
    FROM pg_class AS c WHERE c.relname IN ('assessment_responses', 'assessment_scores')
)
SELECT of, 'the table' AS what, pg_table_size(oid) - pg_total_relation_size(reltoastrelid) AS bytes
FROM tables
UNION ALL SELECT of, 'TOAST', pg_total_relation_size(reltoastrelid) FROM tables
UNION ALL
SELECT of, indexrelid::regclass::text, pg_relation_size(indexrelid)
FROM tables INNER JOIN pg_index ON indrelid = oid
ORDER BY 1, 3 DESC
"""
STATISTICS = """
SELECT
    n_tup_upd, n_tup_hot_upd, n_dead_tup,
    n_dead_tup > 50 + $1 * reltuples::float8
    OR n_ins_since_vacuum > 1000 + $1 * reltuples::float8
FROM pg_stat_user_tables INNER JOIN pg_class ON oid = relid
WHERE pg_class.relname = 'assessment_responses'
"""


def text(median: int) -> str:
    """Return words of about *median* bytes: half of all texts shorter, one in a hundred 8 times."""
    length = min(int(chance.lognormvariate(0, 0.9) * median), 20_000)
    words = " ".join(chance.choices(WORDS, k=1 + length // 7))
    return words[: max(length, 1)]


async def main(rows: int) -> None:
    """Measure on *rows* responses, and print."""
    with server.running() as url:
        migrations.apply(url)
        conn = await asyncpg.connect(url)
        await set_on_server(conn, autovacuum="off", full_page_writes="off")
        begun = perf_counter()
        await load(conn, rows)
        version = conn.get_server_version().major
        print(f"PostgreSQL {version}, {rows:,} responses in {perf_counter() - begun:.0f} s\n")
        await print_sizes(conn)
        await print_wal(conn, rows)
        await print_purges(conn, rows)
        for scale, fillfactor in ((0.2, 100), (0.02, 100), (0.2, 85)):
            await print_claims(conn, url, scale, fillfactor)
        await conn.close()


async def set_on_server(conn: Connection, **settings: str) -> None:
    """Change settings of the server, and return once this session sees them."""
    for name, value in settings.items():
        await conn.execute(f"ALTER SYSTEM SET {name} = {value}")
    await conn.execute("SELECT pg_reload_conf()")
    for name, value in settings.items():
        while await conn.fetchval(f"SHOW {name}") != value:  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.01)


async def load(conn: Connection, rows: int) -> None:
    """Fill the tables."""
    await conn.execute("CREATE TEMPORARY TABLE texts (text_id int, answer text, feedback text)")
    texts = [(n, text(400), text(250)) for n in range(TEXTS)]
    await conn.copy_records_to_table("texts", records=texts)
    await conn.execute("ANALYZE texts")
    for statement in LOAD.split(";\n")[:-1]:
        await conn.execute(statement.replace("$1", str(rows)))
    await conn.execute("DROP TABLE texts")
    await conn.execute("VACUUM ANALYZE assessment_responses, assessment_scores")


async def print_sizes(conn: Connection) -> None:
    """Print the bytes of a row, by table, TOAST and index."""
    length = "SELECT avg(octet_length(answer_text))::int FROM assessment_responses"
    print(f"an answer has {await conn.fetchval(length):,} bytes on average")
    count: dict[str, int] = {}
    for table in ("assessment_responses", "assessment_scores"):
        count[table] = await conn.fetchval(f"SELECT count(*) FROM {table}")
    total = 0
    for table, what, size in await conn.fetch(SIZES):
        total += size
        each = size / count[table]
        print(f"{table:22}{what:42}{size / 2**20:9,.0f} MiB{each:8,.1f} bytes a row")
    each = total / count["assessment_responses"]
    print(f"together {total / 2**30:.2f} GiB, {each:,.0f} bytes a response with its scores\n")


def answer(number: int = 1) -> Any:
    """Return the arguments of a submission but its owner."""
    return {
        "question_id": f"question-{number}",
        "module_slug": "module-7",
        "learning_outcome_id": "outcome-7",
        "answer_text": text(400),
        "answer_metadata": {"locale": "en", "seconds": 48, "client": "web 3.2.1"},
    }


async def a_submission(conn: Connection, rows: int, **key: Any) -> Call:
    """Return the submission of a user."""
    user_id = chance.randint(1, rows // 20)
    return partial(assessments.submit_response, conn, user_id=user_id, **answer(), **key)


async def a_keyed_submission(conn: Connection, rows: int) -> Call:
    """Return one with a submission key."""
    return await a_submission(conn, rows, submission_key=uuid4())


async def a_score(conn: Connection, rows: int, response_id: int | None = None) -> Call:
    """Return the recording of a score."""
    return partial(
        backoffice.record_score,
        conn,
        response_id=response_id or chance.randint(1, rows),
        score_data={"points": 3, "of": 5, "confidence": 0.87, "feedback": text(250)},
        model_id="model-2026-11",
        prompt_version="p1",
    )


async def a_claim(conn: Connection, rows: int) -> Call:
    """Submit some responses; return their claim."""
    token = uuid4()
    responses: Any = [{"anonymous_token": token, **answer(number)} for number in range(OWNED)]
    await assessments.submit_responses(conn, responses)
    user_id = chance.randint(1, rows // 20)
    return partial(
        assessments.claim_assessment_responses,
        conn,
        anonymous_token=token,
        user_id=user_id,
        skip_answered=False,
    )


async def an_erasure(conn: Connection, rows: int) -> Call:
    """Submit and score some responses; return their erasure."""
    token = uuid4()
    responses: Any = [{"anonymous_token": token, **answer(number)} for number in range(OWNED)]
    for stored in await assessments.submit_responses(conn, responses):
        await (await a_score(conn, rows, stored["response_id"]))()
    return partial(assessments.delete_responses, conn, anonymous_token=token)


async def print_wal(conn: Connection, rows: int) -> None:
    """Print the WAL of each call."""
    prepares = {
        "submit_response": a_submission,
        "the same with a submission key": a_keyed_submission,
        "record_score": a_score,
        f"claim of {OWNED} responses": a_claim,
        f"erasure of {OWNED} responses with a score each": an_erasure,
    }
    print("bytes of WAL a call: without full-page images, and directly after a checkpoint")
    for title, prepare in prepares.items():
        await set_on_server(conn, full_page_writes="off")
        calls = [await prepare(conn, rows) for _ in range(CALLS)]
        plain = [await wal_of(conn, call) for call in calls]
        await set_on_server(conn, full_page_writes="on")
        calls = [await prepare(conn, rows) for _ in range(CALLS)]
        full = [await wal_of(conn, call, checkpoint=True) for call in calls]
        print(f"    {title:46}{sum(plain) / CALLS:8,.0f}{sum(full) / CALLS:10,.0f}", flush=True)
    await set_on_server(conn, full_page_writes="off")


async def wal_of(conn: Connection, call: Call, *, checkpoint: bool = False) -> int:
    """Return how many bytes of WAL *call* writes."""
    if checkpoint:
        await conn.execute("CHECKPOINT")
    position = "SELECT pg_current_wal_insert_lsn()"  # which asyncpg reads as a number
    begun: int = await conn.fetchval(position)
    await call()
    return int(await conn.fetchval(position)) - begun


async def print_purges(conn: Connection, rows: int) -> None:
    """Print what purges read; what they erase is rolled back."""
    await conn.execute("VACUUM ANALYZE")
    await conn.execute("SET plan_cache_mode = force_generic_plan; SET jit = off")
    print()
    half = f"interval '10 seconds' * {rows // 2}"
    for title, age in (("nothing is old enough", "interval '100 years'"), ("half are", half)):
        for name in ("count_responses", "purge_responses", "purge_anonymous_responses"):
            arguments = {"older_than": age, "max_rows": "10000"}
            await show(conn, f"{name}, {title}", name, arguments, rows, full=False)
    await conn.execute("RESET plan_cache_mode; RESET jit")


async def print_claims(conn: Connection, url: str, scale: float, fillfactor: int) -> None:
    """Print what claims leave of a table that is vacuumed at this scale factor."""
    await conn.execute("CREATE DATABASE claims")
    claims_url = urlsplit(url)._replace(path="/claims").geturl()
    migrations.apply(claims_url)
    claimed = await asyncpg.connect(claims_url)
    await claimed.execute(f"ALTER TABLE assessment_responses SET (fillfactor = {fillfactor})")
    await load(claimed, CLAIMED)
    await claimed.execute("SELECT pg_stat_reset()")
    vacuums, most_dead, seconds = 0, 0, 0.0
    for _ in range(CLAIMED // 2 // OWNED // 100):
        calls = [await a_claim(claimed, CLAIMED) for _ in range(100)]
        begun = perf_counter()
        for call in calls:
            await call()
        seconds += perf_counter() - begun
        _, _, dead, is_overdue = await statistics(claimed, scale)
        most_dead = max(most_dead, dead)
        if is_overdue:
            await claimed.execute("VACUUM ANALYZE assessment_responses")
            vacuums += 1
    updated, hot, *_ = await statistics(claimed, scale)
    table, indexes = await table_and_indexes(claimed)
    await claimed.execute("VACUUM FULL assessment_responses")
    least_table, least_indexes = await table_and_indexes(claimed)
    await claimed.close()
    await conn.execute("DROP DATABASE claims")
    print(
        f"\nscale factor {scale}, fillfactor {fillfactor}: {updated:,} rows claimed, {hot:,} HOT;"
        f"\n    {vacuums} vacuums, at most {most_dead:,} dead rows;"
        f" {seconds / (CLAIMED // 2 // OWNED) * 1000:.2f} ms a claim of {OWNED};"
        f"\n    table {table:,.0f} MiB, {table / least_table:.2f} x what VACUUM FULL leaves;"
        f" indexes {indexes:,.0f} MiB, {indexes / least_indexes:.2f} x",
        flush=True,
    )


async def statistics(conn: Connection, scale: float) -> Any:
    """Return the rows updated, HOT and dead, and whether autovacuum would be started."""
    await conn.execute("SELECT pg_stat_force_next_flush()")
    return await conn.fetchrow(STATISTICS, scale)


async def table_and_indexes(conn: Connection) -> tuple[float, float]:
    """Return the MiB of the responses and of their indexes."""
    row = await conn.fetchrow(
        "SELECT pg_table_size(t) / 2^20, pg_indexes_size(t) / 2^20"
        " FROM (SELECT 'assessment_responses'::regclass AS t) AS of"
    )
    assert row  # noqa: S101 - an aggregate
    return row[0], row[1]


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
