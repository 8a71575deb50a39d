"""Tracr: compiled programs give what they promise, and their heads are found out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracr.compiler import compiling, lib
from tracr.rasp import rasp

from published.compiled import Run, differences, run
from published.line import Line, distance, equal, largest, numbers
from sightline import measure

START = "start"
# Scores of compiled heads reach a hundred; float32 has seven digits of them, and they stand in an exponent.
TOLERANCE = 1e-5
EIGHT = list("gcahbedf")


@dataclass(frozen=True)
class Program:
    """A program with what it promises.

    Attributes:
        name: as it is shown.
        program: in RASP.
        tokens: what it is given.
        output: what Tracr's docstrings promise for that; ``None`` where they do not.
        labels: of each layer's head, where a selector has a name among ours.
        causal: whether it only looks back.
    """

    name: str
    program: Any
    tokens: list[Any]
    output: list[Any] | None = None
    labels: tuple[str, ...] | None = None
    causal: bool = False


def lines(speech: Path | None) -> Iterator[Line]:
    """Outputs, heads, and how far the whole run lies from Tracr's own."""
    streams, weights = [], []
    for each in programs():
        tokens = [START, *each.tokens]
        model = compiling.compile_rasp_to_model(
            each.program, set(each.tokens), len(tokens), causal=each.causal, compiler_bos=START
        )
        ours = run(model, tokens)
        stream, weight = differences(model, tokens, ours)
        streams.append(stream)
        weights.append(weight)
        yield from _promises(each, ours)
    yield distance(
        f"residual streams of the {len(streams)} programs", "Tracr's model", largest(streams), TOLERANCE
    )
    yield distance(
        f"attention weights of the {len(weights)} programs", "Tracr's model", largest(weights), TOLERANCE
    )


def programs() -> Iterator[Program]:
    """Those of Tracr's library with an example, then those whose heads have a name."""
    tokens = rasp.tokens
    yield Program("reverse", lib.make_reverse(tokens), list("Hello"), list("olleH"))
    yield Program("hist", lib.make_hist(), list("abac"), [2, 1, 2, 1])
    yield Program("sort_unique", lib.make_sort_unique(tokens, tokens), [2, 4, 3, 1], [1, 2, 3, 4])
    opened = rasp.numerical(tokens == "(")
    shares = [0, 1 / 2, 1 / 3, 1 / 4, 2 / 5, 2 / 6, 2 / 7, 2 / 8]
    yield Program("frac_prevs", lib.make_frac_prevs(opened), list("a()b(c))"), shares)
    balance = [0, 1 / 2, 0, 0, 1 / 5, 1 / 6, 0, -1 / 8]
    yield Program("pair_balance", lib.make_pair_balance(tokens, "(", ")"), list("a()b(c))"), balance)
    for label, step in (("previous token", -1), ("current token", 0), ("next token", 1), ("positional", -3)):
        yield Program(f"key = query {step:+}", _at(step), EIGHT, labels=(label,))
    yield Program("any key", lib.make_length(), EIGHT, labels=("broad",))
    yield Program(
        "key's token = query's", lib.make_hist(), EIGHT * 3, labels=("duplicate token",), causal=True
    )
    induction = rasp.Aggregate(rasp.Select(_at(-1), tokens, rasp.Comparison.EQ), tokens)
    labels = ("previous token", "induction")
    yield Program("key's previous token = query's", induction, EIGHT * 3, labels=labels, causal=True)


def _at(step: int) -> Any:
    selector = rasp.Select(rasp.indices, rasp.indices, lambda key, query: key == query + step)
    return rasp.Aggregate(selector, rasp.tokens)


def _promises(program: Program, ours: Run) -> Iterator[Line]:
    if program.output and isinstance(program.output[1], float):
        yield numbers(f"{program.name} of {''.join(program.tokens)}", program.output, ours.output, TOLERANCE)
    elif program.output:
        given = "".join(map(str, program.tokens))
        yield equal(f"{program.name} of {given}", _joined(program.output), _joined(ours.output))
    if program.labels:
        labels = [measure.head_labels(matrix, ours.tokens)[0].label for matrix in ours.matrices]
        yield equal(f"head selecting: {program.name}", ", ".join(program.labels), ", ".join(labels))


def _joined(values: list[Any]) -> str:
    return " ".join(map(str, values))
