"""The command line: ``python -m assessments``, also installed as ``assessments``.

Nothing here is imported by the library, and each command imports what it alone needs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from assessments import __version__
from assessments.cli import (
    check,
    explain,
    export,
    import_,
    migrate,
    options,
    output,
    purge,
    report,
    runner,
)
from assessments.cli.errors import FAILED, CommandError
from assessments.queries import folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_INTERRUPTED = 130  # as a shell reports a process that SIGINT ended
_EXTRAS = {
    "jinja2": "report",
    "psycopg2": "migrate",
    "rich": "cli",
    "vl_convert": "report",
    "yoyo": "migrate",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* (those of the process, if left out) name."""
    given = _parser().parse_args(arguments)
    if sys.stdout is None:  # as after >&-
        print("standard output is closed", file=sys.stderr)
        return FAILED
    try:
        return runner.report_failure(lambda: given.run(given))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        extras = "cli,embedded,migrate,report" if given.run is _demo else _EXTRAS[error.name]
        print(
            f'{given.command} needs {error.name}: pip install "assessments[{extras}]"',
            file=sys.stderr,
        )
        return FAILED


def _parser() -> options.Parser:
    parser = options.Parser(
        prog="assessments",
        description="Student answers and their AI scores in PostgreSQL.",
        epilog="Exit status: 0 fine, 1 a finding or a failure, 2 wrong usage or a URL that cannot "
        "be used, 3 no connection to the server.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="run one student's story on a PostgreSQL started for it, and clean up",
        description="Run one student's story on a PostgreSQL started for it, stop it, and write "
        "the page of `report` to a temporary folder.",
    )
    demo.set_defaults(run=_demo)
    migrations = commands.add_parser(
        "migrations",
        help="print the folder of the migrations, for yoyo apply",
        description="Print the folder of the migrations, for yoyo apply. `assessments migrate` "
        "finds it itself.",
    )
    migrations.add_argument(
        "--standalone",
        action="store_true",
        help="the folder of the stand-in users table, for a service without users of its own",
    )
    migrations.set_defaults(run=_migrations)
    check.add_command(commands)
    explain.add_command(commands)
    export.add_command(commands)
    import_.add_command(commands)
    migrate.add_command(commands)
    purge.add_command(commands)
    report.add_command(commands)
    return parser


def _demo(_given: argparse.Namespace) -> int:
    from assessments.cli import demo

    try:
        return demo.run()
    except OSError as error:  # of standard output, or of the server's folder
        output.detach_stdout()
        raise CommandError(f"demo: {error.strerror or type(error).__name__}") from None


def _migrations(given: argparse.Namespace) -> int:
    migrations = folder("migrations")
    output.say(str(migrations / "standalone" if given.standalone else migrations))
    return 0
