"""``assessments report`` writes one page that asks nothing of the network and names nobody."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from assessments import backoffice
from assessments.cli.report_data import Question, read
from tests.helpers.commands import run
from tests.helpers.html import Page
from tests.helpers.rows import SECRET, submit

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from tests.helpers.commands import Database

USER_ID = 823_543_117
POINTS = ("--points", "points", "--of", "of")
MARKUP = "<script>alert('1')</script>"
ATTRIBUTE = "\"'><img src=x onerror=alert(1)>"
EXPRESSION = "'] + toString(datum) + ['"


def report(database: Database, *arguments: object) -> Page:
    """Return the page that the command writes to standard output."""
    done = database.run("report", "--output", "-", *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    return Page(done.stdout)


def names(folder: Path) -> list[str]:
    """Return the names of what is in *folder*."""
    return [each.name for each in folder.iterdir()]


async def score(conn: Any, response_id: int, points: object, **by: str) -> None:
    """Record such a score out of 5, with feedback that nobody may see."""
    data = {"points": points, "of": 5, "feedback": SECRET}
    await backoffice.record_score(conn, response_id=response_id, score_data=data, **by)


@pytest.fixture
async def scored(source: Database, token: UUID) -> Database:
    """Return a database with responses of a user and a token, one scored by all, one by none."""
    await source.conn.execute("INSERT INTO users (user_id) VALUES ($1)", USER_ID)
    for owner in ({"user_id": USER_ID}, {"anonymous_token": token}):
        response = await submit(
            source.conn,
            "photosynthesis-1",
            answer_text=f"{SECRET} <b>{MARKUP}",
            answer_metadata={"note": SECRET},
            **owner,
        )
    response_id = response["response_id"]
    await score(source.conn, response_id, 2)
    await score(source.conn, response_id, 4, model_id="grader", prompt_version="p1")
    await score(source.conn, response_id, 3, model_id="grader", prompt_version="p2")
    return source


async def test_the_page_shows_each_figure(scored: Database) -> None:
    """Totals, modules, the backlog, scorers and pairs are on it, and the database's name."""
    name = await scored.conn.fetchval("SELECT current_database()")

    page = report(scored, *POINTS)

    for words in (
        f"database {name}",
        "Responses 2 in 1 module ",
        "Signed in 50 % 1, and 1 anonymous",
        "Scores 3 1 by a person",
        "Not scored yet 1 the oldest for",
        "1 of 2 responses have no score",
        "grader, p1 1 response, mean 80 %",
        "a person 1 response, mean 40 %",
        "a person and grader, p1",
        "On average grader, p1 gave 40.0 percentage points more than a person.",
        "grader, p1 and grader, p2",
        "Days begin at midnight UTC.",
    ):
        assert words in page.text, words
    assert page.text.index("a person and grader, p2") < page.text.index("grader, p1 and grader, p2")


async def test_the_page_names_nobody(scored: Database, token: UUID) -> None:
    """No answer, metadata, feedback, user or token is on it, nor the server's host or password."""
    page = report(scored, *POINTS)

    for secret in (SECRET, str(USER_ID), f"{USER_ID:,}", str(token), token.hex, "127.0.0.1"):
        assert secret not in page.source
    assert "photosynthesis-1" in page.text
    assert "This page shows no answers, users or tokens." in page.text


async def test_answers_are_shown_when_asked_for(scored: Database, token: UUID) -> None:
    """With --answers those that were scored differently are on it, escaped, and nothing else is."""
    page = report(scored, *POINTS, "--answers")

    assert f"{SECRET} <b>{MARKUP}" in page.text
    assert page.source.count(SECRET) == 3  # once in each pair
    assert (page.count("b"), page.count("script")) == (0, 0)
    assert str(token) not in page.source
    assert "This page shows the text of answers: personal data." in page.text


@pytest.mark.parametrize("name", [MARKUP, ATTRIBUTE, EXPRESSION, "{{ 7 * 7 }}", "a\u2028b\x01"])
async def test_names_are_text(source: Database, user_id: int, name: str) -> None:
    """A module, a question, a model or a prompt version named like code is shown as it is."""
    for points in (1, 2):
        response = await submit(source.conn, name, user_id=user_id, module_slug=name)
        for prompt in (name, "p1"):
            await score(source.conn, response["response_id"], points, prompt_version=prompt)
            await score(
                source.conn,
                *(response["response_id"], points + 1),
                model_id=name,
                prompt_version=prompt,
            )

    page = report(source, *POINTS, "--module", name)

    assert " ".join(name.split()) in page.text
    assert page.count("script") == page.count("img") == 0
    assert [key for _, attributes in page.elements for key in attributes if key[:2] == "on"] == []


async def test_the_page_asks_nothing_of_the_network(scored: Database) -> None:
    """It has no script and no address, and its policy forbids both."""
    page = report(scored, *POINTS)

    page.assert_self_contained()


async def test_a_picture_has_a_name_and_its_numbers(scored: Database) -> None:
    """Each is drawn in the page's own colours, says what it shows, and has a table behind it."""
    page = report(scored, *POINTS)

    pictures = [given["aria-label"] for _, given in page.elements if given.get("role") == "img"]
    assert len(pictures) == 4 + 3 + 3
    assert all(label and label.endswith("The numbers follow.") for label in pictures)
    assert page.count("details") == len(pictures)
    assert page.count("svg") == 4 * 2 + 3 + 3  # four are drawn for a narrow page too
    colours = {
        given.get(key)
        for tag, given in page.elements
        if tag in {"path", "rect", "text", "line"}
        for key in ("fill", "stroke")
    }
    assert {each for each in colours if each and each[:4] != "var("} <= {"none", "transparent"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "Say where the points are in score_data to see them here: --points points"),
        (("--points", "total.sum"), "No score has a number at total.sum."),
        (
            ("--points", "points", "--of", "no"),
            "No score has a number at points and a number above 0 at no.",
        ),
    ],
)
async def test_without_points_the_page_says_so(
    scored: Database, options: tuple[str, ...], words: str
) -> None:
    """Scorers are then listed without points, and nothing is compared."""
    page = report(scored, *options)

    assert words in page.text
    assert "grader, p1 1" in page.text
    assert "scored twice" not in page.text


async def test_an_empty_database_is_said_to_be_empty(source: Database) -> None:
    """No picture is drawn of nothing, and no figure is made of it."""
    page = report(source, *POINTS)

    assert "There are no responses yet" in page.text
    assert page.count("svg") == 0
    assert "This database holds no response." in page.text
    filtered = report(source, "--module", "m1", "--since", "2026-11-01T00:00:00+00:00")
    assert "No response matches these filters." in filtered.text
    assert "module m1" in filtered.text
    assert "since 1 November 2026, 00:00 UTC" in filtered.text


async def test_responses_without_scores_are_a_report(source: Database, user_id: int) -> None:
    """Where nothing has been scored yet the page shows the responses and the backlog."""
    await submit(source.conn, user_id=user_id)

    page = report(source, *POINTS)

    assert "1 of 1 responses have no score" in page.text
    assert page.text.count("No response has a score yet.") == 2


async def test_points_without_a_most_are_shown_as_they_are(scored: Database) -> None:
    """Without --of there are no shares."""
    page = report(scored, "--points", "points")

    assert "grader, p1 1 response, mean 4 " in page.text
    assert "On average grader, p1 gave 2.00 more than a person." in page.text


async def test_a_report_is_a_whole_file(scored: Database, tmp_path: Path) -> None:
    """It replaces the file before it, for its owner only, and nothing is left beside it."""
    path = tmp_path / "report.html"
    path.write_text("before")

    done = scored.run("report", "--output", path)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert path.read_bytes().endswith(b"</html>\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == [path.name]


async def test_a_report_that_fails_leaves_the_file_before_it(
    empty_database: str, tmp_path: Path
) -> None:
    """Where the tables are not there, it says so, exits with 1, and writes nothing."""
    path = tmp_path / "report.html"
    path.write_text("before")

    done = run("report", "--database", empty_database, "--output", path)

    assert done.returncode == 1
    assert b"apply the migrations" in done.stderr
    assert (names(tmp_path), path.read_text()) == ([path.name], "before")


REPORT = ("report", "--database", "postgresql://", "--output", "-")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (REPORT[:3], "required: --output"),
        ((*REPORT, "--points", ""), "--points: must be keys separated by dots"),
        ((*REPORT, "--points", f"{SECRET}..total"), "--points: must be keys separated by dots"),
        ((*REPORT, "--points", ".".join("a" * 17)), "--points: must be keys separated by dots"),
        ((*REPORT, "--points", "p", "--of", "of."), "--of: must be keys separated by dots"),
        ((*REPORT, "--of", "of"), "--of needs --points"),
        ((*REPORT, "--since", SECRET), "--since: must"),
        ((*REPORT, "--until", "yesterday"), "--until: must"),
        ((*REPORT, "--module", ""), "--module: must"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], problem: str) -> None:
    """It prints the usage and the problem, quotes no value, and exits with 2."""
    done = run(*arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert problem in done.stderr.decode()
    assert SECRET not in done.stderr.decode()


async def test_a_role_that_may_only_read_can_report(
    scored: Database,
) -> None:
    """SELECT on the two tables is enough."""
    role = f"reporter_{uuid4().hex}"
    await scored.conn.execute(
        f"CREATE ROLE {role}; GRANT SELECT ON assessment_responses, assessment_scores TO {role}"
    )
    try:
        async with asyncpg.create_pool(
            scored.url, min_size=1, max_size=1, server_settings={"role": role}
        ) as pool:
            question = Question(points_path=["points"], with_answers=True)
            assert (await read(pool, question)).totals["responses"] == 2
    finally:
        await scored.conn.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
