"""``assessments check``: the library's needs against a live database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assessments import checks
from assessments.cli import options, runner
from assessments.cli.errors import CommandError
from assessments.cli.output import say

if TYPE_CHECKING:
    import argparse

    import asyncpg


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    check = commands.add_parser(
        "check",
        help="check that a database fits this version of the library; status 1 if not",
        description="Checks server, migrations, column types, constraints, indexes and every query "
        "against the live schema, and what the role that connects may run. Changes nothing. For "
        "deploy scripts: after the migrations, before the service, with the URL that the service "
        "gets. Before the migrations, with their URL: whether they can be applied, and to which "
        "users table.",
    )
    options.add_database(check)
    check.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check; return the exit status."""
    return runner.run(arguments.database, _check)


async def _check(pool: asyncpg.Pool[Any]) -> None:
    findings = await checks.check(pool)
    for finding in findings:
        level = "FAILED" if finding.level == "error" else finding.level
        say(f"{level:8} {finding.message}")
    if any(finding.level == "error" for finding in findings):
        raise CommandError("this database is not fit for this version of assessments")
