"""The streams of our models, from what was recorded of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.attribution.frozen import double, reciprocal_std
from sightline.attribution.lens.stream import Stage, WordStream, all_words, normed, through
from sightline.attribution.recorder import ResidualRecorder
from sightline.attribution.stream import Stream, streams
from sightline.attribution.walk import Walk, weight_of
from sightline.models import Decoder, Encoder, EncoderDecoder, Model
from sightline.models.embedding import TokenEmbedding
from sightline.models.heads import ClassificationHead, MaskedTokenHead, PositionHead, TokenHead
from sightline.nn.feed_forward import ACTIVATIONS
from sightline.nn.projections import Projections
from sightline.nn.transformer_block import TransformerBlock

_MEAN = "The logit of a label is the mean over all tokens of what each says by itself."
_FIRST = "The model reads the vector of its first token alone; others are read as that one is."
COPYING = "Words that are copied from the source are not in it: it is what the decoder would write by itself."
_TRANSFORM = (
    "the head of a masked-token model is not linear (a layer with an activation stands before its output "
    "matrix), so that a logit is no sum over parts"
)
_CLOSE = 1e-4  # of the deviation that the model found and that of what was recorded


def word_models(modules: dict[str, nn.Module]) -> dict[str, Model]:
    """The models among the modules that end in words, or in labels by a matrix alone, by name."""
    return {
        name: module
        for name, module in modules.items()
        if isinstance(module, (Decoder, EncoderDecoder))
        or (isinstance(module, Encoder) and _ends(module.head))
    }


def _ends(head: nn.Module | None) -> bool:
    """Whether vectors can be read through a head: a pooler's tanh would mix what several of them say."""
    if isinstance(head, ClassificationHead):
        return head.pooler is None
    return isinstance(head, (MaskedTokenHead, PositionHead))


class OwnStream(WordStream):
    """The stream of a model of :mod:`sightline.models`, rebuilt in float64 from what was recorded.

    Args:
        recorder: what was recorded.
        model: which model.
    """

    def __init__(self, recorder: ResidualRecorder, model: Model) -> None:
        self._recorder = recorder
        self._stream = _stream_of(model)
        assert isinstance(model, (Decoder, Encoder, EncoderDecoder))
        assert isinstance(self._stream.start, TokenEmbedding)
        self._start = self._stream.start
        self._masked = model.head if isinstance(model.head, MaskedTokenHead) else None
        self._weight, self._bias = _matrix(model.head, self._start.tokens.weight)
        if isinstance(model.head, (ClassificationHead, PositionHead)):
            self.reads = "labels"
        self.stages = tuple(_stages(self._stream))
        given = recorder.kept(self._start.norm, "given")
        self.size = (given.shape[0], given.shape[1])
        self.vocabulary, self.width = self._weight.shape
        self.calls = {
            name: (place.layer, "head" if place.kind == "self" else "cross head")
            for name, place in recorder.places.items()
            if place.stream.stack is self._stream.stack
        }
        self.why_no_parts = None if self._masked is None else _TRANSFORM
        self.note = _note(model)

    def states(self, batch: int, rows: Tensor) -> Tensor:
        """[S,n,C] float64: the stream of positions [n] at each stage.

        Raises:
            ValueError: where the model ran otherwise than its layers say.
        """
        x = normed(self._start.norm, self._kept(self._start.norm, "given", batch, rows))
        states = [x]
        for block in self._stream.blocks:
            for attention, norm in _attentions(block):
                context = self._kept(attention.output, "given", batch, rows)
                bias = attention.output.bias
                added = context @ weight_of(attention.output).T
                x = self._joined(block, x, added if bias is None else added + double(bias), norm)
                states.append(x)
            added = self._kept(block.feed_forward, "made", batch, rows)
            self._check(block, x + added, batch, rows)
            x = self._joined(block, x, added, block.feed_forward_norm)
            states.append(x)
        return torch.stack(states)

    def logits(self, states: Tensor) -> Tensor:
        """Vectors of the stream [...,C] → logits [...,V], through the final norm and the output matrix."""
        x, head = normed(self._stream.stack.norm, states), self._masked
        if head is not None:
            bias = head.transform.bias
            x = x @ weight_of(head.transform).T + (0 if bias is None else double(bias))
            x = normed(head.norm, ACTIVATIONS[head.activation](x))
        return through(x, self._weight, self._bias)

    def parts(self, batch: int, rows: Tensor, words: Tensor) -> dict[str, Tensor]:
        """What each part brings to the logits of words [d] at positions [n], by its name: [n,d]."""
        some = all_words(words)
        weight = double(self._weight[some.to(self._weight.device)])
        read = Walk(self._recorder, batch, rows, weight).end(self._stream)
        parts = {name.removeprefix(self._stream.prefix): values for name, values in read.items()}
        if self._bias is not None:
            parts[f"{self.reads[:-1]} bias"] = double(self._bias)[some].expand(len(rows), -1)
        return parts

    @staticmethod
    def _joined(block: TransformerBlock, x: Tensor, added: Tensor, norm: nn.Module) -> Tensor:
        """The stream after something was added to it."""
        return x + added if block.norm_first else normed(norm, x + added)

    def _kept(self, module: nn.Module, what: str, batch: int, rows: Tensor) -> Tensor:
        recorded = self._recorder.kept(module, what)[batch]
        return double(recorded[rows.to(recorded.device)])

    def _check(self, block: TransformerBlock, x: Tensor, batch: int, rows: Tensor) -> None:
        """Compares a norm's deviation with the one that the model found, at the end of the stream."""
        if block is not self._stream.blocks[-1]:
            return
        norm = self._stream.stack.norm if block.norm_first else block.feed_forward_norm
        found, here = self._kept(norm, "rstd", batch, rows), reciprocal_std(norm, x)
        allowed = max(_CLOSE, 64 * self._recorder.eps)
        if not bool(((found - here).abs() <= allowed * found.abs()).all()):
            raise ValueError(
                "lens: what the layers wrote is not the stream that the model ended in. Weights were changed "
                "after the trace, or layers were replaced or hooked."
            )


def _matrix(head: nn.Module | None, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
    """The output matrix [V,C] and its bias; ``vectors`` are the embedding's."""
    if isinstance(head, (ClassificationHead, PositionHead)):
        return head.classes.weight, head.classes.bias
    tokens = head.tokens if isinstance(head, MaskedTokenHead) else head
    assert isinstance(tokens, TokenHead)
    return vectors if tokens.weight is None else tokens.weight, tokens.bias


def _note(model: Model) -> str:
    """What to know of all that is read of a model."""
    if isinstance(model, EncoderDecoder):
        return "" if model.copying is None else COPYING
    if isinstance(model, Encoder) and isinstance(model.head, ClassificationHead):
        return _FIRST if model.head.pooling == "first" else _MEAN
    return ""


def _stream_of(model: Model) -> Stream:
    """The stream that ends in words."""
    return streams({"": model})[-1]


def _attentions(block: TransformerBlock) -> list[tuple[Projections, nn.Module]]:
    """The attention layers of a block with the norms that belong to them."""
    found: list[tuple[Projections, nn.Module]] = [(block.self_attention, block.self_attention_norm)]
    if block.cross_attention is not None:
        found.append((block.cross_attention, block.cross_attention_norm))
    return found


def _stages(stream: Stream) -> list[Stage]:
    stages = [Stage("embedding", None, "embedding")]
    for layer, block in enumerate(stream.blocks):
        kinds = ["attention", *(["cross-attention"] if block.cross_attention is not None else [])]
        stages += [Stage(f"layer {layer} {kind}", layer, kind) for kind in (*kinds, "feed-forward")]
    return stages
