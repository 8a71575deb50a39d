"""How docstrings become pages: one-line sections as fields, references by public names."""

from __future__ import annotations

import re
from functools import cache
from types import GetSetDescriptorType, MethodDescriptorType, WrapperDescriptorType
from typing import Any

from website.reference import every_name

# Our own one-line sections: "Source: Abnar & Zuidema 2020, ..."
_FIELD = re.compile(r"^(Formula|Unit|Range|Sources?|Caveat|Shapes?|Cost|Memory): (?=\S)")


def setup(app: Any) -> None:
    """Joins Sphinx."""
    app.connect("autodoc-process-docstring", _fields, priority=100)
    app.connect("autodoc-skip-member", _foreign)
    app.connect("missing-reference", _public)


def _fields(app: Any, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    made, example = [], False
    for paragraph in "\n".join(lines).split("\n\n"):
        example = example or paragraph.startswith(("Example", ">>> "))
        made.append(paragraph if example else _paragraph(paragraph))
    lines[:] = "\n\n".join(made).split("\n")


def _paragraph(text: str) -> str:
    field = _FIELD.match(text)
    if field is None:
        return _outside_code(text)
    said = " ".join(text[field.end() :].split())
    whole = f"``{said}``" if field[1] == "Formula" and "`" not in said else _outside_code(said)
    return f":{field[1]}: {whole}"


def _outside_code(text: str) -> str:
    """Bars are absolute values, not what reStructuredText makes of them."""
    parts = re.split(r"(``.*?``)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("``") else part.replace("|", "\\|") for part in parts)


def _foreign(app: Any, kind: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """What a class has from elsewhere (a tensor's hundreds of methods) is not described here."""
    inner = getattr(thing, "fget", None) or getattr(thing, "__func__", thing)
    module = getattr(inner, "__module__", None)
    if module is None and isinstance(
        inner, (MethodDescriptorType, WrapperDescriptorType, GetSetDescriptorType)
    ):
        module = inner.__objclass__.__module__
    return True if module is not None and not str(module).startswith("sightline") else None


def _public(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A reference to where something is defined leads to the page of its public name."""
    from sphinx.util.nodes import make_refnode

    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip("~.")
    public = _names().get(target) or _names().get(target.rpartition(".")[2])
    if public is None:
        return None
    return make_refnode(app.builder, node["refdoc"], f"reference/{public}", public, content, public)


@cache
def _names() -> dict[str, str]:
    """Where things are defined, and their last names, to their public names; the first room's come first."""
    found: dict[str, str] = {}
    for named in every_name():
        thing = named.thing
        home = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
        for known in (home, named.name.rpartition(".")[2]):
            found.setdefault(known, named.file)
    return found
