"""``assessments demo``: one student's story, run by this library on a real PostgreSQL.

The answers are read from ``demo_answers.jsonl`` beside this file: one JSON object a line, with
the keyword arguments of `assessments.submit_response`.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jinja2  # noqa: F401 - is missed here, before a server is started
import vl_convert  # noqa: F401 - likewise
import yoyo  # noqa: F401 - likewise
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

import assessments
from assessments import backoffice
from assessments.cli import demo_class
from assessments.queries import folder, named
from assessments.testing import migrations, server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from assessments import AssessmentResponse, AssessmentScore

_USER_ID = 1
_ANSWERED_BEFORE = "evolution-finches"
_NARROWEST = 115
_ANSWER_WIDTH = 30
_FULL_MARKS = 5


def run() -> int:
    """Run the story; return the exit status."""
    console = Console(highlight=False)
    console.width = max(console.width, _NARROWEST)
    try:
        with server.running() as url:
            migrations.apply(url)
            report = asyncio.run(_story(url, console))
    except server.NoServerError as error:
        print(error, file=sys.stderr)
        return 1
    console.print("\nThe server is stopped and its folder removed. Nothing is left running.")
    console.print("The report, to be opened in a browser:")
    print(report)
    return 0


async def _story(url: str, console: Console) -> Path:
    async with assessments.create_pool(url) as pool:
        await _begin(pool, console)
        token = uuid4()
        answers = _answers()
        await _answer(pool, console, token, answers)
        await _score(pool, console, token)
        await _sign_in(pool, console, token)
        await _read_back(pool, console, token)
        return await _report(pool, console)


async def _begin(pool: asyncpg.Pool[Any], console: Console) -> None:
    version = await pool.fetchval("SELECT current_setting('server_version')")
    applied = await pool.fetch("SELECT migration_id FROM _yoyo_migration ORDER BY migration_id")
    console.print(f"[bold]PostgreSQL {version}[/] in a temporary folder. Migrations by yoyo:")
    for row in applied:
        console.print(f"    {row['migration_id']}")
    await pool.execute("INSERT INTO users (user_id) VALUES ($1)", _USER_ID)


async def _answer(
    pool: asyncpg.Pool[Any], console: Console, token: UUID, answers: list[dict[str, Any]]
) -> None:
    _step(
        console,
        "Last week, signed in on another device, she answered one question",
        "submit_response",
    )
    before = next(answer for answer in answers if answer["question_id"] == _ANSWERED_BEFORE)
    stored = await assessments.submit_response(pool, user_id=_USER_ID, **before)
    console.print(_responses_table([stored]))

    _step(
        console,
        "Today she answers without signing in; one question twice",
        "submit_response",
    )
    # One transaction of the caller's: all responses are stored, or none.
    async with pool.acquire() as connection, connection.transaction():
        for answer in answers:
            await assessments.submit_response(connection, anonymous_token=token, **answer)
    console.print(_responses_table(await assessments.get_responses(pool, anonymous_token=token)))

    question = answers[-1]["question_id"]
    _step(console, f"Her attempts at {question}, newest first", "get_responses_for_question")
    attempts = await assessments.get_responses_for_question(
        pool, anonymous_token=token, question_id=question
    )
    console.print(_responses_table(attempts))


async def _score(pool: asyncpg.Pool[Any], console: Console, token: UUID) -> None:
    _step(
        console,
        "The service scores what it finds (a length count stands in for the AI)",
        "record_score",
    )
    responses = await assessments.get_responses(pool, anonymous_token=token)
    for response in responses:
        await backoffice.record_score(
            pool,
            response_id=response["response_id"],
            score_data=_stand_in_for_the_ai(response["answer_text"]),
            model_id="demo-length-count",
            prompt_version="2026-11",
        )
    console.print(f"    {len(responses)} scores recorded")
    longest = max(responses, key=lambda response: len(response["answer_text"]))
    _step(
        console,
        "A teacher disagrees with one; the score before it stays as history",
        "record_score",
    )
    await backoffice.record_score(
        pool,
        response_id=longest["response_id"],
        score_data={"points": 5, "of": _FULL_MARKS, "feedback": "A fair test, well argued."},
    )
    scores = await assessments.get_scores(
        pool, response_id=longest["response_id"], anonymous_token=token
    )
    console.print(_scores_table(scores))


async def _sign_in(pool: asyncpg.Pool[Any], console: Console, token: UUID) -> None:
    _step(
        console,
        "She signs in, and her anonymous responses are claimed",
        "lock_claim",
        "claim_assessment_responses",
    )
    claimed = await assessments.claim_assessment_responses(
        pool, anonymous_token=token, user_id=_USER_ID
    )
    stayed = await assessments.get_responses(pool, anonymous_token=token)
    console.print(f"    {claimed} responses claimed, {len(stayed)} stayed with the token:")
    console.print(f"    she had already answered {_ANSWERED_BEFORE}")
    again = await assessments.claim_assessment_responses(
        pool, anonymous_token=token, user_id=_USER_ID
    )
    console.print(f"    claimed once more: {again}")


async def _read_back(pool: asyncpg.Pool[Any], console: Console, token: UUID) -> None:
    _step(
        console,
        "What is stored now: hers, and what stayed with the token, in one list",
        "get_responses_with_latest_score",
    )
    responses = await assessments.get_responses_with_latest_score(
        pool, user_id=_USER_ID, anonymous_token=token
    )
    console.print(
        _responses_table(responses, [_points(response["latest_score"]) for response in responses])
    )

    given = sorted((answer["question_id"], answer["answer_text"]) for answer in _answers())
    kept = sorted(
        (response["question_id"], response["answer_text"])
        for response in responses
        if response["question_id"] != _ANSWERED_BEFORE or response["anonymous_token"]
    )
    if given != kept:
        raise AssertionError("what was read back is not what was given")
    console.print(
        f"    All {len(given)} answers came back as they were given, to the last code point."
    )


async def _report(pool: asyncpg.Pool[Any], console: Console) -> Path:
    _step(
        console,
        "Her class answers too (simulated), and all of it goes into one report",
        *("submit_responses", "record_scores", "claim_assessment_responses"),
        *("cli.report_scorers", "cli.report_pairs"),
    )
    responses, scores = await demo_class.simulate(pool)
    console.print(f"    {responses} responses with {scores} scores are stored now")
    return await demo_class.write_report(pool)


def _answers() -> list[dict[str, Any]]:
    text = files(__package__).joinpath("demo_answers.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _stand_in_for_the_ai(answer_text: str) -> dict[str, Any]:
    characters = len("".join(answer_text.split()))
    points = min(_FULL_MARKS, math.ceil(characters / 60))
    feedback = f"{characters} characters." if characters else "There is nothing to score."
    return {"points": points, "of": _FULL_MARKS, "feedback": feedback}


def _step(console: Console, title: str, *names: str) -> None:
    """Print the heading of a step and where the SQL behind it stands."""
    console.print(f"\n[bold]{escape(title)}[/]")
    for name in names:
        code = named(name).__code__
        place = Path(code.co_filename).relative_to(folder("sql").parent)
        console.print(f"[dim]    {place}:{code.co_firstlineno}  {name.rpartition('.')[2]}[/]")


def _responses_table(
    responses: Sequence[AssessmentResponse],
    points: Sequence[str] | None = None,
) -> Table:
    table = Table(
        Column("id", justify="right"),
        Column("owner", no_wrap=True),
        Column("module", no_wrap=True),
        Column("question", no_wrap=True),
        Column("answer", no_wrap=True, max_width=_ANSWER_WIDTH),
        Column("chars", justify="right"),
    )
    if points is not None:
        table.add_column("score", min_width=5)
    for index, response in enumerate(responses):
        owner = f"user {response['user_id']}" if response["user_id"] else "anonymous"
        cells = [
            str(response["response_id"]),
            owner,
            response["module_slug"],
            response["question_id"],
            escape(" ".join(response["answer_text"].split())) or "(blank)",
            str(len(response["answer_text"])),
        ]
        if points is not None:
            cells.append(points[index])
        table.add_row(*cells)
    return table


def _scores_table(scores: Sequence[AssessmentScore]) -> Table:
    table = Table("id", "response", "by", "prompt", "score", "feedback")
    for score in scores:
        table.add_row(
            str(score["score_id"]),
            str(score["response_id"]),
            score["model_id"] or "a person",
            score["prompt_version"] or "",
            _points(score),
            escape(score["score_data"]["feedback"]),
        )
    return table


def _points(score: AssessmentScore | None) -> str:
    return f"{score['score_data']['points']}/{score['score_data']['of']}" if score else ""
