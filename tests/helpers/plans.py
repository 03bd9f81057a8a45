"""The indexes that each query promises to use, and its plan on a server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from assessments.queries import named, queries

if TYPE_CHECKING:
    import asyncpg

_USERS, _RESPONSES = "users_pkey", "assessment_responses_pkey"
_KEY = "idx_assessment_responses_submission_key"
_USER, _ANONYMOUS = "idx_assessment_responses_user_id", "idx_assessment_responses_anon"
_QUESTION = "idx_assessment_responses_question"
_SCORES = "idx_assessment_scores_response_id"

PLANS = {
    "submit_response": {_USERS},
    "submit_responses": {_USERS},
    "get_submitted_responses": {_USERS, _KEY, _RESPONSES},
    "get_response": {_RESPONSES},
    "get_responses": {_USER, _ANONYMOUS},
    "get_responses_for_question": {_QUESTION, _ANONYMOUS},
    "get_latest_responses": {_QUESTION, _USER, _ANONYMOUS, _RESPONSES},
    "get_responses_with_latest_score": {_USER, _ANONYMOUS, _SCORES},
    "get_latest_responses_with_latest_score": {
        *(_QUESTION, _USER, _ANONYMOUS, _RESPONSES, _SCORES),
    },
    "get_scores": {_RESPONSES, _SCORES},
    "get_scores_of_any_owner": {_SCORES},
    "lock_claim": {_USERS},
    "claim_assessment_responses": {_ANONYMOUS, _QUESTION, _RESPONSES},
    "delete_responses": {_USER, _ANONYMOUS, _RESPONSES},
    "record_score": {_RESPONSES},
    "record_scores": {_RESPONSES},
    "lock_score": set(),
    "record_score_once": {_RESPONSES, _SCORES},
    "get_unknown_responses": {_RESPONSES},
    "get_responses_by_id": {_RESPONSES},
    "get_unscored_responses": {_RESPONSES, _SCORES, _QUESTION, _ANONYMOUS},
    "iter_responses": {_RESPONSES},
    "iter_owner_responses": {_USER, _ANONYMOUS},
    "iter_responses_with_scores": {_RESPONSES, _SCORES},
    "iter_owner_responses_with_scores": {_USER, _ANONYMOUS, _RESPONSES, _SCORES},
    "count_anonymous_responses": {_ANONYMOUS},
    "purge_anonymous_responses": {_ANONYMOUS, _RESPONSES},
    "count_responses": {_USER, _ANONYMOUS},
    "purge_responses": {_USER, _ANONYMOUS, _RESPONSES},
    "cli.get_database_identity": set(),
    "cli.lock_import": set(),
    "cli.import_responses": {_KEY, _RESPONSES, _USERS, _SCORES},
}


async def plan_of(conn: asyncpg.Connection[Any], name: str, options: str, **arguments: str) -> str:
    """Return the plan of the query *name*; an argument that is not given is null."""
    await conn.execute(f"PREPARE plan_of AS {named(name).sql}")
    values = [arguments.get(each, "NULL") for each in queries.driver_adapter.var_sorted[name]]
    call = f"plan_of ({', '.join(values)})" if values else "plan_of"
    lines = await conn.fetch(f"EXPLAIN ({options}) EXECUTE {call}")
    await conn.execute("DEALLOCATE plan_of")
    return "\n".join(line for (line,) in lines)


async def generic_plan(conn: asyncpg.Connection[Any], name: str) -> str:
    """Return the plan of the query *name* that PostgreSQL caches for any arguments."""
    await conn.execute("SET plan_cache_mode = force_generic_plan")
    return await plan_of(conn, name, "COSTS OFF")


async def buffers_of_a_page(conn: asyncpg.Connection[Any]) -> int:
    """Return how many buffers the newest 20 responses of user 1 touch."""
    plan = await plan_of(conn, "get_responses", "ANALYZE, BUFFERS", user_id="1", max_rows="20")
    assert "rows=20" in plan.splitlines()[0]
    buffers = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", plan)
    assert buffers
    return sum(int(number or 0) for number in buffers.groups())


def indexes(plan: str) -> set[str]:
    """Return the indexes that *plan* uses."""
    return set(re.findall(r"(?:using|on) (\w+_(?:pkey|key|id|anon|question|module))\b", plan))
