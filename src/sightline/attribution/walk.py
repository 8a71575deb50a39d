"""What a head reads of each part of a model: from its projection back to the embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.attribution.frozen import centred, double
from sightline.attribution.recorder import ResidualRecorder
from sightline.attribution.stream import Place, Stream
from sightline.models import VisionEncoder
from sightline.models.embedding import TokenEmbedding

#: What is read of each part, by the name of who wrote it: [n,D] each.
Parts = dict[str, Tensor]


class Walk:
    """Walks back through what was recorded, at some positions of one batch entry, in float64.

    With its deviation held, a norm multiplies each position with a number, and all of them with one matrix.
    So what lies between a part and the head is a number for each position and one matrix for all: the part's
    vectors are never carried through the layers.

    Args:
        recorder: what was recorded.
        batch: which entry.
        rows: [n], which positions.
        weight: [D,C], the projection of the head.
    """

    def __init__(self, recorder: ResidualRecorder, batch: int, rows: Tensor, weight: Tensor) -> None:
        self._recorder, self._batch, self._rows = recorder, batch, rows
        self._matrix = weight
        self._factor = torch.ones((len(rows), 1), dtype=torch.float64)
        self._read: Parts = {}
        self._norm_biases: Tensor | None = None

    def before(self, place: Place) -> Parts:
        """What is read of all that was written before an attention layer."""
        block = place.stream.blocks[place.layer]
        if block.norm_first:
            self._norm(block.self_attention_norm if place.kind == "self" else block.cross_attention_norm)
        if place.kind == "cross":
            self._attention(place.stream, place.layer, "self")
        return self._blocks(place.stream, place.layer)

    def end(self, stream: Stream) -> Parts:
        """What is read of all that a stream ends in, as cross-attention does."""
        self._norm(stream.stack.norm)
        return self._blocks(stream, len(stream.blocks))

    # --- the blocks -------------------------------------------------------------------------------

    def _blocks(self, stream: Stream, count: int) -> Parts:
        """Through the first ``count`` blocks, and the start."""
        for layer in reversed(range(count)):
            self._block(stream, layer)
        written = dict(reversed(self._read.items()))
        self._read = {}
        self._start(stream)
        biases = {} if self._norm_biases is None else {"norm biases": self._norm_biases}
        return self._read | written | biases

    def _block(self, stream: Stream, layer: int) -> None:
        block, name = stream.blocks[layer], f"{stream.prefix}layer {layer}"
        if stream.behind:
            self._part(f"{name} convolution", self._kept(stream.behind[layer], "added"))
        if not block.norm_first:
            self._norm(block.feed_forward_norm)
        self._part(f"{name} feed-forward", self._kept(block.feed_forward, "made"))
        if block.cross_attention is not None:
            self._attention(stream, layer, "cross")
        self._attention(stream, layer, "self")

    def _attention(self, stream: Stream, layer: int, kind: str) -> None:
        """What each head added, and the norm behind them where it comes last."""
        block, attention = stream.blocks[layer], Place(stream, layer, kind).attention
        if not block.norm_first:
            self._norm(block.self_attention_norm if kind == "self" else block.cross_attention_norm)
        name = f"{stream.prefix}layer {layer}" + (" cross" if kind == "cross" else "")
        matrix = (self._matrix @ weight_of(attention.output)).unflatten(-1, (attention.heads, -1))  # [D,H,D]
        contexts = self._kept(attention.output, "given").unflatten(-1, (attention.heads, -1))  # [n,H,D]
        if attention.output.bias is not None:
            self._part(f"{name} output bias", double(attention.output.bias).expand(len(self._rows), -1))
        for head in reversed(range(attention.heads)):
            self._read[f"{name} head {head}"] = self._factor * (contexts[:, head] @ matrix[:, head].T)

    def _norm(self, norm: nn.Module) -> None:
        if isinstance(norm, nn.Identity):
            return
        bias = getattr(norm, "bias", None)
        if isinstance(bias, Tensor):
            read = self._factor * (self._matrix @ double(bias))
            self._norm_biases = read if self._norm_biases is None else self._norm_biases + read
        self._matrix = centred(norm, self._matrix)
        self._factor = self._factor * self._kept(norm, "rstd")[:, None]

    # --- the start --------------------------------------------------------------------------------

    def _start(self, stream: Stream) -> None:
        start, prefix = stream.start, stream.prefix
        if isinstance(start, TokenEmbedding):
            self._norm(start.norm)
        whole = self._kept(start.norm if isinstance(start, TokenEmbedding) else stream.stack, "given")
        if start is None:
            self._part(f"{prefix}input", whole)
            return
        positions = None if start.positions is None else self._kept(start.positions, "added")
        left = whole if positions is None else whole - positions
        if isinstance(start, TokenEmbedding):
            tokens = left if start.segments is None else self._kept(start.tokens, "made") * start.scale
            self._part(f"{prefix}tokens", tokens)
            if start.segments is not None:
                self._part(f"{prefix}segments", left - tokens)
        elif isinstance(start, VisionEncoder):
            first = (self._rows == 0).double()[:, None]
            self._part("patches", left * (1 - first))
            self._part("first vector", left * first)
        else:
            self._part("frames", left)
        if positions is not None:
            self._part(f"{prefix}positions", positions)

    def _part(self, name: str, vectors: Tensor) -> None:
        """Reads what was written [n,C]."""
        self._read[name] = self._factor * (vectors @ self._matrix.T)

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
            f"residual: a projection of this model is a {type(layer).__name__} without a floating weight. "
            "Trace the model before it is quantised."
        )
    return double(weight)
