"""The pages that commands write: self-contained HTML in one style, from templates of this folder.

`page.html.j2` is the style: light and dark, and a Content-Security-Policy without scripts.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from collections.abc import Callable


def render(template: str, filters: dict[str, Callable[..., object]], **values: Any) -> str:
    """Return the page, in which every text that is not markup is escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        keep_trailing_newline=True,
        loader=jinja2.FunctionLoader(_read),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= filters
    return environment.get_template(template).render(values)


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
