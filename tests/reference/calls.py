"""The calls of each query that its page of plans shows, and those that read more than they give."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Arguments: TypeAlias = "dict[str, str]"
"""SQL expressions, by parameter."""


class Case(NamedTuple):
    """Calls of a query: each column with each combination of the filters."""

    columns: dict[str, Arguments]
    filters: dict[str, Arguments] = {}  # noqa: RUF012 - never changed
    always: Arguments = {}  # noqa: RUF012 - never changed


def _stored(expression: str, condition: str, order: str = "response_id") -> str:
    """Return ten values of rows of the data set, as an array."""
    rows = f"SELECT * FROM assessment_responses WHERE {condition} ORDER BY {order} LIMIT 10"  # noqa: S608
    return f"(SELECT array_agg(({expression})::text ORDER BY {order}) FROM ({rows}) AS rows)"  # noqa: S608


USER = {"user_id": "1"}
TOKEN = {"anonymous_token": "md5('7')::uuid"}
OWNERS = {"user 1": USER, "a token": TOKEN, "both": USER | TOKEN}
MODULE = {"module_slug": "'module-7'"}
QUESTION = {"question_id": "'welcome'"}
TWENTY = "ARRAY['welcome', " + ", ".join(f"'question-{n}'" for n in range(1, 20)) + "]"
CURSOR = {"before_created_at": "'2025-04-15 04:00+00'", "before_response_id": "30000"}
DATES = {"since": "'2025-03-01'", "until": "'2025-06-01'"}
AFTER = {"after_response_id": "30000"}
EVERYBODY = {"from the beginning": {}, "from the middle": AFTER}
OWNER_WALKS = {
    "user 1": USER,
    "user 1 from the middle": USER | AFTER | {"after_created_at": "'2025-04-15 04:00+00'"},
    "a token": TOKEN,
}
HUMAN = {"human first": {"human_first": "TRUE"}}
PAGE_FILTERS = {"cursor": CURSOR, "limit 20": {"max_rows": "20"}}
MODULE_FILTER = {"module": MODULE}
LATEST_FILTERS = {"module": MODULE, "20 questions": {"question_ids": TWENTY}}
ITER_FILTERS = {"module": MODULE, "question": QUESTION, "dates": DATES}
A_HUNDRED = {"max_rows": "100"}
OLD = {
    "all are old": {"older_than": "now() - '2026-01-01 00:02+00'"},
    "half are old": {"older_than": "now() - '2025-04-15 00:02+00'"},
    "none is old": {"older_than": "now() - '2025-01-01 00:02+00'"},
}

NEW = {
    "question_id": "'welcome'",
    "module_slug": "'biology'",
    "answer_text": "'Because.'",
    "answer_metadata": "'{}'",
}
KEYED = "submission_key IS NOT NULL AND user_id = 1"
COLUMNS = {
    f"{name}s": _stored(name, KEYED)
    for name in (
        *("user_id", "anonymous_token", "question_id", "module_slug", "learning_outcome_id"),
        *("content_id", "answer_text", "answer_metadata", "submission_key"),
    )
}
NEW_KEYS = {"submission_keys": _stored("md5('new' || response_id)::uuid", KEYED)}
NO_KEYS = {"submission_keys": _stored("NULL", KEYED)}
SCORER = {"model_id": "'model-1'", "prompt_version": "'p1'"}
A_SCORE = SCORER | {"score_data": "'{}'"}
STORED = COLUMNS | {
    "skip_conflicts": "FALSE",
    "response_ids": _stored("response_id", KEYED),
    "created_ats": _stored("created_at", KEYED),
    "score_numbers": "ARRAY[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]",
    "score_datas": _stored("""'{"points": 3}'""", KEYED),
    "score_model_ids": _stored("'model-1'", KEYED),
    "score_prompt_versions": _stored("'p1'", KEYED),
    "score_created_ats": _stored("created_at + interval '1 minute'", KEYED),
    "score_occurrences": _stored("1", KEYED),
}
IDS = {"response_ids": _stored("response_id", "response_id % 6000 = 0")}

CASES: dict[str, Case] = {
    "submit_response": Case(
        {"user 1": USER, "a token": TOKEN},
        {"new key": {"submission_key": "md5('new')::uuid"}},
        NEW,
    ),
    "submit_responses": Case(
        {"10, new keys": NEW_KEYS, "10, no keys": NO_KEYS, "10, keys taken": {}}, always=COLUMNS
    ),
    "get_submitted_responses": Case({"10, keys taken": {}, "10, new keys": NEW_KEYS}, {}, COLUMNS),
    "get_response": Case(OWNERS, always={"response_id": "30000"}),
    "get_responses": Case(OWNERS, PAGE_FILTERS),
    "get_responses_for_module": Case(OWNERS, PAGE_FILTERS, MODULE),
    "get_responses_for_question": Case(OWNERS, MODULE_FILTER | PAGE_FILTERS, QUESTION),
    "get_responses_with_latest_score": Case(OWNERS, PAGE_FILTERS | HUMAN),
    "get_scored_responses_for_module": Case(OWNERS, PAGE_FILTERS | HUMAN, MODULE),
    "get_scored_responses_for_question": Case(
        OWNERS, MODULE_FILTER | PAGE_FILTERS | HUMAN, QUESTION
    ),
    "get_latest_responses": Case(OWNERS, LATEST_FILTERS),
    "get_latest_responses_with_latest_score": Case(OWNERS, LATEST_FILTERS | HUMAN),
    "lock_claim": Case({"a token, user 1": USER | TOKEN}),
    "claim_assessment_responses": Case(
        {"a token, user 1": USER | TOKEN, "a token, user 2": TOKEN | {"user_id": "2"}},
        {"skip answered": {"skip_answered": "TRUE"}},
    ),
    "delete_responses": Case(OWNERS),
    "record_score": Case({"a response": A_SCORE | {"response_id": "30000"}}),
    "record_scores": Case(
        {
            "10 responses": IDS
            | {
                "score_datas": _stored("'{}'", KEYED),
                "model_ids": _stored("'model-1'", KEYED),
                "prompt_versions": _stored("'p1'", KEYED),
            }
        }
    ),
    "get_unknown_responses": Case({"10 responses": IDS}),
    "lock_score": Case({"a response": SCORER | {"response_id": "30000"}}),
    "record_score_once": Case(
        {"scored": {"response_id": "30000"}, "not scored": {"response_id": "59950"}},
        always=A_SCORE,
    ),
    "get_scores": Case(OWNERS, always={"response_id": "30000"}),
    "get_scores_of_any_owner": Case({"a response": {"response_id": "30000"}}),
    "get_responses_by_id": Case({"10 responses": IDS}),
    "get_unscored_responses": Case(
        {
            "never scored": {},
            "not by p2": {"model_id": "'model-1'", "prompt_version": "'p2'"},
            "not by p1": SCORER,
        },
        {
            "module": MODULE,
            "question": QUESTION,
            "range": {"after_response_id": "59800", "up_to_response_id": "59990"},
            "latest attempts": {"latest_attempts_only": "TRUE"},
            "skip human": {"skip_human_scored": "TRUE"},
        },
        A_HUNDRED,
    ),
    "cli.import_responses": Case(
        {
            "10 stored": STORED,
            "10 new": STORED | NEW_KEYS | {"response_ids": _stored("-response_id", KEYED)},
        }
    ),
    "count_anonymous_responses": Case(OLD, always={"max_rows": "1000"}),
    "purge_anonymous_responses": Case(OLD, always={"max_rows": "1000"}),
    "count_responses": Case(OLD, always={"max_rows": "1000"}),
    "purge_responses": Case(OLD, always={"max_rows": "1000"}),
    "iter_responses": Case(EVERYBODY, ITER_FILTERS, A_HUNDRED),
    "iter_owner_responses": Case(OWNER_WALKS, ITER_FILTERS, A_HUNDRED),
    "iter_responses_with_scores": Case(EVERYBODY, ITER_FILTERS, A_HUNDRED),
    "iter_owner_responses_with_scores": Case(OWNER_WALKS, ITER_FILTERS, A_HUNDRED),
}

_INTERSECTION = "The token's index is intersected with all responses to the question."
_LATEST = "All of the owner's responses in the module are read, or those to the questions."
_BACKLOG = "The backlog reads from its cursor on until it has found so many."
_WALK = "A batch reads from its cursor on until so many match."
_ENTRIES = "Each row claimed is a new entry in each index."
_SUMS = "One row counts what was found or stored."
_COUNT = {"all are old": _SUMS, "half are old": _SUMS}

EXCEPTIONS: dict[str, dict[str, str]] = {
    "get_latest_responses": {"module": _LATEST},
    "get_latest_responses_with_latest_score": {"module": _LATEST},
    "get_unscored_responses": {
        **dict.fromkeys(("never scored", "not by p1", "module", "question"), _BACKLOG),
        "latest attempts": _INTERSECTION,
    },
    "iter_responses": dict.fromkeys(("module", "question", "dates"), _WALK),
    "iter_responses_with_scores": dict.fromkeys(("module", "question", "dates"), _WALK),
    "iter_owner_responses": dict.fromkeys(("module", "question"), _WALK),
    "iter_owner_responses_with_scores": dict.fromkeys(("module", "question"), _WALK),
    "claim_assessment_responses": {"a token, user 2": _ENTRIES},
    "count_anonymous_responses": _COUNT,
    "count_responses": _COUNT,
    "cli.import_responses": {"10 new": _SUMS},
}
"""Calls that read, touch or sort more than what they return explains, and why: by query, then by
the filter or the column that makes them do so."""
