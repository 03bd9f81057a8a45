"""For `make site`: the repository's files that pages link to are pages, too."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

import assessments

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
SHOWN = (
    "sql/**/*",
    "migrations/**/*.sql",
    "examples/*.*",
    "docs/reference/*.[st]*",
    "*.md",
    "LICENSE",
)
FUNCTION = re.compile(r"^\| (`(backoffice\.)?(\w+)`) \|", re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file and each folder under files/."""
    paths = {path for pattern in SHOWN for path in ROOT.glob(pattern) if path.is_file()}
    paths.discard(ROOT / "README.md")  # docs/index.md is the front page
    for path in sorted(paths):
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".md":
            text = f"# {name}\n\n````{path.suffix[1:]}\n{text}\n````\n"
        files.append(File.generated(config, _page(name), content=text))
    for folder in {path.parent for path in paths} - {ROOT}:
        name = folder.relative_to(ROOT).as_posix()
        inside = "\n".join(f"- [{path.name}]({path.name})" for path in sorted(folder.glob("*.*")))
        files.append(
            File.generated(config, f"files/{name}/index.md", content=f"# {name}\n\n{inside}")
        )
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Let links to files lead to their pages, and functions to their docstrings."""
    uri = page.file.src_uri
    place = uri.removeprefix("files/") if uri.startswith("files/") else f"docs/{uri}"

    def replaced(match: re.Match[str]) -> str:
        name = posixpath.normpath(posixpath.join(posixpath.dirname(place), match[1]))
        for target in (name.removeprefix("docs/"), _page(name), f"files/{name}/index.md"):
            if files.get_file_from_path(target):
                return f"]({posixpath.relpath(target, posixpath.dirname(uri) or '.')}"
        return match[0]

    if uri == "reference/api.md":
        markdown = FUNCTION.sub(_linked, markdown)
    return LINK.sub(replaced, markdown)


def _linked(match: re.Match[str]) -> str:
    module = "assessments.backoffice" if match[2] else getattr(assessments, match[3]).__module__
    return f"| [{match[1]}][{module}.{match[3]}] |"


def _page(name: str) -> str:
    return f"files/{name}" if name.endswith(".md") else f"files/{name}.md"
