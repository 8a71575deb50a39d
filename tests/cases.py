"""Attention problems, drawn at random or made by hand, for every test that compares two ways of computing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

import sightline
from sightline import reference

#: What the engine's tests run on: its two wings, and a third one that the tests add (engine/third_wing.py).
BACKENDS = ("cpu", "chunked", "definition")


@dataclass
class Case:
    """A query, a key, a value, and options for attention()."""

    query: Tensor
    key: Tensor
    value: Tensor
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (*self.query.shape[:3], self.key.shape[2])

    def reference(self) -> reference.Stages:
        return reference.attention(self.query, self.key, self.value, **self.options)

    def matrix(self) -> sightline.AttentionMatrix:
        return sightline.AttentionMatrix(self.query, self.key, self.value, **self.options)

    def attention(self, **more: Any) -> Any:
        return sightline.attention(self.query, self.key, self.value, **self.options, **more)


# Primes catch swapped axes; 63 to 65 and 127 to 129 lie around the kernels' block sizes.
LENGTHS = st.sampled_from([1, 2, 3, 7, 16, 17, 31, 63, 64, 65, 97, 127, 128, 129, 131])


@st.composite
def cases(draw: Any, dtype: torch.dtype = torch.float32, empty: bool = False) -> Case:
    """Any problem that attention() takes."""
    b, g, group = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    lengths = st.one_of(LENGTHS, st.just(0)) if empty else LENGTHS
    n, m = draw(lengths), draw(lengths)
    d, e = draw(st.sampled_from([1, 3, 8, 16, 17, 40])), draw(st.sampled_from([1, 5, 16, 33]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    h = g * group
    query = laid_out(draw, generator, (b, h, n, d), dtype)
    key = laid_out(draw, generator, (b, g, m, d), dtype)
    value = laid_out(draw, generator, (b, g, m, e), dtype)
    shape = (b, h, n, m)
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["mask"] = draw(masks(shape, generator))
    if draw(st.booleans()):
        options["bias"] = draw(biases(shape, generator))
    if draw(st.booleans()):
        options["softcap"] = draw(st.sampled_from([0.5, 5.0]))
    if draw(st.booleans()):
        options["sinks"] = torch.randn(h, generator=generator)
    if draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([-0.3, 0.0, 1.0]))
    return Case(query, key, value, options)


def laid_out(draw: Any, generator: torch.Generator, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Normal numbers of a shape, in one of the layouts that models use."""
    b, h, n, d = shape
    kind = draw(
        st.sampled_from(["contiguous", "heads inside", "spare room", "last axis strided", "broadcast"])
    )
    if kind == "heads inside":
        return torch.randn(b, n, h, d, generator=generator).to(dtype).transpose(1, 2)
    if kind == "spare room":
        return torch.randn(b, h, n + 3, d + 2, generator=generator).to(dtype)[:, :, 1 : n + 1, 1 : d + 1]
    if kind == "last axis strided":
        return torch.randn(b, h, d, n, generator=generator).to(dtype).transpose(-1, -2)
    if kind == "broadcast":
        return torch.randn(1, h, n, d, generator=generator).to(dtype).expand(b, h, n, d)
    return torch.randn(b, h, n, d, generator=generator).to(dtype)


def masks(shape: tuple[int, int, int, int], generator: torch.Generator) -> Any:
    """Any mask: the simple ones, and their combinations."""
    return st.recursive(
        simple_masks(shape, generator),
        lambda inner: st.builds(lambda a, b, both: a & b if both else a | b, inner, inner, st.booleans()),
        max_leaves=4,
    )


@st.composite
def simple_masks(draw: Any, shape: tuple[int, int, int, int], generator: torch.Generator) -> Any:
    b, h, n, m = shape
    align = draw(st.sampled_from(["bottom-right", "top-left", 2, "tensor"]))
    if align == "tensor":
        align = torch.randint(-3, 4, (b,), generator=generator)
    kind = draw(st.sampled_from(["causal", "window", "prefix", "lengths", "documents", "dense", "ranges"]))
    if kind == "causal":
        return sightline.causal(align)
    if kind == "window":
        sides = st.one_of(st.none(), st.sampled_from([0, 1, 5, 20]))
        return sightline.window(draw(sides), draw(sides), align)
    if kind == "prefix":
        return sightline.prefix(draw(st.integers(0, m + 2)))
    if kind == "lengths":
        return sightline.lengths(torch.randint(0, m + 1, (b,), generator=generator))
    if kind == "ranges":
        low = torch.randint(-2, m + 2, (b, 1, n), generator=generator)
        return sightline.ranges(low, low + torch.randint(-1, 9, (b, 1, n), generator=generator))
    if kind == "documents":
        query_ids = torch.randint(0, 3, (n,), generator=generator)
        key_ids = torch.randint(0, 3, (b, m), generator=generator).sort(-1).values
        return sightline.documents((2 - key_ids) if n == m else query_ids, 2 - key_ids)
    sizes = [draw(st.sampled_from([1, size])) for size in shape]
    return (
        torch.rand(sizes, generator=generator) < 0.6
        if draw(st.booleans())
        else sightline.dense(torch.rand(sizes, generator=generator) < 0.6)
    )


@st.composite
def biases(draw: Any, shape: tuple[int, int, int, int], generator: torch.Generator) -> Any:
    b, h, _, _ = shape
    kind = draw(st.sampled_from(["alibi", "alibi per entry", "relative", "one table", "dense", "hiding"]))
    if kind == "alibi":
        return sightline.alibi(torch.rand(h, generator=generator))
    if kind == "alibi per entry":
        return sightline.alibi(
            torch.rand(b, h, generator=generator), torch.randint(-3, 4, (b,), generator=generator)
        )
    if kind in ("relative", "one table"):
        radius = draw(st.sampled_from([0, 1, 4, 200]))
        heads = h if kind == "relative" else 1
        return sightline.relative(torch.randn(heads, 2 * radius + 1, generator=generator), align="top-left")
    sizes = [draw(st.sampled_from([1, size])) for size in shape]
    bias = torch.randn(sizes, generator=generator)
    return (
        bias.masked_fill(torch.rand(sizes, generator=generator) < 0.3, -torch.inf)
        if kind == "hiding"
        else bias
    )


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Equal within a tolerance, absolute and relative; NaN equals NaN, infinities equal themselves."""
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    torch.testing.assert_close(
        found.double(), wanted.double(), atol=tolerance, rtol=tolerance, equal_nan=True, check_stride=False
    )
