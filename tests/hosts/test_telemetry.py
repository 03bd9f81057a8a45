"""OpenTelemetry as docs/hosts.md sets it up: spans have names, and disclose nobody's data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from assessments import claim_assessment_responses, create_pool
from tests.helpers.calls import KEY, RECORDS, SUBMITS, TOKEN, Subject, catalogue
from tests.helpers.pages import blocks
from tests.helpers.rows import SECRET, submit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    Connection = asyncpg.Connection[Any]

# The statements of an atomic block, and the reset of a pool's connection at its release.
AROUND = {"BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SELECT"}
HIDDEN = [SECRET, *(form for uuid in (TOKEN, KEY) for form in (str(uuid), uuid.hex))]


class Tracing:
    """A provider whose finished spans are in memory, and the recipe of the page on it."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.names: dict[str, Any] = {"provider": self.provider}
        (recipe,) = blocks("docs/hosts.md", "python", "Telemetry")
        exec(recipe, self.names)  # noqa: S102 - our own page

    def take(self) -> list[Any]:
        """Return the spans that have ended since the last time."""
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    """Return asyncpg instrumented by the recipe, for as long as the test runs."""
    created = Tracing()
    yield created
    created.names["AsyncPGInstrumentor"]().uninstrument()


async def test_every_span_has_the_name_of_its_query(
    tracing: Tracing, conn: Connection, user_id: int
) -> None:
    """Each call's statements are found by the names that sql/ gives them, the rest by its verb."""
    await submit(conn, anonymous_token=TOKEN)
    subject = Subject(user_id=user_id)
    for name, call in catalogue(subject).items():
        tracing.take()
        await call(conn)

        spans = tracing.take()
        queries = [re.match(r"/\* (\S+) \*/", span.attributes["db.statement"]) for span in spans]
        assert [span.name for span, query in zip(spans, queries, strict=True) if query] == [
            query[1] for query in queries if query
        ]
        assert any(queries), name
        assert {span.name for span, query in zip(spans, queries, strict=True) if not query} <= (
            AROUND
        )


async def test_a_call_on_a_pool_has_its_query_s_span_and_the_reset_s(
    tracing: Tracing, database: str, token: UUID, user_id: int
) -> None:
    """Acquiring a connection has none; behind a pooler the reset is not sent."""
    tracing.take()
    async with create_pool(database) as pool:
        await submit(pool, anonymous_token=token)
        assert [span.name for span in tracing.take()] == ["assessments.submit_response", "SELECT"]
    async with create_pool(database, pooler="transaction") as pool:
        await claim_assessment_responses(pool, anonymous_token=token, user_id=user_id)
        assert [span.name for span in tracing.take()] == [
            "BEGIN",
            "assessments.lock_claim",
            "assessments.claim_assessment_responses",
            "COMMIT",
        ]


async def test_no_span_holds_an_answer_a_token_or_a_score(
    tracing: Tracing, conn: Connection, user_id: int
) -> None:
    """Whether a call succeeds or PostgreSQL refuses its row, and in the span around it too."""
    await submit(conn, anonymous_token=TOKEN, answer_text=SECRET)
    subject = Subject(user_id=user_id)
    tracer = tracing.provider.get_tracer("the host's")
    failed = set()
    for check in ("", "assessment_responses ADD CHECK (length(answer_text) < 5) NOT VALID"):
        if check:
            scores = "ALTER TABLE assessment_scores ADD CHECK (score_data ? 'points') NOT VALID"
            await conn.execute(f"ALTER TABLE {check}; {scores}")
        tracing.take()
        for name, call in catalogue(subject).items():
            transaction = conn.transaction()
            await transaction.start()
            try:
                with tracer.start_as_current_span("a request"):
                    await call(conn)
            except asyncpg.CheckViolationError:
                failed.add(name)
            await transaction.rollback()

        shown = "".join(span.to_json() for span in tracing.take())
        assert '"assessments.submit_response"' in shown
        assert [secret for secret in HIDDEN if secret in shown] == []
    assert failed >= SUBMITS | RECORDS
    assert "CheckViolationError" in shown


def test_a_statement_is_found_under_either_convention(tracing: Tracing) -> None:
    """OTEL_SEMCONV_STABILITY_OPT_IN=database renames the attribute that holds it."""
    tracer = tracing.names["QueryTracerProvider"]().get_tracer("asyncpg's")
    text = "/* assessments.get_scores */ SELECT"
    for attribute in ("db.statement", "db.query.text"):
        with tracer.start_as_current_span("SELECT", attributes={attribute: text}):
            pass

    assert [span.name for span in tracing.take()] == ["assessments.get_scores"] * 2
