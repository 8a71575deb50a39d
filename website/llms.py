"""llms.txt: the pages as plain Markdown, and a list of them (llmstxt.org)."""

from __future__ import annotations

import re
from pathlib import Path

from website import command_line, reference
from website.contents import Page, Section, every_page
from website.source import TOCTREE, page_name

_SUMMARY = (
    "Exact self-attention for PyTorch that is fast on CPUs, needs memory linear in the sequence, and lets "
    "you look into the attention weights at any length: any weight, row, statistic or picture."
)
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def write(site: Path, read: Path, parts: list[Section]) -> None:
    """Writes ``llms.txt``, and the pages that it lists: ``trace.md`` beside ``trace.html``."""
    lines = ["# Sightline", "", f"> {_SUMMARY}", ""]
    for section in parts:
        lines += [f"## {section.title}", "", section.text, ""]
        lines += [*(_line(page, read) for page in every_page([section])), ""]
    lines += ["## Commands", "", "What `--help` says of each: [here](command-line.html).", ""]
    lines += [f"- `sightline {name}`: {said}" for name, said in command_line.sentences()]
    lines += ["", "## Public names", ""]
    lines += [f"- `{named.full}`: {named.sentence}" for named in reference.every_name()]
    (site / "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    for page in every_page(parts):
        text = TOCTREE.sub("", (read / page_name(page)).read_text(encoding="utf-8"))
        (site / page_name(page)).write_text(text, encoding="utf-8")


def _line(page: Page, read: Path) -> str:
    """A page by its own title: what the contents call it may be a word of a sentence there."""
    title = _TITLE.search((read / page_name(page)).read_text(encoding="utf-8"))
    said = _LINK.sub(r"\1", page.description)
    return f"- [{title[1] if title else page.title}]({page_name(page)})" + (f": {said}" if said else "")
