# The queries of sql/ as type checkers see them. Written by `make reference`: do not edit.

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Record

from assessments.queries import Adapter, Connection

class CommandLineQueries:
    async def get_server_facts(self, conn: Connection) -> Any: ...
    async def get_applied_migrations(self, conn: Connection) -> list[Record]: ...
    async def get_yoyo_locks(self, conn: Connection) -> list[Record]: ...
    async def get_users_tables(self, conn: Connection) -> list[Record]: ...
    async def get_column_types(self, conn: Connection) -> list[Record]: ...
    async def get_constraints_and_indexes(self, conn: Connection) -> list[Record]: ...
    async def get_table_facts(self, conn: Connection) -> list[Record]: ...
    async def get_identity_columns(self, conn: Connection) -> list[Record]: ...
    async def get_triggers(self, conn: Connection) -> list[Record]: ...
    async def get_creators(self, conn: Connection) -> list[Record]: ...
    async def get_sample_owners(self, conn: Connection) -> list[Record]: ...
    async def report_totals(
        self,
        conn: Connection,
        *,
        module_slug: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> Any: ...
    async def report_updates(self, conn: Connection) -> Any: ...
    async def report_periods(
        self,
        conn: Connection,
        *,
        unit: str | None,
        module_slug: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> list[Record]: ...
    async def report_modules(
        self,
        conn: Connection,
        *,
        module_slug: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> list[Record]: ...
    async def report_backlog(
        self,
        conn: Connection,
        *,
        module_slug: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> Any: ...
    async def report_delays(
        self,
        conn: Connection,
        *,
        module_slug: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> Any: ...
    async def report_points(
        self,
        conn: Connection,
        *,
        points_path: Sequence[str | None] | None,
        of_path: Sequence[str | None] | None,
        module_slug: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> Any: ...
    async def report_scorers(
        self,
        conn: Connection,
        *,
        module_slug: str | None,
        since: datetime | None,
        until: datetime | None,
        points_path: Sequence[str | None] | None,
        of_path: Sequence[str | None] | None,
        low: float | None,
        step: float | None,
        buckets: int | None,
    ) -> list[Record]: ...
    async def report_pairs(
        self,
        conn: Connection,
        *,
        module_slug: str | None,
        since: datetime | None,
        until: datetime | None,
        points_path: Sequence[str | None] | None,
        of_path: Sequence[str | None] | None,
        low: float | None,
        step: float | None,
        buckets: int | None,
    ) -> list[Record]: ...
    async def report_differences(
        self,
        conn: Connection,
        *,
        module_slug: str | None,
        since: datetime | None,
        until: datetime | None,
        points_path: Sequence[str | None] | None,
        of_path: Sequence[str | None] | None,
        a_models: Sequence[str | None] | None,
        a_prompts: Sequence[str | None] | None,
        b_models: Sequence[str | None] | None,
        b_prompts: Sequence[str | None] | None,
        with_answers: bool | None,
    ) -> list[Record]: ...
    async def get_database_identity(self, conn: Connection) -> Any: ...
    async def lock_import(self, conn: Connection) -> Any: ...
    async def import_responses(
        self,
        conn: Connection,
        *,
        submission_keys: Sequence[str | None] | None,
        response_ids: Sequence[str | None] | None,
        user_ids: Sequence[str | None] | None,
        anonymous_tokens: Sequence[str | None] | None,
        question_ids: Sequence[str | None] | None,
        module_slugs: Sequence[str | None] | None,
        learning_outcome_ids: Sequence[str | None] | None,
        content_ids: Sequence[str | None] | None,
        answer_texts: Sequence[str | None] | None,
        answer_metadatas: Sequence[str | None] | None,
        created_ats: Sequence[str | None] | None,
        score_numbers: Sequence[str | None] | None,
        score_datas: Sequence[str | None] | None,
        score_model_ids: Sequence[str | None] | None,
        score_prompt_versions: Sequence[str | None] | None,
        score_created_ats: Sequence[str | None] | None,
        score_occurrences: Sequence[str | None] | None,
        skip_conflicts: bool | None,
    ) -> Any: ...

class Queries:
    cli: CommandLineQueries
    driver_adapter: Adapter
    @property
    def available_queries(self) -> list[str]: ...
    async def get_responses_by_id(
        self,
        conn: Connection,
        *,
        response_ids: Sequence[str | None] | None,
    ) -> list[Record]: ...
    async def get_unscored_responses(
        self,
        conn: Connection,
        *,
        after_response_id: int | None,
        up_to_response_id: int | None,
        model_id: str | None,
        prompt_version: str | None,
        skip_human_scored: bool | None,
        module_slug: str | None,
        question_id: str | None,
        latest_attempts_only: bool | None,
        max_rows: int | None,
    ) -> list[Record]: ...
    async def iter_responses(
        self,
        conn: Connection,
        *,
        after_response_id: int | None,
        module_slug: str | None,
        question_id: str | None,
        since: datetime | None,
        until: datetime | None,
        max_rows: int | None,
    ) -> list[Record]: ...
    async def iter_owner_responses(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        after_created_at: datetime | None,
        after_response_id: int | None,
        module_slug: str | None,
        question_id: str | None,
        since: datetime | None,
        until: datetime | None,
        max_rows: int | None,
        anonymous_token: UUID | str | None,
    ) -> list[Record]: ...
    async def iter_responses_with_scores(
        self,
        conn: Connection,
        *,
        after_response_id: int | None,
        module_slug: str | None,
        question_id: str | None,
        since: datetime | None,
        until: datetime | None,
        max_rows: int | None,
        after_scored_at: datetime | None,
        after_score_id: int | None,
    ) -> list[Record]: ...
    async def iter_owner_responses_with_scores(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        after_created_at: datetime | None,
        after_response_id: int | None,
        module_slug: str | None,
        question_id: str | None,
        since: datetime | None,
        until: datetime | None,
        max_rows: int | None,
        anonymous_token: UUID | str | None,
        after_scored_at: datetime | None,
        after_score_id: int | None,
    ) -> list[Record]: ...
    async def count_anonymous_responses(
        self,
        conn: Connection,
        *,
        older_than: timedelta | None,
        max_rows: int | None,
    ) -> Any: ...
    async def purge_anonymous_responses(
        self,
        conn: Connection,
        *,
        older_than: timedelta | None,
        max_rows: int | None,
    ) -> int: ...
    async def count_responses(
        self,
        conn: Connection,
        *,
        older_than: timedelta | None,
        max_rows: int | None,
    ) -> Any: ...
    async def purge_responses(
        self,
        conn: Connection,
        *,
        older_than: timedelta | None,
        max_rows: int | None,
    ) -> int: ...
    async def get_response(
        self,
        conn: Connection,
        *,
        response_id: int | None,
        user_id: int | None,
        anonymous_token: UUID | str | None,
    ) -> Any: ...
    async def get_responses(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        before_created_at: datetime | None,
        before_response_id: int | None,
        max_rows: int | None,
        anonymous_token: UUID | str | None,
    ) -> list[Record]: ...
    async def get_responses_for_module(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        module_slug: str | None,
        before_created_at: datetime | None,
        before_response_id: int | None,
        max_rows: int | None,
        anonymous_token: UUID | str | None,
    ) -> list[Record]: ...
    async def get_responses_for_question(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        question_id: str | None,
        module_slug: str | None,
        before_created_at: datetime | None,
        before_response_id: int | None,
        max_rows: int | None,
        anonymous_token: UUID | str | None,
    ) -> list[Record]: ...
    async def get_latest_responses(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        question_ids: Sequence[str | None] | None,
        module_slug: str | None,
        anonymous_token: UUID | str | None,
    ) -> list[Record]: ...
    async def lock_claim(
        self,
        conn: Connection,
        *,
        anonymous_token: UUID | str | None,
        user_id: int | None,
    ) -> Any: ...
    async def claim_assessment_responses(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        skip_answered: bool | None,
        anonymous_token: UUID | str | None,
    ) -> int: ...
    async def delete_responses(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        anonymous_token: UUID | str | None,
    ) -> int: ...
    async def get_responses_with_latest_score(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        before_created_at: datetime | None,
        before_response_id: int | None,
        max_rows: int | None,
        anonymous_token: UUID | str | None,
        human_first: bool | None,
    ) -> list[Record]: ...
    async def get_scored_responses_for_module(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        module_slug: str | None,
        before_created_at: datetime | None,
        before_response_id: int | None,
        max_rows: int | None,
        anonymous_token: UUID | str | None,
        human_first: bool | None,
    ) -> list[Record]: ...
    async def get_scored_responses_for_question(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        question_id: str | None,
        module_slug: str | None,
        before_created_at: datetime | None,
        before_response_id: int | None,
        max_rows: int | None,
        anonymous_token: UUID | str | None,
        human_first: bool | None,
    ) -> list[Record]: ...
    async def get_latest_responses_with_latest_score(
        self,
        conn: Connection,
        *,
        user_id: int | None,
        question_ids: Sequence[str | None] | None,
        module_slug: str | None,
        anonymous_token: UUID | str | None,
        human_first: bool | None,
    ) -> list[Record]: ...
    async def record_score(
        self,
        conn: Connection,
        *,
        response_id: int | None,
        score_data: str | None,
        model_id: str | None,
        prompt_version: str | None,
    ) -> Any: ...
    async def record_scores(
        self,
        conn: Connection,
        *,
        response_ids: Sequence[str | None] | None,
        score_datas: Sequence[str | None] | None,
        model_ids: Sequence[str | None] | None,
        prompt_versions: Sequence[str | None] | None,
    ) -> list[Record]: ...
    async def get_unknown_responses(
        self,
        conn: Connection,
        *,
        response_ids: Sequence[str | None] | None,
    ) -> list[Record]: ...
    async def lock_score(
        self,
        conn: Connection,
        *,
        response_id: int | None,
        model_id: str | None,
        prompt_version: str | None,
    ) -> Any: ...
    async def record_score_once(
        self,
        conn: Connection,
        *,
        response_id: int | None,
        model_id: str | None,
        prompt_version: str | None,
        score_data: str | None,
    ) -> Any: ...
    async def get_scores(
        self,
        conn: Connection,
        *,
        response_id: int | None,
        user_id: int | None,
        anonymous_token: UUID | str | None,
    ) -> list[Record]: ...
    async def get_scores_of_any_owner(
        self,
        conn: Connection,
        *,
        response_id: int | None,
    ) -> list[Record]: ...
    async def submit_response(
        self,
        conn: Connection,
        *,
        submission_key: UUID | str | None,
        user_id: int | None,
        anonymous_token: UUID | str | None,
        question_id: str | None,
        module_slug: str | None,
        learning_outcome_id: str | None,
        content_id: UUID | str | None,
        answer_text: str | None,
        answer_metadata: str | None,
    ) -> Any: ...
    async def submit_responses(
        self,
        conn: Connection,
        *,
        submission_keys: Sequence[str | None] | None,
        user_ids: Sequence[str | None] | None,
        anonymous_tokens: Sequence[str | None] | None,
        question_ids: Sequence[str | None] | None,
        module_slugs: Sequence[str | None] | None,
        learning_outcome_ids: Sequence[str | None] | None,
        content_ids: Sequence[str | None] | None,
        answer_texts: Sequence[str | None] | None,
        answer_metadatas: Sequence[str | None] | None,
    ) -> list[Record]: ...
    async def get_submitted_responses(
        self,
        conn: Connection,
        *,
        submission_keys: Sequence[str | None] | None,
        user_ids: Sequence[str | None] | None,
        anonymous_tokens: Sequence[str | None] | None,
        question_ids: Sequence[str | None] | None,
        module_slugs: Sequence[str | None] | None,
        learning_outcome_ids: Sequence[str | None] | None,
        content_ids: Sequence[str | None] | None,
        answer_texts: Sequence[str | None] | None,
        answer_metadatas: Sequence[str | None] | None,
    ) -> list[Record]: ...
