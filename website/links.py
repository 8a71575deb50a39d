"""Whether links lead somewhere: in the repository's Markdown, and in the site that was made of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from website.contents import ROOT

_FENCE = re.compile(r"^( *)(```+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def markdown() -> list[Path]:
    """The pages that a forge shows: those of docs/ and those at the root."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def broken(page: Path) -> list[str]:
    """The links of a Markdown page inside the repository that lead to no file, or to no heading of it."""
    links = _LINK.findall(_CODE.sub("", _prose(page)))
    return [link for link in links if not _SCHEME.match(link) and not _leads(page, unquote(link))]


def _leads(page: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    where = (page.parent / target).resolve() if target else page
    if not where.exists() or not where.is_relative_to(ROOT):
        return False
    return not anchor or where.suffix != ".md" or anchor in _anchors(where)


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@cache
def _anchors(page: Path) -> frozenset[str]:
    """What a forge calls the headings of a page: small letters, hyphens, a number from the second on."""
    found: dict[str, int] = {}
    anchors = set()
    for heading in _HEADING.findall(_prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        seen = found.get(slug, 0)
        found[slug] = seen + 1
        anchors.add(f"{slug}-{seen}" if seen else slug)
    return frozenset(anchors)


class _Links(HTMLParser):
    """What a page of the site links to and what in it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids |= {given[name] or "" for name in ("id", "name") if name in given}
        self.links += [given[name] or "" for name in ("href", "src") if name in given]


def broken_in_site(site: Path) -> Iterator[str]:
    """Links of the site's pages that lead to no file, or to no place in it."""
    pages = {page.resolve(): _Links(page.read_text(encoding="utf-8")) for page in _pages(site)}
    for page, read in pages.items():
        for link in read.links:
            target, _, anchor = link.partition("#")
            if _SCHEME.match(link) or not target and not anchor:
                continue
            where = (page.parent / unquote(target.partition("?")[0])).resolve() if target else page
            lacking = where in pages and anchor and unquote(anchor) not in pages[where].ids
            # Listings of source go back by the name of one room, where two may show what is in them.
            lacking = lacking and "_modules" not in page.parts
            if not where.exists() or lacking:
                yield f"{page.relative_to(site.resolve())}: {link}"


def _pages(site: Path) -> Iterator[Path]:
    """Not the theme's own, and not the gallery: its pages are files of their own, and hold whole models."""
    apart = {"_static", "gallery"}
    return (page for page in site.rglob("*.html") if apart.isdisjoint(page.relative_to(site).parts))
