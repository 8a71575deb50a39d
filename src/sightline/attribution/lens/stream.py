"""A residual stream that ends in words."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sightline.attribution.frozen import double, reciprocal_std

_BLOCK = 1 << 13  # rows of the output matrix that are float64 at a time
_PART = re.compile(r"layer (\d+)( cross)?(?: head (\d+)| (.*))?")


class Stage(NamedTuple):
    """A place along the stream.

    Attributes:
        name: "embedding", "layer 0 attention", "layer 0 feed-forward", ...
        layer: after which block's; ``None`` for the embedding.
        kind: "embedding", "attention", "cross-attention", "feed-forward".
    """

    name: str
    layer: int | None
    kind: str


class Part(NamedTuple):
    """Who wrote to the stream.

    Attributes:
        name: "tokens", "layer 0 head 3", "layer 0 feed-forward", ...
        layer, head: which; ``None`` where it is of none.
        kind: "head", "cross head", "feed-forward", "output bias", or its name.
    """

    name: str
    layer: int | None
    head: int | None
    kind: str

    @classmethod
    def named(cls, name: str) -> Part:
        """The part of a name."""
        match = _PART.fullmatch(name)
        if match is None:
            return cls(name, None, None, name)
        layer, cross, head, rest = match.groups()
        kind = ("cross " if cross else "") + ("head" if head is not None else rest or "layer")
        return cls(name, int(layer), None if head is None else int(head), kind)


class WordStream(ABC):
    """What a model wrote to its stream in one run, and how its vectors become words.

    Attributes:
        stages: S places along it.
        size: (B, N), how many entries and positions were recorded.
        vocabulary: V.
        reads: "words", or "labels" for a classifier's.
        width: C.
        calls: of each attention call, by the name of its module, the block that it is in, and what its heads
            are called among the parts: "head" or "cross head".
        why_no_parts: why nothing can be said of who brought a word; ``None`` where it can.
        note: what to know of all that is read here; mostly "".
    """

    stages: tuple[Stage, ...]
    size: tuple[int, int]
    vocabulary: int
    width: int
    calls: dict[str, tuple[int, str]]
    reads: str = "words"
    why_no_parts: str | None = None
    note: str = ""

    @abstractmethod
    def states(self, batch: int, rows: Tensor) -> Tensor:
        """[S,n,C] float64: the stream of positions [n] at each stage."""

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """Vectors of the stream [...,C] → logits [...,V], through the final norm and the output matrix."""

    @abstractmethod
    def parts(self, batch: int, rows: Tensor, words: Tensor) -> dict[str, Tensor]:
        """What each part brings to the logits of words [d] at positions [n], by its name: [n,d]."""


def through(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """states [...,C] · weightᵀ + bias → [...,V], where weight [V,C] is converted a block at a time."""
    out = states.new_empty(*states.shape[:-1], len(weight))
    for start in range(0, len(weight), _BLOCK):
        some = weight[start : start + _BLOCK].detach().cpu().to(states.dtype)
        out[..., start : start + _BLOCK] = states @ some.T
    return out if bias is None else out + bias.detach().cpu().to(states.dtype)


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """A layer norm or RMS norm of float64 vectors [...,C], or no norm."""
    if isinstance(norm, nn.Identity):
        return x
    y = x - x.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x
    y = y * reciprocal_std(norm, x)[..., None]
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    y = y * double(weight) if isinstance(weight, Tensor) else y
    return y + double(bias) if isinstance(bias, Tensor) else y


def all_words(words: Tensor) -> Tensor:
    """Ids as an index on the CPU."""
    return words.detach().cpu().to(torch.int64)
