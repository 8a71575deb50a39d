"""The examples that RXNMapper publishes: those of its README, and those that its tests hold it to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Example:
    """A reaction with its published atom map.

    Attributes:
        name: where it is published.
        reaction: its SMILES.
        mapped: the same with atoms numbered.
        confidence: the published confidence.
        canonical: whether the reaction is brought into canonical form first.
    """

    name: str
    reaction: str
    mapped: str
    confidence: float
    canonical: bool


def of_readme(text: str) -> list[Example]:
    """The README's: ``rxns = [...]`` in one block of code, the results in another."""
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    reactions = next(
        ast.literal_eval(node.value)
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "rxns"
    )
    results = next(ast.literal_eval(block) for block in blocks if block.startswith("[{"))
    return list(_examples("README", reactions, results, canonical=True))


def of_tests(code: str) -> list[Example]:
    """The tests': functions that assign ``rxns`` and ``expected``. The code is read, not run."""
    found: list[Example] = []
    for function in ast.walk(ast.parse(code)):
        if isinstance(function, ast.FunctionDef):
            values = {
                ast.unparse(node.targets[0]): node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
            }
            if {"rxns", "expected"} <= values.keys():
                reactions, results = (ast.literal_eval(values[name]) for name in ("rxns", "expected"))
                canonical = "canonicalize_rxns=False" not in ast.unparse(function)
                found += _examples(function.name, reactions, results, canonical)
    return found


def molecules(mapped: str) -> tuple[list[str], list[str]]:
    """The molecules before and after ``>>``, sorted: in which order they are written does not matter."""
    before, _, after = mapped.partition(" ")[0].partition(">>")
    return sorted(before.split(".")), sorted(after.split("."))


def _examples(
    name: str, reactions: list[str], results: list[dict[str, Any]], canonical: bool
) -> Iterator[Example]:
    for at, (reaction, result) in enumerate(zip(reactions, results, strict=True), 1):
        shown = f"{name}, {at}" if len(reactions) > 1 else name
        yield Example(shown, reaction, result["mapped_rxn"], result["confidence"], canonical)
