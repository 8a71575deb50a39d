"""The order of the pages: the sections and links of docs/README.md, which a forge shows as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_SECTION = re.compile(r"^## (.+)\n", re.MULTILINE)
_ENTRY = re.compile(r"^- ", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


@dataclass(frozen=True)
class Page:
    """A page of docs/, what the contents say of it, and the pages under it."""

    title: str
    path: str
    description: str
    children: tuple[Page, ...] = ()


@dataclass(frozen=True)
class Section:
    """Pages that belong together."""

    title: str
    text: str
    pages: tuple[Page, ...]

    @property
    def name(self) -> str:
        """The name of its own page: ``learn``."""
        return self.title.lower().replace(" ", "-")


def sections(text: str | None = None) -> list[Section]:
    """The sections of docs/README.md in their order.

    Raises:
        ValueError: an entry begins without a link to a page.
    """
    _, *parts = _SECTION.split((DOCS / "README.md").read_text(encoding="utf-8") if text is None else text)
    return [_section(title, body) for title, body in zip(parts[::2], parts[1::2], strict=True)]


def _section(title: str, body: str) -> Section:
    text, *entries = _ENTRY.split(body)
    return Section(title, text.strip(), tuple(_page(title, entry) for entry in entries))


def _page(section: str, entry: str) -> Page:
    entry = " ".join(entry.split("\n\n")[0].split())
    links = [(link[1], link[2]) for link in LINK.finditer(entry)]
    if not links or not entry.startswith("["):
        raise ValueError(f"docs/README.md, {section}: an entry begins with a link to its page, got {entry!r}")
    children = tuple(Page(name, path, "") for name, path in links[1:])
    description = entry[LINK.match(entry).end() :].removeprefix(":").strip()  # type: ignore[union-attr]
    return Page(*links[0], description, children)


def every_page(parts: list[Section]) -> Iterator[Page]:
    """The pages of all sections, those under others after them."""
    for section in parts:
        for page in section.pages:
            yield page
            yield from page.children
