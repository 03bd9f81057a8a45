"""The demo's class: simulated students answer, models and a teacher score, and a report is written.

Everything is drawn from one seed, so that every run tells the same.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import assessments
from assessments import backoffice
from assessments.cli import report_data, report_page

if TYPE_CHECKING:
    import asyncpg

    from assessments import AssessmentResponse, NewResponse, NewScore

_SEED = 11
_STUDENTS, _FIRST_USER_ID = 24, 100
_DAYS, _MINUTES_A_DAY = 14, 24 * 60
_FULL_MARKS = 5
_RESCORED = 60
_BACKLOG_MINUTES = 5 * 60  # what is younger waits for its score
_LEFT_OUT = 0.02  # what the service missed
_MODEL = "demo-grader"
_QUESTIONS = {
    "plant-biology": ("leaf-colour", "stomata", "roots", "chlorophyll"),
    "evolution": ("finches", "fossils", "selection"),
    "human-body": ("heart", "lungs", "digestion"),
    "ecosystems": ("food-web", "carbon-cycle"),
}
_WORDS = ("because", "light", "water", "carbon", "cells", "energy", "leaves", "change", "slowly")


class _Student(NamedTuple):
    """A student, how able they are, and whether they began without signing in."""

    user_id: int
    ability: float
    token: UUID | None
    signs_in: bool


async def simulate(pool: asyncpg.Pool[Any]) -> tuple[int, int]:
    """Have the class answer and be scored; return how many responses and scores that makes."""
    chance = Random(_SEED)  # noqa: S311 - a simulation
    students = [_student(chance, number) for number in range(_STUDENTS)]
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO users (user_id) SELECT $1::bigint + generate_series(0, $2::bigint - 1)",
            *(_FIRST_USER_ID, _STUDENTS),
        )
        await _date_by(connection, "now() - current_setting('demo.age')::interval")
        scored = await _answer_and_score(connection, chance, students)
        count = await _score_again(connection, chance, scored)
        await _date_by(connection, "now()")
        for student in students:
            if student.token and student.signs_in:
                await assessments.claim_assessment_responses(
                    connection, anonymous_token=student.token, user_id=student.user_id
                )
        # The report counts claims by PostgreSQL's statistics, which lag behind otherwise.
        await connection.execute("SELECT pg_stat_force_next_flush()")
        responses = await connection.fetchval("SELECT count(*) FROM assessment_responses")
    return responses, count


async def write_report(pool: asyncpg.Pool[Any]) -> Path:
    """Write the report of all that is stored into a new folder; return the file."""
    question = report_data.Question(points_path=["points"], of_path=["of"])
    page = report_page.render(await report_data.read(pool, question))
    file = Path(tempfile.mkdtemp(prefix="assessments-")) / "report.html"
    file.write_text(page, encoding="utf-8")
    return file


def _student(chance: Random, number: int) -> _Student:
    is_anonymous = number % 5 in {1, 3}
    return _Student(
        user_id=_FIRST_USER_ID + number,
        ability=chance.gauss(3.1, 0.8),
        token=UUID(int=chance.getrandbits(128), version=4) if is_anonymous else None,
        signs_in=number % 3 > 0,
    )


async def _date_by(connection: Any, expression: str) -> None:
    """Have PostgreSQL date new rows by *expression*: no function of the library dates back."""
    for table in ("assessment_responses", "assessment_scores"):
        await connection.execute(f"ALTER TABLE {table} ALTER created_at SET DEFAULT {expression}")


async def _set_age(connection: Any, minutes: float) -> None:
    await connection.execute(
        "SELECT set_config('demo.age', $1, FALSE)", f"{max(minutes, 0):.3f} minutes"
    )


async def _answer_and_score(
    connection: Any, chance: Random, students: list[_Student]
) -> list[tuple[AssessmentResponse, float]]:
    """Return the responses that were scored, each with what it deserves."""
    scored: list[tuple[AssessmentResponse, float]] = []
    for age, student, questions in _sittings(chance, students):
        await _set_age(connection, age)
        responses = await assessments.submit_responses(
            connection, [_response(chance, student, *question) for question in questions]
        )
        deserved = [_deserved(chance, student, response) for response in responses]
        delay = math.exp(chance.gauss(-0.6, 1.7))  # minutes
        delay = min(delay, age / 2)
        if age < _BACKLOG_MINUTES or chance.random() < _LEFT_OUT:
            continue
        scored += zip(responses, deserved, strict=True)
        for prompt, later, bias, noise in (("p1", 0, 0.55, 0.85), ("p2", 45, 0.1, 0.55)):
            await _set_age(connection, age - delay - later)
            await backoffice.record_scores(
                connection,
                [
                    _score(response, chance.gauss(points + bias, noise), _MODEL, prompt)
                    for response, points in zip(responses, deserved, strict=True)
                ],
            )
    return scored


def _sittings(
    chance: Random, students: list[_Student]
) -> list[tuple[float, _Student, list[tuple[str, str]]]]:
    """Return who answers what, some minutes ago; oldest first."""
    questions = [(module, name) for module, names in _QUESTIONS.items() for name in names]
    sittings = []
    for student in students:
        begins = chance.uniform(0, 4.6)
        for number in range(4):
            day = min(begins + number * chance.uniform(1.9, 3.4), _DAYS - chance.uniform(0.01, 0.6))
            age = (_DAYS - day) * _MINUTES_A_DAY * chance.uniform(0.97, 1)
            sittings.append((age, student, questions[number * 3 : number * 3 + 3]))
    return sorted(sittings, key=lambda sitting: -sitting[0])


def _response(chance: Random, student: _Student, module: str, question: str) -> NewResponse:
    words = chance.choices(_WORDS, k=max(3, round(student.ability * 5)))
    return {
        "user_id": None if student.token else student.user_id,
        "anonymous_token": student.token,
        "question_id": question,
        "module_slug": module,
        "answer_text": f"{' '.join(words).capitalize()}.",
    }


def _deserved(chance: Random, student: _Student, response: AssessmentResponse) -> float:
    difficulty = len(response["question_id"]) % 4 * 0.35
    return student.ability + 0.5 - difficulty + chance.gauss(0, 0.9)


def _score(
    response: AssessmentResponse, points: float, model_id: str | None, prompt: str | None
) -> NewScore:
    whole = min(_FULL_MARKS, max(0, round(points)))
    return {
        "response_id": response["response_id"],
        "score_data": {"points": whole, "of": _FULL_MARKS},
        "model_id": model_id,
        "prompt_version": prompt,
    }


async def _score_again(
    connection: Any, chance: Random, scored: list[tuple[AssessmentResponse, float]]
) -> int:
    """Have a teacher score some; return how many scores there are."""
    await _set_age(connection, 90)
    await backoffice.record_scores(
        connection,
        [
            _score(response, points, None, None)
            for response, points in chance.sample(scored, _RESCORED)
        ],
    )
    count: int = await connection.fetchval("SELECT count(*) FROM assessment_scores")
    return count
