"""A page that a command wrote."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """A page: its text, and its elements with their attributes."""

    def __init__(self, source: bytes) -> None:
        super().__init__()
        self.source = source.decode()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element; its text is set apart from what stands before it."""
        self.elements.append((tag, dict(attrs)))
        self.handle_data(" " * (tag not in {"b", "code", "span", "wbr"}))

    def handle_data(self, data: str) -> None:
        """Note text; runs of white space are a space."""
        self.text = self.text[:-1] + re.sub(r"\s+", " ", self.text[-1:] + data)

    def count(self, tag: str) -> int:
        """Return how many elements of such a tag there are."""
        return sum(each == tag for each, _ in self.elements)

    def assert_self_contained(self) -> None:
        """Fail if it has a script or an address, or a policy that allows them."""
        policies = [
            attributes["content"]
            for tag, attributes in self.elements
            if attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
        loading = ("script", "link", "img", "image", "iframe", "object", "embed", "form", "use")
        assert {tag for tag, _ in self.elements} & {*loading} == set()
        keys = {key for _, attributes in self.elements for key in attributes}
        assert keys & {"src", "srcset", "xlink:href", "action", "data", "ping"} == set()
        links = [given["href"] or "" for _, given in self.elements if "href" in given]
        assert [link for link in links if not link.startswith("#")] == []
        for address in ("http://", "https://", "url(", "@import", "//"):
            assert address not in self.source
