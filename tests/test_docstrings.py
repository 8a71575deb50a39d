"""Every public name says what it does in one form: a sentence, formula, shapes, errors, source, example."""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass
from typing import Any, is_typeddict

import pytest
from torch import nn as torch_nn

import sightline
from sightline import distributed, losses, measure, models, nn

ROOMS = {
    "sightline": sightline, "nn": nn, "models": models, "measure": measure, "losses": losses,
    "distributed": distributed,
}  # fmt: skip
NAMES = [f"{room}.{name}" for room, module in ROOMS.items() for name in module.__all__]

# What is no function and no class carries no docstring of its own.
VALUES = {"sightline.Align", "sightline.__version__"}

# What functions return and nobody else makes: it has nothing to refuse.
RESULTS = {"distributed.ShardedMatrix", "measure.WeightedNorms", "sightline.Readouts"}
# What classes of the user's own are like.
PROTOCOLS = {"nn.EvictionRule"}

LOSSES = [name for name in losses.__all__ if name not in ("Clipped", "WatchedCall", "watch")]
# Names that a paper stands behind, and names that compute what a formula says.
PAPERS = {
    "sightline": ["AttentionMatrix", "alibi", "attention", "relative", "window"],
    "nn": [
        "Alibi", "ConvolutionModule", "CrossAttention", "FeedForward", "HeavyHitters", "LastQuery",
        "LearnedPositions", "MultiheadAttention", "RelativePositions", "Rotary", "SelfAttention",
        "SinusoidalPositions", "SnapKV", "TransformerBlock", "TransformerDecoder", "TransformerEncoder",
        "alibi_slopes", "sinusoidal",
    ],
    "models": ["Decoder", "Encoder", "EncoderDecoder", "SpeechEncoder", "VisionEncoder"],
    "measure": [*measure.all(), "dtw", "encoder_decoder_relevance"],
    "losses": LOSSES,
    "distributed": ["context_parallel"],
}  # fmt: skip
FORMULAS = {
    "sightline": ["AttentionMatrix", "alibi", "attention", "causal", "ranges", "relative", "window"],
    "nn": [
        "Alibi", "ConvolutionModule", "CrossAttention", "FeedForward", "LearnedPositions", "MeanOverHeads",
        "MultiheadAttention", "RelativePositions", "Rotary", "SelfAttention", "SinusoidalPositions",
        "TransformerBlock", "alibi_slopes", "sinusoidal",
    ],
    "measure": [*measure.all(), "WeightedNorms", "dtw", "encoder_decoder_relevance"],
    "losses": LOSSES,
}  # fmt: skip

# Annotations of arguments that have a shape, and shapes: [B,N,C], [..., C], [height, width].
_TENSORS = re.compile(r"\b(?:Tensor|AttentionMatrix|Measurable|Measured|GradedLayer)\b")
_SHAPE = re.compile(r"(?<!\w)\[(?:\.\.\., ?)?(?:[A-Z]|[a-z]{4,})[^\[\]\s]*(?:, ?[^\[\]\s]+)*\]")
_FORMULA = re.compile(r"^Formula: |``[^`]*(?:[=·Σ√∘⊙∗−+*|‖≤<])[^`]*``|<=", re.MULTILINE)
_TWO_SENTENCES = re.compile(r"[.!?] [A-Z`]")


def _object(name: str) -> Any:
    room, _, attribute = name.partition(".")
    return getattr(ROOMS[room], attribute)


def _docstring(name: str) -> str:
    """Of a class with that of its __init__."""
    named = _object(name)
    texts = [inspect.getdoc(named)]
    if inspect.isclass(named) and "__init__" in vars(named):
        texts.append(named.__init__.__doc__ and inspect.cleandoc(named.__init__.__doc__))
    return "\n\n".join(text for text in texts if text)


def _arguments(named: Any) -> list[inspect.Parameter]:
    """Of a function, or of the constructor of a class."""
    try:
        return list(inspect.signature(named).parameters.values())
    except ValueError:  # an exception, say, which takes what its base takes
        return []


def _is_record(named: Any) -> bool:
    """Whether it only holds what it is given: nothing that it could refuse."""
    if not inspect.isclass(named):
        return False
    plain = is_dataclass(named) and not hasattr(named, "__post_init__")
    return plain or is_typeddict(named) or issubclass(named, (tuple, BaseException))


def _takes_tensors(named: Any) -> bool:
    arguments = _arguments(named)
    if inspect.isclass(named) and issubclass(named, torch_nn.Module) and "forward" in vars(named):
        arguments += _arguments(named.forward)
    return any(_TENSORS.search(str(argument.annotation)) for argument in arguments)


def _named(table: dict[str, list[str]]) -> list[str]:
    return list(dict.fromkeys(f"{room}.{name}" for room, names in table.items() for name in names))


DOCUMENTED = [name for name in NAMES if name not in VALUES]
CAN_RAISE = [
    name
    for name in DOCUMENTED
    if name not in RESULTS | PROTOCOLS and _arguments(_object(name)) and not _is_record(_object(name))
]
WITH_SHAPES = [name for name in DOCUMENTED if _takes_tensors(_object(name))]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_it_begins_with_one_sentence(name: str) -> None:
    first = _docstring(name).split("\n")[0]
    assert first.endswith("."), first
    assert not _TWO_SENTENCES.search(first), first


@pytest.mark.parametrize("name", DOCUMENTED)
def test_it_has_an_example_that_runs(name: str) -> None:
    _, heading, example = _docstring(name).partition("Example:\n")
    assert heading and ">>> " in example


@pytest.mark.parametrize("name", CAN_RAISE)
def test_what_takes_arguments_says_what_it_refuses(name: str) -> None:
    assert re.search(r"^Raises:\n    \w", _docstring(name), re.MULTILINE)


@pytest.mark.parametrize("name", WITH_SHAPES)
def test_what_takes_tensors_says_their_shapes(name: str) -> None:
    assert _SHAPE.search(_docstring(name))


@pytest.mark.parametrize("name", _named(FORMULAS))
def test_what_follows_a_formula_says_it(name: str) -> None:
    assert _FORMULA.search(_docstring(name))


@pytest.mark.parametrize("name", _named(PAPERS))
def test_what_has_a_paper_names_it(name: str) -> None:
    assert re.search(r"^Sources?: .*\b(19|20)\d\d\b", _docstring(name), re.MULTILINE | re.DOTALL)


def test_the_tables_name_what_there_is() -> None:
    assert set(NAMES) >= {*VALUES, *RESULTS, *_named(PAPERS), *_named(FORMULAS)}


def test_the_rules_can_fail() -> None:
    assert (
        not _SHAPE.search("a list [i, j] or x[0]")
        and _SHAPE.search("x [B,N,C]")
        and _SHAPE.search("[..., C]")
    )
    assert not _FORMULA.search("see ``alibi`` and ``x``") and _FORMULA.search("``q·kᵀ/√D``")
    assert _TWO_SENTENCES.search("A set of pairs. Combine them.")
    assert not _TWO_SENTENCES.search("As in Vaswani et al. 2017.")
    assert "nn.SelfAttention" in CAN_RAISE and "nn.SelfAttention" in WITH_SHAPES
    assert "models.Generated" not in CAN_RAISE and "models.EncoderConfig" in CAN_RAISE
