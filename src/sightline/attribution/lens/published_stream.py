"""The streams of models of Transformers, read from what was recorded of them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attribution.frozen import double
from sightline.attribution.lens.published import PublishedRecorder
from sightline.attribution.lens.stream import Stage, WordStream, all_words, through

_NOT_LINEAR = "layers with an activation stand before its output matrix, so that a logit is no sum over parts"


class PublishedStream(WordStream):
    """The stream of a model of Transformers.

    Args:
        recorder: what was recorded.
    """

    def __init__(self, recorder: PublishedRecorder) -> None:
        self._recorder = recorder
        start = recorder.kept("start")
        self.size = (start.shape[0], start.shape[1])
        self.vocabulary, self.width = recorder.weight.shape
        self.calls = {name: (layer, "head") for name, layer in recorder.attentions.items()}
        self.stages = tuple(self._stages())
        if recorder.head is not None:
            self.why_no_parts = _NOT_LINEAR
        elif not recorder.adds:
            self.why_no_parts = (
                f"the blocks of this {type(recorder.model).__name__} do more than add what their heads and "
                "their feed-forward layer wrote"
            )
        self._norm = None if recorder.norm is None else copy.deepcopy(recorder.norm).cpu().double()
        self._checked = False

    def _stages(self) -> list[Stage]:
        stages = [Stage("embedding", None, "embedding")]
        for layer in range(len(self._recorder.blocks)):
            kinds = ("attention", "feed-forward") if self._recorder.adds else ("layer",)
            stages += [
                Stage(f"layer {layer} {kind}" if kind != "layer" else f"layer {layer}", layer, kind)
                for kind in kinds
            ]
        return stages

    def states(self, batch: int, rows: Tensor) -> Tensor:
        """[S,n,C] float64: the stream of positions [n] at each stage."""
        self._check()
        x = self._kept("start", 0, batch, rows)
        states = [x]
        for layer in range(len(self._recorder.blocks)):
            if self._recorder.adds:
                weight, bias = self._recorder.projection(layer)
                added = self._kept("context", layer, batch, rows) @ weight.T
                states.append(x + (added if bias is None else added + bias))
            x = self._kept("stream", layer, batch, rows)
            states.append(x)
        return torch.stack(states)

    def logits(self, states: Tensor) -> Tensor:
        """Vectors of the stream [...,C] → logits [...,V], through the final norm and the output matrix."""
        recorder = self._recorder
        if recorder.head is not None:
            head: Any = recorder.head
            with torch.no_grad():
                given = states.to(recorder.weight.device, recorder.weight.dtype)
                logits: Tensor = head(given)
            return double(logits)
        return through(self._normed(states), recorder.weight, recorder.bias)

    def parts(self, batch: int, rows: Tensor, words: Tensor) -> dict[str, Tensor]:
        """What each part brings to the logits of words [d] at positions [n], by its name: [n,d]."""
        recorder, some = self._recorder, all_words(words)
        end = self._kept("stream", len(recorder.blocks) - 1, batch, rows)
        weight, factor, shift = self._frozen(double(recorder.weight[some.to(recorder.weight.device)]), end)
        x = self._kept("start", 0, batch, rows)
        parts = {"embedding": factor * (x @ weight.T)}
        for layer in range(len(recorder.blocks)):
            output, bias = recorder.projection(layer)
            contexts = self._kept("context", layer, batch, rows)
            by_head = (weight @ output).unflatten(-1, (recorder.heads, -1))  # [d,H,D]
            contexts_by_head = contexts.unflatten(-1, (recorder.heads, -1))  # [n,H,D]
            for head in range(recorder.heads):
                read = contexts_by_head[:, head] @ by_head[:, head].T
                parts[f"layer {layer} head {head}"] = factor * read
            added = contexts @ output.T
            if bias is not None:
                parts[f"layer {layer} output bias"] = factor * (weight @ bias)
                added = added + bias
            after = self._kept("stream", layer, batch, rows)
            parts[f"layer {layer} feed-forward"] = factor * ((after - x - added) @ weight.T)
            x = after
        if shift is not None:
            parts["norm biases"] = shift.expand(len(rows), -1)
        if recorder.bias is not None:
            parts["word bias"] = double(recorder.bias)[some].expand(len(rows), -1)
        return parts

    def _frozen(self, weight: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """weight [d,C] behind the final norm as (in front of it, a factor [n,1], what its bias adds [d])."""
        norm: Any = self._norm
        if norm is None:
            return weight, end.new_ones(len(end), 1), None
        eps = float(getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", None) or 0.0)
        if isinstance(norm, nn.LayerNorm):
            scaled = weight if norm.weight is None else weight * double(norm.weight)
            factor = (end.var(-1, correction=0, keepdim=True) + eps).rsqrt()
            return (
                scaled - scaled.mean(-1, keepdim=True),
                factor,
                None if norm.bias is None else weight @ double(norm.bias),
            )
        # Of an RMS norm, whatever it makes of its weight (Gemma adds 1), ones have a root mean square of 1.
        with torch.no_grad():
            gain = norm(torch.ones(1, weight.shape[1], dtype=torch.float64))[0].double() * (1 + eps) ** 0.5
        return weight * gain, (end.square().mean(-1, keepdim=True) + eps).rsqrt(), None

    def _normed(self, x: Tensor) -> Tensor:
        if self._norm is None:
            return x
        with torch.no_grad():
            y: Tensor = self._norm(x)
        return y.double()

    def _check(self) -> None:
        """Compares the end of the stream with what the model gave its output matrix."""
        last, recorder = self._recorder.last, self._recorder
        if self._checked or last is None or recorder.head is not None:
            return
        end = double(recorder.kept("stream", len(recorder.blocks) - 1)[:, -1])
        difference = (self._normed(end) - double(last)).abs().amax()
        if not bool(difference <= 64 * max(recorder.eps, 1e-6) * double(last).abs().amax().clamp_min(1)):
            raise ValueError(
                "lens: what lies between the last block of this model and its output matrix is more than a "
                "norm. sightline.models.from_huggingface(model) may know it."
            )
        self._checked = True

    def _kept(self, what: str, layer: int, batch: int, rows: Tensor) -> Tensor:
        recorded = self._recorder.kept(what, layer)[batch]
        return double(recorded[rows.to(recorded.device)])
