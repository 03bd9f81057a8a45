"""``assessments report``: what was answered and how it was scored, on one page."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from assessments.cli import options, output, runner

if TYPE_CHECKING:
    import asyncpg

_MOST_KEYS, _MOST_CHARACTERS = 16, 512


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    report = commands.add_parser(
        "report",
        help="write a page about what was answered and how it was scored",
        description="Write one HTML page: responses by day and module, the backlog, the points of "
        "each scorer, how scorers agree, and the time to the first score. It holds no answers, "
        "users or tokens unless --answers is given.",
        epilog=options.STATUSES,
    )
    options.add_database(report)
    options.add_times(report)
    report.add_argument(
        "--module",
        dest="module_slug",
        metavar="SLUG",
        type=options.identifier,
        help="only responses of this module",
    )
    report.add_argument(
        "--points",
        dest="points_path",
        metavar="PATH",
        type=_path,
        help="where the points are in score_data: points, or rubric.total",
    )
    report.add_argument(
        "--of",
        dest="of_path",
        metavar="PATH",
        type=_path,
        help="where the maximum is in score_data; points are then shown as shares of it",
    )
    report.add_argument(
        "--answers",
        dest="with_answers",
        action="store_true",
        help="show the text of the answers that two scorers scored most differently",
    )
    report.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        help="write this file, readable by its owner only; a dash is standard output",
    )
    report.set_defaults(run=lambda arguments: run(report, arguments))


def _path(text: str) -> list[str]:
    keys = text.split(".")
    if not all(keys) or len(keys) > _MOST_KEYS or len(text) > _MOST_CHARACTERS or "\0" in text:
        raise argparse.ArgumentTypeError("must be keys separated by dots: points, rubric.total")
    options.identifier(text)
    return keys


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Write the page; return the exit status."""
    from assessments.cli import report_data, report_page

    names = ("since", "until", "module_slug", "points_path", "of_path", "with_answers")
    question = report_data.Question(**{name: getattr(arguments, name) for name in names})
    if question.of_path and not question.points_path:
        parser.error("--of needs --points")

    async def work(pool: asyncpg.Pool[Any]) -> None:
        with output.opened(arguments.output) as stream:
            page = report_page.render(await report_data.read(pool, question))
            output.write(stream, [page.encode()])

    return runner.run(arguments.database, work)
