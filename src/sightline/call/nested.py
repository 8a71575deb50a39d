"""Nested tensors: the texts of a batch, packed one after another, are the documents of one row.

``query`` [B,H,j,D] with a ragged j becomes [1,H,ΣN,D], and a mask of each text a range of keys for each
packed query. Nothing is padded; context comes back with the query's own offsets.

Letters: B batch, H heads, N packed queries, M packed keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sightline.biases import Alibi, Bias, Relative
from sightline.common.check import is_eager, shown
from sightline.masks import Both, Either, Mask, Span, Window, ranges
from sightline.matrix import AttentionMatrix
from sightline.positions.align import Align

_PAD = "Pad the batch with torch.nested.to_padded_tensor, and hide the padding with lengths()."


@dataclass(frozen=True)
class Rows:
    """Where the rows of each text lie among all packed rows.

    Attributes:
        starts, counts: [B] int64.
        total: how many packed rows there are.
        origin: what they were read from.
    """

    starts: Tensor
    counts: Tensor
    total: int
    origin: tuple[Tensor, Tensor | None]

    def text(self) -> tuple[Tensor, Tensor]:
        """(which text each packed row belongs to, its place in there), both [total]."""
        row = torch.arange(self.total, device=self.starts.device)
        text = torch.searchsorted(self.starts, row, right=True).clamp(min=1) - 1
        return text, row - self.starts[text]

    def same(self, other: Rows) -> bool:
        """Whether both lay their texts out alike, as far as that can be known."""
        if all(mine is theirs for mine, theirs in zip(self.origin, other.origin, strict=True)):
            return True
        known = is_eager(self.starts) and is_eager(other.starts)
        return known and torch.equal(self.starts, other.starts) and torch.equal(self.counts, other.counts)


class Ragged:
    """A nested tensor as one packed tensor, and the way back.

    Args:
        name: of the argument.
        nested: with the layout ``torch.jagged`` or ``torch.strided``.
        axes: what it has to look like, its ragged axis being "j": "[B,H,j,D]".

    Attributes:
        packed: [1,...,ΣN,...], differentiable.
        rows: where the texts lie in it.

    Raises:
        TypeError: for what is not nested; ValueError: for other axes.
    """

    def __init__(self, name: str, nested: Tensor, axes: str) -> None:
        if not isinstance(nested, Tensor) or not nested.is_nested:
            raise TypeError(
                f"{name}: expected a nested tensor {axes}, as another argument is one, got {shown(nested)}. "
                "Make all of them nested, or pad all of them."
            )
        letters = axes.strip("[]").split(",")
        self._axis = letters.index("j")
        if nested.dim() != len(letters):
            raise ValueError(f"{name}: expected {axes}, got a nested tensor of {nested.dim()} axes.")
        self._like = nested
        if nested.layout is torch.jagged:
            self._from_jagged(name, axes)
        else:
            self._from_strided(name, axes)

    def _from_jagged(self, name: str, axes: str) -> None:
        jagged: Any = self._like
        if jagged._ragged_idx != self._axis:
            raise ValueError(
                f"{name}: expected {axes}, got shape {list(jagged.shape)}, whose axis {jagged._ragged_idx} "
                "is the ragged one. Use .transpose(1, 2)."
            )
        values, offsets, lengths = jagged.values(), jagged.offsets(), jagged.lengths()
        self.packed: Tensor = values[None]
        counts = offsets.diff() if lengths is None else lengths
        total = values.shape[self._axis - 1]
        self.rows = Rows(offsets[:-1].long(), counts.long(), total, (offsets, lengths))

    def _from_strided(self, name: str, axes: str) -> None:
        texts = self._like.unbind()
        at = self._axis - 1
        shapes = {(*text.shape[:at], *text.shape[at + 1 :]) for text in texts}
        if len(shapes) != 1:
            raise ValueError(
                f"{name}: expected {axes}, got texts of shapes {[list(text.shape) for text in texts]}. Only "
                "their lengths may differ."
            )
        self.packed = torch.cat(texts, dim=at)[None]
        counts = torch.tensor([text.shape[at] for text in texts], device=self.packed.device)
        total = self.packed.shape[self._axis]
        self.rows = Rows(counts.cumsum(0) - counts, counts, total, (counts, None))

    def nested(self, packed: Tensor) -> Tensor:
        """Packed rows [1,...,ΣN,...] as a nested tensor with the lengths and the layout of this one."""
        rows, like = packed[0], self._like
        if like.layout is torch.jagged:
            jagged: Any = like
            return torch.nested.nested_tensor_from_jagged(
                rows, jagged.offsets(), jagged.lengths(), jagged_dim=self._axis
            )
        texts = rows.split(self.rows.counts.tolist(), dim=self._axis - 1)
        return torch.nested.as_nested_tensor(list(texts), layout=torch.strided)


def attention(
    attend: Callable[..., Any],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Mask | Tensor | None,
    bias: Bias | Tensor | None,
    return_matrix: bool | Literal["differentiable"],
    **options: Any,
) -> Tensor | tuple[Tensor, AttentionMatrix]:
    """``attend`` is :func:`sightline.attention`, whose arguments these are; see there.

    Raises:
        TypeError, ValueError: for tensors that are not nested alike, and for masks and biases that are not of
            each text by itself.
    """
    q = Ragged("query", query, "[B,H,j,D]")
    k, v = Ragged("key", key, "[B,G,j,D]"), Ragged("value", value, "[B,G,j,E]")
    check_pairs(q.rows, k.rows, v.rows)
    result = attend(
        q.packed,
        k.packed,
        v.packed,
        mask=of_each_text(mask, q.rows, k.rows),
        bias=_bias(bias, q.rows, k.rows),
        return_matrix=return_matrix,
        **options,
    )
    if not return_matrix:
        return q.nested(result)
    context, matrix = result
    return q.nested(context), matrix


def check_pairs(query: Rows, key: Rows, value: Rows) -> None:
    """Raises for another number of texts, and for keys and values that are no pairs."""
    texts, others = len(query.counts), len(key.counts)
    if texts != others:
        raise ValueError(f"key: {others} texts differ from the query's {texts} (axis B, the first).")
    if is_eager(key.counts) and not key.same(value):
        raise ValueError(
            f"value: texts of the lengths {value.counts.tolist()} differ from the key's "
            f"{key.counts.tolist()}. Keys and values belong in pairs."
        )


def of_each_text(mask: Mask | Tensor | None, queries: Rows, keys: Rows) -> Mask:
    """What each text's own mask shows, as key ranges of the packed rows.

    Raises:
        TypeError: for a mask that is not of each text by itself.
    """
    if mask is None:
        return _band(Window(None, None, 0), queries, keys)
    if isinstance(mask, Window):
        return _band(mask, queries, keys)
    if isinstance(mask, Span):
        return _span(mask, queries, keys)
    if isinstance(mask, (Both, Either)):
        left, right = of_each_text(mask.left, queries, keys), of_each_text(mask.right, queries, keys)
        return type(mask)(left, right)
    raise TypeError(
        f"mask: {shown(mask)} does not say what each text of a nested batch shows; causal(), window(), "
        f"prefix() and lengths() do. {_PAD}"
    )


def _band(window: Window, queries: Rows, keys: Rows) -> Mask:
    text, place = queries.text()
    position = place + _offsets(window.align, queries, keys)[text]
    low = torch.zeros_like(position) if window.left is None else position - window.left
    high = keys.counts[text] if window.right is None else position + (window.right + 1)
    return _ranges(low, high, queries, keys)


def _span(span: Span, queries: Rows, keys: Rows) -> Mask:
    text, _ = queries.text()
    low, high = (_bound(span.name, bound, keys)[text] for bound in (span.low, span.high))
    return _ranges(low, high, queries, keys)


def _ranges(low: Tensor, high: Tensor, queries: Rows, keys: Rows) -> Mask:
    """Keys low <= j < high of each query's text, [N] each; none for packed rows that are no text's."""
    text, place = queries.text()
    count = keys.counts[text].masked_fill(place >= queries.counts[text], 0)
    start = keys.starts[text]
    zero = torch.zeros_like(count)
    low, high = (torch.minimum(torch.maximum(bound, zero), count) + start for bound in (low, high))
    return ranges(low[None, None], high[None, None])


def _bound(name: str, bound: Tensor | int, keys: Rows) -> Tensor:
    """One bound for each text, [B]."""
    if not isinstance(bound, Tensor):
        return torch.full_like(keys.counts, bound)
    fitting = {"prefix": (1, len(keys.counts)), "lengths": (len(keys.counts),)}
    if bound.numel() not in fitting.get(name, ()):
        raise ValueError(
            f"{name}: a bound of shape {list(bound.shape)} does not say what each of the "
            f"B={len(keys.counts)} texts of a nested batch shows. Give one number for each. {_PAD}"
        )
    if name == "lengths" and is_eager(bound) and bool((bound > keys.counts).any()):
        raise ValueError(
            f"lengths: {bound.tolist()} go beyond the texts, which have {keys.counts.tolist()} keys."
        )
    return bound.to(keys.counts).expand_as(keys.counts)


def _offsets(align: Align, queries: Rows, keys: Rows) -> Tensor:
    """Where query 0 of each text stands, [B]."""
    if isinstance(align, str):
        return keys.counts - queries.counts if align == "bottom-right" else torch.zeros_like(keys.counts)
    if isinstance(align, int):
        return torch.full_like(keys.counts, align)
    if align.numel() not in (1, len(keys.counts)):
        raise ValueError(
            f"align: {align.numel()} offsets do not fit the batch B={len(keys.counts)} (axis B). "
            "Give [B] offsets."
        )
    return align.to(keys.counts).expand_as(keys.counts)


def _bias(bias: Bias | Tensor | None, queries: Rows, keys: Rows) -> Bias | None:
    """A bias by distance, which is the same among packed rows where queries and keys lie alike."""
    if bias is None:
        return None
    if not isinstance(bias, (Alibi, Relative)):
        raise TypeError(
            f"bias: {shown(bias)} does not say what is added in each text of a nested batch; alibi() and "
            f"relative() do. {_PAD}"
        )
    if isinstance(bias, Alibi) and bias.slopes.dim() == 2 and bias.slopes.shape[0] > 1:
        raise ValueError(f"alibi slopes: a nested batch needs one set, [H], for all of its texts. {_PAD}")
    if not isinstance(bias.align, (str, int)) or not queries.same(keys):
        raise ValueError(
            "bias: alibi() and relative() need queries and keys of the same lengths in a nested batch, and "
            f"one align for all texts. {_PAD}"
        )
    return replace(bias, align=0 if isinstance(bias.align, str) else bias.align)
