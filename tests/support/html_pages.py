"""What holds for every HTML page that a report is."""

import re
from html.parser import HTMLParser

from jobs.reports.page import MOST_BYTES

FETCHING = {"script", "iframe", "object", "embed", "video", "audio", "source", "form", "base"}
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Outline(HTMLParser):
    """Checks that elements are closed in order, and gathers what matters."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check(page: str) -> Outline:
    """What holds for every page."""
    assert len(page.encode()) <= MOST_BYTES
    outline = Outline(page)
    assert not FETCHING & {tag for tag, _ in outline.tags}
    for tag, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            address = attributes.get(name) or "#"
            assert address.startswith(("data:", "#")), f"{tag} {name}={address[:80]}"
        if tag == "img":
            assert attributes.get("alt"), "a picture without an alternative text"
        if tag == "svg":
            assert attributes.get("role") == "img"
            assert attributes.get("aria-label")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\((?!#)|@import", page)
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for target in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page):
        assert "".join(target) in ids
    assert "#0102" not in page, "a colour of a figure was not replaced"
    assert not re.search(r"(fill|stroke): #", page), "a colour that would not follow the theme"
    return outline
