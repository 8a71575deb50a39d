"""Concatenates plain ES modules into one script, since a page in one file has nothing to import from.

The modules under ``web/`` run unchanged in a browser or in node. To inline them, imports are left out and
the ``export`` words dropped; every module-level name must therefore be unique among the modules of a
script, except that helpers which are not exported live in a scope of their own module.
"""

from __future__ import annotations

import posixpath
import re
from importlib.resources import files
from pathlib import Path

_IMPORT = re.compile(
    r"^import\s+(?:\{(?P<names>[^}]*)\}\s+from\s+)?\"(?P<module>\.\.?/[\w./-]+)\";\n", re.MULTILINE
)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) (?P<name>\w+))", re.MULTILINE)


def source(name: str) -> str:
    """The text of ``web/name``."""
    return (files("sightline.view") / "web" / name).read_text(encoding="utf-8")


def names(suffix: str) -> list[str]:
    """The parts of the page with that suffix, by their paths under ``web/``; shared ones come first."""
    root = Path(str(files("sightline.view") / "web"))
    paths = (path.relative_to(root).as_posix() for path in root.rglob(f"*{suffix}"))
    return sorted(paths, key=lambda name: (name.count("/"), name))


def inline(entry: str) -> str:
    """``entry`` and every module it needs, in an order in which each comes after what it imports."""
    order: list[str] = []
    _visit(entry, order)
    return "\n".join(_scoped(name) for name in order)


def _visit(name: str, order: list[str]) -> None:
    if name in order:
        return
    for match in _IMPORT.finditer(source(name)):
        _visit(posixpath.normpath(posixpath.join(posixpath.dirname(name), match["module"])), order)
    order.append(name)


def _scoped(name: str) -> str:
    """One module as a block that passes its exports, and nothing else, on to those that follow."""
    text = source(name)
    body = _IMPORT.sub("", text)
    exported = [match["name"] for match in _EXPORT.finditer(body)]
    body = _EXPORT.sub("", body).strip()
    if not exported:
        return f"// {name}\n{{\n{body}\n}}\n"
    names = ", ".join(exported)
    return f"// {name}\nconst {{ {names} }} = (() => {{\n{body}\nreturn {{ {names} }};\n}})();\n"
