"""``assessments migrate``: the migrations, for a deploy that nobody watches."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assessments import checks
from assessments.checks import schema
from assessments.cli import options, runner
from assessments.cli.errors import CommandError
from assessments.cli.output import say
from assessments.migration_files import (
    concurrent_index,
    migration_ids,
    read_migration,
    stated_locks,
)
from assessments.queries import folder, queries

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

_STAND_IN, _FIRST, *_ = migration_ids(standalone=True)


@dataclass(frozen=True)
class Plan:
    """What is to be applied to a database, and what stands in the way, a line each."""

    pending: list[str]
    problems: list[str]


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    migrate = commands.add_parser(
        "migrate",
        help="apply the migrations, as yoyo apply does, and retry lock timeouts",
        description="Apply the migrations by yoyo, sharing its tables with plain `yoyo apply`. "
        "What stands in the way is said before anything is applied. Lock timeouts are retried; "
        "any other failure ends the command. The lock of a killed deploy is removed where no "
        "session of it can be left.",
        epilog=f"{options.STATUSES} Run again after a failure: what is applied stays applied.",
    )
    options.add_database(migrate)
    migrate.add_argument(
        "--standalone",
        action="store_true",
        help="apply the stand-in users table first, for a service without users of its own",
    )
    migrate.add_argument(
        "--dry-run",
        action="store_true",
        help="print which migrations would run, and the locks that they take; change nothing",
    )
    migrate.add_argument(
        "--attempts",
        type=options.row_count,
        default=5,
        metavar="N",
        help="how often a migration is tried that times out waiting for a lock (default: 5)",
    )
    migrate.add_argument(
        "--pause",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait before the next attempt (default: 10)",
    )
    migrate.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Apply, or print what would be; return the exit status."""
    from assessments.cli import deploy

    plans: list[Plan] = []

    async def work(pool: asyncpg.Pool[Any]) -> None:
        plans.append(await _plan(pool, standalone=arguments.standalone))

    if status := runner.run(arguments.database, work):
        return status
    (plan,) = plans
    deploy.prepare()
    with deploy.one_line_errors():
        _run(arguments, plan)
    return 0


def _run(arguments: argparse.Namespace, plan: Plan) -> None:
    from assessments.cli import deploy

    done = f"All {len(migration_ids(standalone=arguments.standalone))} migrations are applied."
    if not plan.pending:
        say(done)
        return
    problems = plan.problems
    if deploy.is_behind_transaction_pooler(arguments.database):
        what = "a transaction-mode pooler stands in between"
        problems = [*problems, f"pooler: {what}: connect directly, or through one in session mode"]
    if problems:
        raise CommandError("\n".join(problems))
    if arguments.dry_run:
        for line in _describe(plan.pending):
            say(line)
        return
    migrations = folder("migrations")
    sources = [migrations / "standalone", migrations] if arguments.standalone else [migrations]
    deploy.apply(arguments.database, sources, plan.pending, arguments.attempts, arguments.pause)
    say(done)


async def _plan(pool: asyncpg.Pool[Any], *, standalone: bool) -> Plan:
    async with checks.nothing_changed(pool) as conn:
        facts = await queries.cli.get_server_facts(conn)
        applied = await schema.applied_migrations(conn, facts)
        has_tables = bool(await queries.cli.get_column_types(conn))
        users = await queries.cli.get_users_tables(conn)
    problems = []
    if applied is None and (facts["has_migrations"] or has_tables):
        found = schema.check_migrations(facts, {"assessment_responses"}, None)
        problems.append(found.message)
    pending = [each for each in migration_ids(standalone=standalone) if each not in (applied or ())]
    if _STAND_IN in pending and users and users[0]["is_found"]:
        problems.append(f"--standalone: there is {users[0]['qualified_name']}: leave it out")
    for finding in await checks.check_before_apply(pool):
        is_due = finding.subject != "users" or (_FIRST in pending and _STAND_IN not in pending)
        if finding.level == "error" and is_due:
            remedy = f": {finding.remedy}" if finding.remedy else ""
            problems.append(f"{finding.message}{remedy}")
    return Plan(pending, problems)


def _describe(names: list[str]) -> Iterator[str]:
    for name in names:
        text = read_migration(name)
        locks = [f"{mode} on {table}" for table, mode in stated_locks(text).items()]
        index = concurrent_index(text)
        building = f", building {index}" if index else ""
        yield f"{name}: {', '.join(locks) or 'no lock'}{building}"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 3600:  # noqa: PLR2004 - an hour
        raise argparse.ArgumentTypeError("must be a number of seconds, from 0 to 3600")
    return seconds
