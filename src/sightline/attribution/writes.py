"""What each part of a model wrote to the residual stream, from the embedding to the input of a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.attribution.frozen import double, frozen
from sightline.attribution.recorder import ResidualRecorder
from sightline.attribution.stream import Place, Stream
from sightline.models import VisionEncoder
from sightline.models.embedding import TokenEmbedding
from sightline.nn.projections import Projections

#: What was written, by the name of who wrote it: [n,C] each.
Parts = dict[str, Tensor]

_NORM_BIASES = "norm biases"


class Writes:
    """Walks through what was recorded, at some positions of one batch entry.

    All is float64. What passes a norm on the way passes it as the linear map that it is with its statistics
    held; the biases of the norms are a part of their own.

    Args:
        recorder: what was recorded.
        batch: which entry.
        rows: [n], which positions.
    """

    def __init__(self, recorder: ResidualRecorder, batch: int, rows: Tensor) -> None:
        self._recorder, self._batch, self._rows = recorder, batch, rows

    def before(self, place: Place) -> Parts:
        """What the attention layer at ``place`` is given, behind its norm where that comes first."""
        stream = place.stream
        parts = self._start(stream)
        for layer in range(place.layer):
            self._pass_block(stream, layer, parts)
        block = stream.blocks[place.layer]
        if place.kind == "cross":
            self._attended(stream, place.layer, "self", parts)
        if block.norm_first:
            norm = block.self_attention_norm if place.kind == "self" else block.cross_attention_norm
            self._pass_norm(norm, parts)
        return parts

    def memory(self, stream: Stream) -> Parts:
        """What cross-attention looks at: all that a stream ends in."""
        parts = self._start(stream)
        for layer in range(len(stream.blocks)):
            self._pass_block(stream, layer, parts)
        self._pass_norm(stream.stack.norm, parts)
        return parts

    # --- the start --------------------------------------------------------------------------------

    def _start(self, stream: Stream) -> Parts:
        start, prefix = stream.start, stream.prefix
        if start is None:
            return {f"{prefix}input": self._kept(stream.stack, "given")}
        made = start.norm if isinstance(start, TokenEmbedding) else stream.stack
        left = self._kept(made, "given")
        parts: Parts = {}
        if start.positions is not None:
            parts[f"{prefix}positions"] = self._kept(start.positions, "added")
            left = left - parts[f"{prefix}positions"]
        if isinstance(start, TokenEmbedding):
            if start.segments is not None:
                tokens = self._kept(start.tokens, "made") * start.scale
                parts[f"{prefix}segments"], left = left - tokens, tokens
            parts = {f"{prefix}tokens": left, **parts}
            self._pass_norm(start.norm, parts)
            return parts
        if isinstance(start, VisionEncoder):
            first = (self._rows == 0).to(left.dtype)[:, None]
            return {"patches": left * (1 - first), "first vector": left * first, **parts}
        return {"frames": left, **parts}

    # --- the blocks -------------------------------------------------------------------------------

    def _pass_block(self, stream: Stream, layer: int, parts: Parts) -> None:
        block = stream.blocks[layer]
        self._attended(stream, layer, "self", parts)
        if block.cross_attention is not None:
            self._attended(stream, layer, "cross", parts)
        parts[f"{stream.prefix}layer {layer} feed-forward"] = self._kept(block.feed_forward, "made")
        if not block.norm_first:
            self._pass_norm(block.feed_forward_norm, parts)
        if stream.behind:
            parts[f"{stream.prefix}layer {layer} convolution"] = self._kept(stream.behind[layer], "added")

    def _attended(self, stream: Stream, layer: int, kind: str, parts: Parts) -> None:
        """What each head of an attention layer adds, and the norm behind them where it comes last."""
        block = stream.blocks[layer]
        attention = Place(stream, layer, kind).attention
        name = f"{stream.prefix}layer {layer}" + (" cross" if kind == "cross" else "")
        contexts = self._kept(attention.output, "given").unflatten(-1, (attention.heads, -1))  # [n,H,D]
        weight = weight_of(attention.output).unflatten(-1, (attention.heads, -1))  # [C,H,D]
        for head in range(attention.heads):
            parts[f"{name} head {head}"] = contexts[:, head] @ weight[:, head].T
        if attention.output.bias is not None:
            parts[f"{name} output bias"] = double(attention.output.bias).expand(len(self._rows), -1)
        if not block.norm_first:
            self._pass_norm(
                block.self_attention_norm if kind == "self" else block.cross_attention_norm, parts
            )

    def _pass_norm(self, norm: nn.Module, parts: Parts) -> None:
        """Every part passes a norm, in place."""
        if isinstance(norm, nn.Identity):
            return
        rstd = self._kept(norm, "rstd")
        for name, part in parts.items():
            parts[name] = frozen(norm, part, rstd)
        bias = getattr(norm, "bias", None)
        if bias is not None:
            before = parts.get(_NORM_BIASES, torch.zeros((), dtype=torch.float64))
            parts[_NORM_BIASES] = (before + double(bias)).expand(len(self._rows), -1)

    def _kept(self, module: nn.Module, what: str) -> Tensor:
        """[n,C] of what was recorded, or [n] of a norm."""
        recorded = self._recorder.kept(module, what)[self._batch]
        return double(recorded[self._rows.to(recorded.device)])


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a projection in float64.

    Raises:
        TypeError: where it has none, as quantised layers do not.
    """
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise TypeError(
            f"why: a projection of this model is a {type(layer).__name__} without a floating weight. Trace "
            "the model before it is quantised."
        )
    return double(weight)


def projection(layer: Projections, which: str, head: int) -> tuple[Tensor, Tensor | None]:
    """Weight [D,C] and bias [D] that make a head's queries or keys."""
    made = layer.query if which == "query" else layer.key
    group = head if which == "query" else head * layer.kv_heads // layer.heads
    rows = slice(group * layer.head_width, (group + 1) * layer.head_width)
    bias = None if made.bias is None else double(made.bias)[rows]
    return weight_of(made)[rows], bias
