"""Arguments from real rows, and what a query does with them: ``explain --analyze``."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg

from assessments.cli.errors import CommandError, describe
from assessments.plans import prepared
from assessments.queries import queries
from assessments.transactions import rolled_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    Arguments = dict[str, str | None]

_ROWS = 100
_SETTINGS = (
    "SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '2s';"
    "SET LOCAL plan_cache_mode = force_generic_plan"
)
# What a read may be restricted to; a new response has them in any case.
_FILTERS = frozenset({"module_slug", "question_id", "question_ids"})
_FILTERED = (
    *("get_responses", "get_scored_responses", "get_latest_responses", "get_unscored", "iter_"),
    "cli.report_",
)
_REQUIRED = {"_for_module": "module_slug", "_for_question": "question_id"}
_CONSTANTS: Arguments = {
    "max_rows": str(_ROWS),
    "answer_text": "an answer",
    "answer_metadata": "{}",
    "score_data": "{}",
    "skip_answered": "true",
    "skip_conflicts": "true",
    "older_than": "90 days",
    "unit": "month",
    "points_path": "{points}",
    "of_path": "{of}",
    "low": "0",
    "step": "0.1",
    "buckets": "11",
}


@dataclass(frozen=True)
class Sample:
    """Arguments for every query, as text, and how many responses their owners have."""

    name: str
    user_responses: int
    anonymous_responses: int
    arguments: Arguments
    is_filtered: bool = False

    def select(self, query: str) -> Arguments:
        """Return the arguments of *query*, without those that are null."""
        optional = query.startswith(_FILTERED) and not self.is_filtered
        required = {name for suffix, name in _REQUIRED.items() if query.endswith(suffix)}
        given = {
            name: self.arguments.get(name)
            for name in queries.driver_adapter.var_sorted[query]
            if name in required or not (optional and name in _FILTERS)
        }
        # A response has one owner, and is claimed for a user.
        has_user = self.arguments["user_id"] is not None
        if query == ("submit_response" if has_user else "claim_assessment_responses"):
            given["anonymous_token"] = None
        return {name: value for name, value in given.items() if value is not None}


async def read_samples(pool: asyncpg.Pool[Any]) -> list[Sample]:
    """Return the arguments of a typical owner and of the heaviest, whose filters come last.

    Raises:
        CommandError: There are no responses.
    """
    async with _discarded(pool) as conn:
        owners = await queries.cli.get_sample_owners(conn)
        if not owners:
            raise CommandError("--analyze: there are no responses to take arguments from")
        heaviest, typical = [await _read_owner(conn, owners, place) for place in (0, -1)]
        scorer = await _read_scorer(conn, heaviest.rows[0]["response_id"])
    samples = [
        Sample("typical owner", *typical.counts, _arguments(typical, scorer)),
        Sample("heaviest owner", *heaviest.counts, _arguments(heaviest, scorer)),
    ]
    return [*samples, replace(samples[1], name=f"{samples[1].name}, filtered", is_filtered=True)]


class _Owner(NamedTuple):
    """A user and an anonymous owner, how many responses they have, and the newest ones."""

    ids: dict[str, Any]
    counts: tuple[int, int]
    rows: Sequence[Any]


async def _read_owner(conn: Any, owners: list[Any], place: int) -> _Owner:
    users = [owner for owner in owners if owner["is_user"]]
    tokens = [owner for owner in owners if not owner["is_user"]]
    user = users[place] if users else None
    token = tokens[place] if tokens else None
    ids: dict[str, Any] = {
        "user_id": int(user["owner_id"]) if user else None,
        "anonymous_token": UUID(token["owner_id"]) if token else None,
    }
    others = ("before_created_at", "before_response_id")
    rows = await queries.get_responses(
        conn,
        **ids | ({"anonymous_token": None} if user else {}),
        **dict.fromkeys(others),
        max_rows=_ROWS,
    )
    counts = (user["responses"] if user else 0, token["responses"] if token else 0)
    return _Owner(ids, counts, rows)


async def _read_scorer(conn: Any, response_id: int) -> dict[str, str]:
    """Return the model and the prompt version of one of the response's scores, or made-up ones."""
    scorer = {"model_id": "model", "prompt_version": "version"}
    with suppress(asyncpg.InsufficientPrivilegeError):
        async with rolled_back(conn):
            for score in await queries.get_scores_of_any_owner(conn, response_id=response_id):
                if score["model_id"] and score["prompt_version"]:
                    return {name: score[name] for name in scorer}
    return scorer


def _arguments(owner: _Owner, scorer: dict[str, str]) -> Arguments:
    first = {name: owner.rows[0][name] for name in ("response_id", "question_id", "module_slug")}
    scalars = {name: _text(value) for name, value in (owner.ids | first | scorer).items()}
    arrays = {name: _array(values) for name, values in _columns(owner.rows, scorer)}
    return _CONSTANTS | scalars | arrays


def _columns(rows: Sequence[Any], scorer: dict[str, str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the arrays of a batch: these rows, but with keys and contents of their own."""
    for name in ("response_id", "user_id", "anonymous_token", "question_id", "module_slug"):
        yield f"{name}s", [row[name] for row in rows]
    for name in ("created_ats", "score_created_ats"):
        yield name, [row["created_at"] for row in rows]
    yield "submission_keys", [uuid4() for _ in rows]
    yield "score_numbers", list(range(1, len(rows) + 1))
    same: dict[str, object] = {
        "learning_outcome_ids": None,
        "content_ids": None,
        "answer_texts": _CONSTANTS["answer_text"],
        "answer_metadatas": "{}",
        "score_datas": "{}",
        "score_occurrences": 1,
    }
    for prefix in ("", "score_"):
        same |= {f"{prefix}{name}s": value for name, value in scorer.items()}
    for name, value in same.items():
        yield name, [value] * len(rows)
    for each in ("a", "b"):
        yield f"{each}_models", [scorer["model_id"]]
        yield f"{each}_prompts", [scorer["prompt_version"]]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _array(values: list[Any]) -> str:
    """Return an array of PostgreSQL's, as text."""
    escaped = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    elements = (
        "NULL" if value is None else f'"{text}"'
        for value, text in zip(values, escaped, strict=True)
    )
    return f"{{{','.join(elements)}}}"


async def measure(
    pool: asyncpg.Pool[Any], query: str, samples: list[Sample]
) -> list[dict[str, Any]]:
    """Run *query* by its generic plan, once for each sample that gives it other arguments."""
    given = {sample.name: sample.select(query) for sample in samples}
    typical, heaviest, filtered = given
    if given[filtered] == given[heaviest]:
        del given[filtered]
    if given[typical] == given[heaviest]:
        del given[typical]
        given = {name.replace("heaviest", "any"): each for name, each in given.items()}
    return [
        {"sample": name, "arguments": sorted(arguments), **await _run(pool, query, arguments)}
        for name, arguments in given.items()
    ]


async def _run(pool: asyncpg.Pool[Any], query: str, arguments: Arguments) -> dict[str, Any]:
    try:
        async with (
            _discarded(pool) as conn,
            prepared(conn, query) as statement,
            rolled_back(conn),  # so that what it prepared can be given up after an error
        ):
            expressions = await statement.set_arguments(arguments)
            call = statement.call(expressions)
            top = await statement.explain("ANALYZE, BUFFERS, FORMAT JSON", call)
    except asyncpg.PostgresConnectionError:
        raise
    except asyncpg.PostgresError as error:
        empty = dict.fromkeys(("milliseconds", "buffers", "rows", "plan"))
        return {"problem": describe(error), "triggers": [], **empty}
    plan = top["Plan"]
    # What changes rows and returns none reads as many as it changes.
    last = plan if plan["Actual Rows"] or not plan.get("Plans") else plan["Plans"][-1]
    return {
        "problem": None,
        "milliseconds": top["Execution Time"],
        "buffers": plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        "rows": round((last if plan["Node Type"] == "ModifyTable" else plan)["Actual Rows"]),
        "triggers": [
            f"trigger for {trigger.get('Constraint Name') or trigger['Trigger Name']}: "
            f"{trigger['Calls']:,} calls, {trigger['Time']:,.2f} ms"
            for trigger in top.get("Triggers", ())
        ],
        "plan": plan,
    }


@asynccontextmanager
async def _discarded(pool: asyncpg.Pool[Any]) -> AsyncIterator[Any]:
    """Yield a connection in a transaction of its own that is rolled back."""
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        try:
            await conn.execute(_SETTINGS)
            yield conn
        finally:
            await transaction.rollback()
