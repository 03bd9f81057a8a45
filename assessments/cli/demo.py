"""``assessments demo``: one student's story, run by this library on a real PostgreSQL.

The answers are read from ``demo_answers.jsonl`` beside this file: one JSON object a line, with
the keyword arguments of `assessments.submit_response`.
"""

from __future__ import annotations

import json
import math
import sys
from importlib.resources import files
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jinja2  # noqa: F401 - is missed here, before a server is started
import vl_convert  # noqa: F401 - likewise
import yoyo  # noqa: F401 - likewise
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Column, Table

import assessments
from assessments import backoffice
from assessments.cli import demo_class, signals
from assessments.queries import folder, named
from assessments.testing import migrations, server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from assessments import AssessmentResponse, AssessmentScore

_USER_ID = 1
_ANSWERED_BEFORE = "evolution-finches"
_SHOWN = "photosynthesis-limiting-factor"
_WIDEST = 120
_FULL_MARKS = 5
_CHARACTERS_A_POINT = 90


def run() -> int:
    """Run the story; return the exit status."""
    console = Console(highlight=False)
    console.width = min(console.width, _WIDEST)
    console.print("Starting a PostgreSQL server in a temporary folder ...")
    try:
        with server.running() as url:
            migrations.apply(url)
            report = signals.run(_story(url, console))
    except server.NoServerError as error:
        print(error, file=sys.stderr)
        return 1
    console.print("\nThe server is stopped and its folder removed. Nothing is left running.")
    console.print("[bold]The report[/], to be opened in a browser:")
    print(report)
    print(report.as_uri())
    return 0


async def _story(url: str, console: Console) -> Path:
    async with assessments.create_pool(url) as pool:
        await _begin(pool, console)
        token = uuid4()
        key = await _answer(pool, console, token)
        await _repeat(pool, console, token, key)
        await _score(pool, console, token)
        await _sign_in(pool, console, token)
        await _read_back(pool, console, token)
        return await _report(pool, console)


async def _begin(pool: asyncpg.Pool[Any], console: Console) -> None:
    version = await pool.fetchval("SELECT current_setting('server_version')")
    applied = await pool.fetch("SELECT migration_id FROM _yoyo_migration ORDER BY migration_id")
    console.print(f"[bold]PostgreSQL {version}[/], {len(applied)} migrations applied by yoyo:")
    console.print(f"    {applied[0]['migration_id']} to {applied[-1]['migration_id']}")
    await pool.execute("INSERT INTO users (user_id) VALUES ($1)", _USER_ID)


async def _answer(pool: asyncpg.Pool[Any], console: Console, token: UUID) -> UUID:
    """Submit all answers; return the submission key of the last."""
    answers = _answers()
    _step(
        console,
        "Last week a student answered a question, signed in; today she does not sign in",
        "submit_response",
    )
    before = next(answer for answer in answers if answer["question_id"] == _ANSWERED_BEFORE)
    await assessments.submit_response(pool, user_id=_USER_ID, **before)
    # One transaction of the caller's: all responses are stored, or none.
    async with pool.acquire() as connection, connection.transaction():
        for answer in answers:
            key = uuid4()
            await assessments.submit_response(
                connection, anonymous_token=token, submission_key=key, **answer
            )
    console.print(f"    1 response of hers, and {len(answers)} of today in one transaction")

    question = answers[-1]["question_id"]
    _step(
        console,
        f"Her attempts at {question}, newest first",
        "get_responses_for_question",
    )
    attempts = await assessments.get_responses_for_question(
        pool, anonymous_token=token, question_id=question
    )
    _print(console, _responses_table(console, attempts))
    return key


async def _repeat(pool: asyncpg.Pool[Any], console: Console, token: UUID, key: UUID) -> None:
    _step(
        console,
        "A reply was lost, and her browser sends the last answer again",
        "submit_response",
    )
    answer = _answers()[-1]

    async def submit(**changed: Any) -> AssessmentResponse:
        arguments = {"anonymous_token": token, "submission_key": key, **answer, **changed}
        return await assessments.submit_response(pool, **arguments)

    again = await submit()
    stored = await assessments.get_responses(pool, anonymous_token=token)
    console.print(
        f"    the same submission_key: response [green]{again['response_id']}[/] again, "
        f"and still {len(stored)} responses"
    )

    async def show_error(mistake: str, **changed: Any) -> None:
        try:
            await submit(**changed)
        except assessments.AssessmentsError as error:
            line = f"[red]{type(error).__name__}[/]: {escape(str(error))}"
            console.print(f"    {mistake}:", Padding(line, (0, 0, 0, 8)))

    _step(console, "What a mistake looks like; no message holds an answer")
    await show_error("the same submission_key with another answer", answer_text="Something else.")
    await show_error("an empty question_id", question_id="")


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

    shown = next(response for response in responses if response["question_id"] == _SHOWN)
    _step(
        console,
        "A teacher disagrees with one; the score before it stays as history",
        "record_score",
        "get_scores",
    )
    await backoffice.record_score(
        pool,
        response_id=shown["response_id"],
        score_data={"points": 5, "of": _FULL_MARKS, "feedback": "Read well from the graph."},
    )
    scores = await assessments.get_scores(
        pool, response_id=shown["response_id"], anonymous_token=token
    )
    console.print(_scored_answer(shown, scores))


async def _sign_in(pool: asyncpg.Pool[Any], console: Console, token: UUID) -> None:
    _step(
        console,
        "She signs in, and her anonymous responses are claimed",
        "lock_claim",
        "claim_assessment_responses",
    )

    async def count() -> tuple[int, int]:
        anonymous = await assessments.get_responses(pool, anonymous_token=token)
        return len(anonymous), len(await assessments.get_responses(pool, user_id=_USER_ID))

    before = await count()
    claimed = await assessments.claim_assessment_responses(
        pool, anonymous_token=token, user_id=_USER_ID
    )
    after = await count()
    table = _table(
        "responses of", Column("before", justify="right"), Column("after", justify="right")
    )
    for owner, *counts in zip(("the token", f"user {_USER_ID}"), before, after, strict=True):
        table.add_row(owner, *map(str, counts))
    console.print(table)
    console.print(f"    {claimed} responses claimed, {after[0]} stayed with the token:")
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
    scores = [response["latest_score"] for response in responses]
    _print(console, _responses_table(console, responses, scores))

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
    points = min(_FULL_MARKS, math.ceil(characters / _CHARACTERS_A_POINT))
    feedback = f"{characters} characters" if characters else "Nothing to score"
    return {"points": points, "of": _FULL_MARKS, "feedback": feedback}


def _step(console: Console, title: str, *names: str) -> None:
    """Print the heading of a step and where the SQL behind it stands."""
    console.print(f"\n[bold]{escape(title)}[/]")
    for name in names:
        code = named(name).__code__
        place = Path(code.co_filename).relative_to(folder("sql").parent)
        console.print(f"[dim]    {place}:{code.co_firstlineno}  {name.rpartition('.')[2]}[/]")


def _table(*columns: Column | str) -> Table:
    return Table(
        *columns, box=box.SIMPLE_HEAD, header_style="bold cyan", show_edge=False, pad_edge=False
    )


def _responses_table(
    console: Console,
    responses: Sequence[AssessmentResponse],
    scores: Sequence[AssessmentScore | None] = (),
) -> Table:
    """Return a line for each response, cut to the width of the terminal."""
    table = _table(Column("id", justify="right", min_width=2), Column("owner", min_width=9))
    columns = ("question", "feedback", "answer") if scores else ("question", "answer")
    share = (console.width - (31 if scores else 20)) // len(columns)
    for name in columns:
        table.add_column(name, no_wrap=True, width=share)
        if scores and name == "question":
            table.add_column("score", min_width=5, style="green")
    for response, score in zip_longest(responses, scores):
        marks = [_points(score), _feedback(score)] if score else ["", ""] if scores else []
        table.add_row(
            str(response["response_id"]),
            f"user {response['user_id']}" if response["user_id"] else "anonymous",
            response["question_id"],
            *marks,
            escape(_cut(response["answer_text"], share)) or "[dim](blank)[/]",
        )
    return table


def _print(console: Console, table: Table) -> None:
    """Print *table* without the blanks at the ends of its lines, which could wrap there."""
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def _cut(text: str, width: int) -> str:
    """Return what fits, also where a terminal gives a vowel sign a cell of its own."""
    text = " ".join(text.split())
    ends = accumulate(max(cell_len(character), 1) for character in text)
    fitting = sum(end < width for end in ends)
    return text if fitting == len(text) else f"{text[:fitting]}…"


def _scored_answer(response: AssessmentResponse, scores: Sequence[AssessmentScore]) -> Panel:
    """Return an answer in full, and each score of it, the latest first."""
    lines = [escape(response["answer_text"]), ""]
    for score in scores:
        by = score["model_id"] or "a person"
        if score["prompt_version"]:
            by += f", prompt {score['prompt_version']}"
        lines.append(f"[green]{_points(score)}[/]  {_feedback(score)}  [dim]{by}[/]")
    title = f"response {response['response_id']}: {response['question_id']}"
    return Panel("\n".join(lines), title=title, title_align="left", border_style="cyan")


def _points(score: AssessmentScore) -> str:
    return f"{score['score_data']['points']}/{score['score_data']['of']}"


def _feedback(score: AssessmentScore) -> str:
    return escape(score["score_data"]["feedback"])
