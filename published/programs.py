"""Tracr: compiled programs give what they promise, their heads are found out, and what these compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tracr.compiler import compiling, lib
from tracr.rasp import rasp

import sightline
from published.compiled import Run, differences, run
from published.layers import as_model
from published.line import Line, distance, equal, largest, numbers
from sightline import measure

START = "start"
# Scores of compiled heads reach a hundred; float32 has seven digits of them, and they stand in an exponent.
TOLERANCE = 1e-5
EIGHT = list("gcahbedf")

# What selectors compare: the query's side, then the key's.
_TOKENS, _POSITIONS = "tokens with tokens", "positions with positions"
_REVERSE = ("", "", "", "layer 2 feed-forward with positions")  # the place from the end, worked out before
_SORT = (_TOKENS, "positions with layer 0 feed-forward")  # how many are less, with places
_INDUCTION = (_POSITIONS, "tokens with layer 0 head 0")


@dataclass(frozen=True)
class Program:
    """A program with what it promises.

    Attributes:
        name: as it is shown.
        program: in RASP.
        tokens: what it is given.
        output: what Tracr's docstrings promise for that; ``None`` where they do not.
        labels: of each layer's head, where a selector has a name among ours.
        reads: of each layer's head, what its selector compares: where query and key come from; "" where it
            compares nothing.
        causal: whether it only looks back.
    """

    name: str
    program: Any
    tokens: list[Any]
    output: list[Any] | None = None
    labels: tuple[str, ...] | None = None
    reads: tuple[str, ...] | None = None
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
        if each.reads:
            compared = "; ".join(filter(None, each.reads))
            yield equal(f"why, {each.name}", compared, _compared(model, ours, each.reads))
    yield distance(
        f"residual streams of the {len(streams)} programs", "Tracr's model", largest(streams), TOLERANCE
    )
    yield distance(
        f"attention weights of the {len(weights)} programs", "Tracr's model", largest(weights), TOLERANCE
    )


def programs() -> Iterator[Program]:
    """Those of Tracr's library with an example, then those whose heads have a name."""
    tokens = rasp.tokens
    yield Program("reverse", lib.make_reverse(tokens), list("Hello"), list("olleH"), reads=_REVERSE)
    yield Program("hist", lib.make_hist(), list("abac"), [2, 1, 2, 1], reads=(_TOKENS,))
    sort = lib.make_sort_unique(tokens, tokens)
    yield Program("sort_unique", sort, [2, 4, 3, 1], [1, 2, 3, 4], reads=_SORT)
    opened = rasp.numerical(tokens == "(")
    shares = [0, 1 / 2, 1 / 3, 1 / 4, 2 / 5, 2 / 6, 2 / 7, 2 / 8]
    yield Program("frac_prevs", lib.make_frac_prevs(opened), list("a()b(c))"), shares)
    balance = [0, 1 / 2, 0, 0, 1 / 5, 1 / 6, 0, -1 / 8]
    yield Program("pair_balance", lib.make_pair_balance(tokens, "(", ")"), list("a()b(c))"), balance)
    for label, step in (("previous token", -1), ("current token", 0), ("next token", 1), ("positional", -3)):
        yield Program(f"key = query {step:+}", _at(step), EIGHT, labels=(label,), reads=(_POSITIONS,))
    yield Program("any key", lib.make_length(), EIGHT, labels=("broad",))
    yield Program(
        "key's token = query's", lib.make_hist(), EIGHT * 3, labels=("duplicate token",), causal=True
    )
    induction = rasp.Aggregate(rasp.Select(_at(-1), tokens, rasp.Comparison.EQ), tokens)
    labels = ("previous token", "induction")
    yield Program(
        "key's previous token = query's", induction, EIGHT * 3, labels=labels, reads=_INDUCTION, causal=True
    )


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


def _compared(model: Any, ours: Run, reads: tuple[str, ...]) -> str:
    """What ``trace.why`` finds that selectors compare, over all queries but that of the start."""
    layers = as_model(model, len(ours.tokens))
    with torch.no_grad(), sightline.trace(layers, residual=True) as trace:
        layers(ours.tokens[None])
    queries = torch.arange(len(ours.tokens)) > 0
    found = []
    for layer, compares in enumerate(reads):
        if compares:
            pair = trace.why(layer, 0, queries=queries).top(1, "pairs")[0]
            found.append(f"{pair.query} with {pair.key}")
    return "; ".join(found)


def _joined(values: list[Any]) -> str:
    return " ".join(map(str, values))
