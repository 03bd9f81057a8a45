"""The named queries as type checkers see them. Read by mypy and pyright, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assessments.queries import queries

if TYPE_CHECKING:
    from assessments.queries import Connection


async def takes_a_query_that_is_there(conn: Connection) -> None:
    await queries.get_scores_of_any_owner(conn, response_id=1)
    await queries.cli.get_server_facts(conn)


async def refuses_a_misspelt_query(conn: Connection) -> None:
    await queries.get_score_of_any_owner(conn, response_id=1)  # type: ignore[attr-defined]
    await queries.cli.get_facts(conn)  # type: ignore[attr-defined]


async def refuses_a_misspelt_parameter(conn: Connection) -> None:
    await queries.get_scores_of_any_owner(conn, response=1)  # type: ignore[call-arg]


async def refuses_a_missing_parameter(conn: Connection) -> None:
    await queries.get_response(conn, response_id=1)  # type: ignore[call-arg]


async def refuses_a_wrong_type(conn: Connection) -> None:
    await queries.get_scores_of_any_owner(conn, response_id="1")  # type: ignore[arg-type]
