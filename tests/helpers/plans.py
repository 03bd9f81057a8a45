"""The indexes that each query promises to use, and its plan on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assessments.queries import named, queries

if TYPE_CHECKING:
    import asyncpg

PLANS = {
    "submit_response": {"users_pkey"},
    "submit_response_once": {"users_pkey"},
    "submit_responses_once": {"users_pkey"},
    "get_submitted_responses": {"idx_assessment_responses_submission_key"},
    "get_responses": {"idx_assessment_responses_user_id", "idx_assessment_responses_anon"},
    "get_responses_for_question": {
        "idx_assessment_responses_question",
        "idx_assessment_responses_anon",
    },
    "lock_claim": {"users_pkey"},
    "claim_assessment_responses": {
        "idx_assessment_responses_anon",
        "idx_assessment_responses_question",
        "assessment_responses_pkey",
    },
    "record_score": {"assessment_responses_pkey"},
    "get_scores": {"assessment_responses_pkey", "idx_assessment_scores_response_id"},
    "submit_responses": {"users_pkey"},
    "first_unknown_user": {"users_pkey"},
    "record_scores": {"assessment_responses_pkey"},
    "first_unknown_response": {"assessment_responses_pkey"},
    "get_responses_with_latest_score": {
        "idx_assessment_responses_user_id",
        "idx_assessment_responses_anon",
        "idx_assessment_scores_response_id",
    },
    "get_latest_responses": {
        "idx_assessment_responses_question",
        "idx_assessment_responses_user_id",
        "idx_assessment_responses_anon",
        "assessment_responses_pkey",
    },
    "get_unscored_responses": {
        "assessment_responses_pkey",
        "idx_assessment_scores_response_id",
    },
    "iter_responses": {"assessment_responses_pkey"},
    "iter_owner_responses": {"idx_assessment_responses_user_id", "idx_assessment_responses_anon"},
    "count_anonymous_responses": {"idx_assessment_responses_anon"},
    "purge_anonymous_responses": {
        "idx_assessment_responses_anon",
        "assessment_responses_pkey",
    },
    "delete_responses": {
        "idx_assessment_responses_user_id",
        "idx_assessment_responses_anon",
        "assessment_responses_pkey",
    },
    "cli.export_details": {"assessment_responses_pkey", "idx_assessment_scores_response_id"},
    "cli.import_responses": {
        "idx_assessment_responses_submission_key",
        "assessment_responses_pkey",
        "users_pkey",
    },
}


async def plan_of(conn: asyncpg.Connection[Any], name: str, options: str, **arguments: str) -> str:
    """Return the plan of the query *name*; an argument that is not given is null."""
    await conn.execute(f"PREPARE plan_of AS {named(name).sql}")
    values = [arguments.get(each, "NULL") for each in queries.driver_adapter.var_sorted[name]]
    lines = await conn.fetch(f"EXPLAIN ({options}) EXECUTE plan_of ({', '.join(values)})")
    await conn.execute("DEALLOCATE plan_of")
    return "\n".join(line for (line,) in lines)
