"""``assessments explain``: the plan of every query on a database, and what changed in them."""

from __future__ import annotations

import argparse
import json
from difflib import get_close_matches
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assessments.checks.planning import query_names
from assessments.cli import explain_data, explain_nodes, options, output, runner
from assessments.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

ROLLED_BACK = "What was written is rolled back; identity values that it took are not used again."


def add_command(commands: Any) -> None:
    """Add the command to the parser's."""
    explain = commands.add_parser(
        "explain",
        help="print the plan of every query on a database, for any arguments",
        description="Print the generic plan of each query, and mark with ! where it uses other "
        "indexes than the query's comment promises. Without --analyze, no query is run. Status 1 "
        "where --against finds changes.",
        epilog="Exit status: 0 done, 1 failed or changed, 2 wrong usage, 3 no connection to the "
        "server.",
    )
    options.add_database(explain)
    explain.add_argument(
        "queries", metavar="QUERY", nargs="*", type=_query, help="only this query, as sql/ names it"
    )
    explain.add_argument(
        "--analyze",
        action="store_true",
        help="run each query too, on arguments from real rows, in a transaction that is rolled "
        "back, for up to 10 seconds, 2 of them waiting for a lock; it locks rows while it runs, "
        "writes to disk, and takes identity values, which are not used again",
    )
    explain.add_argument(
        "--json", action="store_true", dest="as_json", help="print all as one JSON object"
    )
    explain.add_argument(
        "--html",
        metavar="FILE",
        type=options.input_file,
        help="write all as a page, readable by its owner only; a dash is standard output",
    )
    explain.add_argument(
        "--against",
        metavar="FILE",
        type=_before,
        help="compare with what --json printed before, such as before a deploy or an upgrade",
    )
    explain.set_defaults(run=run)


def _query(text: str) -> str:
    names = query_names()
    if options.input_file(text) in names:
        return text
    (nearest,) = get_close_matches(text, names, n=1, cutoff=0)
    raise argparse.ArgumentTypeError(f"names no query; the nearest is {nearest}")


def _before(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Path(options.input_file(text)).read_bytes())
        if found.items() >= explain_data.FORMAT.items():
            explain_data.compare(found, found)  # fails where something is not there
            return found
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot be read: {error.strerror}") from None
    except (ValueError, AttributeError, KeyError, TypeError):
        pass
    raise argparse.ArgumentTypeError("is not what --json of this version printed")


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for; return the exit status."""
    changes: list[dict[str, str]] = []

    async def work(pool: asyncpg.Pool[Any]) -> None:
        names = list(dict.fromkeys(arguments.queries)) or sorted(
            query_names(), key=lambda name: (name.startswith("cli."), name)
        )
        found = await explain_data.read(pool, names, with_runs=arguments.analyze)
        if arguments.against:
            changes.extend(explain_data.compare(arguments.against, found))
            found["changes"] = changes
        _show(arguments, found)

    return runner.run(arguments.database, work) or int(bool(changes))


def _show(arguments: argparse.Namespace, found: dict[str, Any]) -> None:
    if arguments.html:
        from assessments.cli import explain_page

        with output.opened(arguments.html, "--html") as stream:
            output.write(stream, [explain_page.render(found).encode()])
    if arguments.as_json:
        say(json.dumps(found, indent=1, sort_keys=True))
    elif arguments.html != "-":
        lines = _text(found) if not arguments.html else _changes(found)
        for line in lines:
            say(line)


def _text(found: dict[str, Any]) -> Iterator[str]:
    yield from _changes(found)
    yield from _summary(found["queries"])
    for query in found["queries"]:
        yield f"\n-- {query['name']}"
        if not query["runs"]:
            yield query["problem"] or query["text"]
        for run in query["runs"]:
            yield f"{run['sample']}, with {', '.join(run['arguments']) or 'no arguments'}:"
            yield from [run["problem"]] if run["problem"] else _tree(run["plan"])
            yield from run["triggers"]
    if found["samples"]:
        yield f"\n{ROLLED_BACK}"


def _changes(found: dict[str, Any]) -> Iterator[str]:
    for name, changes in groupby(found.get("changes", ()), key=itemgetter("query")):
        yield f"{name} has changed"
        yield from ("      {what}: {before} -> {after}".format_map(each) for each in changes)
    if "changes" in found:
        yield "" if found["changes"] else "No plan has changed.\n"


def _summary(queries: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table that fits into 80 columns."""
    width = max(len(query["name"]) for query in queries)
    has_runs = any(query["runs"] for query in queries)
    heads = ("cost", *(("buffers", "ms") if has_runs else ("rows",)), "indexes")
    yield f"  {'query':{width}}" + "".join(f"{head:>10}" for head in heads)
    for query in queries:
        marked = explain_data.differences(query) + explain_data.failures(query)
        cells = (f"{cell:>10}" for cell in _cells(query, has_runs=has_runs))
        shown = "".join(cells) if query["plan"] else f"  {query['problem']}"
        yield f"{'!' if marked else ' '} {query['name']:{width}}{shown}"
        yield from (f"      {line}" for line in marked)
    if any(explain_data.differences(query) for query in queries):
        yield "  On a small table a plan uses no index: reading all of it costs less."


def _cells(query: dict[str, Any], *, has_runs: bool) -> Iterator[str]:
    yield f"{query['cost']:,.0f}"
    if has_runs:
        for key, form in (("buffers", ",.0f"), ("milliseconds", ",.1f")):
            figures = [run[key] for run in query["runs"] if not run["problem"]]
            yield format(max(figures), form) if figures else "-"
    else:
        yield f"{query['rows']:,}"
    promised = len(query["promised"])
    kept = len(set(query["promised"]) & set(query["used"]))
    yield f"{kept} of {promised}" if promised else "-"


def _tree(node: dict[str, Any], indent: str = "", arrow: str = "") -> Iterator[str]:
    """Yield the lines of a node and those below it, indented as EXPLAIN does."""
    shown = explain_nodes.describe(node)
    if shown.place:
        yield f"{indent}{shown.place}"
        indent += "  "
    yield f"{indent}{arrow}{shown.title}  ({shown.figures})"
    below = indent + " " * (len(arrow) + 2)
    yield from (f"{below}{line}" for line in shown.details)
    for child in node.get("Plans", ()):
        yield from _tree(child, below, "->  ")
