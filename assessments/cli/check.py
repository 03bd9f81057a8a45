"""``assessments check``: the library's needs against a live database."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from assessments import __version__, checks
from assessments.cli import options, runner
from assessments.cli.errors import CommandError
from assessments.cli.output import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import asyncpg

FORMAT = {"format": "assessments check", "format_version": 1}
"""What the document is; the number grows when a key goes away or changes its meaning."""


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    check = commands.add_parser(
        "check",
        help="check that a database fits this version of the library; status 1 if not",
        description="Check server, migrations, column types, constraints, indexes and every query "
        "against the live schema, and what the role that connects may run. Nothing is changed. In "
        "a deploy, run it after the migrations with the URL of the service. Before them, with "
        "their URL, it says whether they can be applied, and to which users table.",
        epilog="Exit status: 0 fit, 1 not fit, 2 wrong usage, 3 no connection to the server.",
    )
    options.add_database(check)
    check.add_argument(
        "--strict", action="store_true", help="status 1 for a warning too, not only for FAILED"
    )
    check.add_argument(
        "--json", action="store_true", dest="as_json", help="print all as one JSON object"
    )
    check.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check; return the exit status."""

    async def work(pool: asyncpg.Pool[Any]) -> None:
        findings = await checks.check(pool)
        levels = {finding.level for finding in findings}
        is_fit = not levels & ({"error", "warning"} if arguments.strict else {"error"})
        if arguments.as_json:
            say(json.dumps(_document(findings, is_fit=is_fit), indent=1))
        else:
            for line in _lines(findings):
                say(line)
        if not is_fit:
            why = "" if "error" in levels else ": with --strict a warning counts"
            raise CommandError(f"this database is not fit for this version of assessments{why}")

    return runner.run(arguments.database, work)


def _lines(findings: list[checks.Finding]) -> Iterator[str]:
    for finding in findings:
        level = "FAILED" if finding.level == "error" else finding.level
        yield f"{level:8} {finding.message}"
        details = {
            "effect": finding.effect,
            "queries": ", ".join(finding.queries),
            "remedy": finding.remedy,
        }
        yield from (f"{'':8} {name}: {text}" for name, text in details.items() if text)


def _document(findings: list[checks.Finding], *, is_fit: bool) -> dict[str, Any]:
    return {
        **FORMAT,
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "assessments_version": __version__,
        "is_fit": is_fit,
        "findings": [asdict(finding) for finding in findings],
    }
