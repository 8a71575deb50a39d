"""The streams of models of Transformers: what is recorded of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from sightline.attribution.frozen import double
from sightline.attribution.lens.found import (
    attentions_of,
    blocks_of,
    feed_forward_of,
    heads_of,
    is_norm,
    not_understood,
    output_matrix,
    output_of,
)
from sightline.tracing.aside import observing


class PublishedRecorder:
    """Listens to the blocks of a model of Transformers that writes words.

    Of each position it keeps the stream in front of the blocks and behind each, and the contexts of each
    attention layer before its output projection.

    Args:
        model: the model with its head.

    Raises:
        ValueError: for a model without an output matrix, or with one that is not understood.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        names = {id(module): name for name, module in model.named_modules()}
        matrix = output_matrix(model)
        self.weight, self.bias = matrix.weight, getattr(matrix, "bias", None)
        holder, self.blocks = blocks_of(model)
        self.heads = int(model.config.num_attention_heads)
        #: What lies between the last block and the logits, where it is more than a norm and the matrix.
        self.head = next((each for each in heads_of(model) if each is not matrix), None)
        if self.head is None and type(model).__name__.endswith("ForMaskedLM"):
            raise ValueError(not_understood(model, "the layers in front of its output matrix"))
        norms = [each for each in holder.children() if is_norm(each)]
        self.norm: nn.Module | None = None
        self._matrix, self._norms = matrix, {id(each) for each in norms}
        self._dropouts = {id(each) for each in model.modules() if isinstance(each, nn.Dropout)}
        self._projections = {id(each): at for at, each in enumerate(map(output_of, self.blocks)) if each}
        self._feed_forwards = {
            id(each): at for at, each in enumerate(map(feed_forward_of, self.blocks)) if each
        }
        #: The names of attention modules, and the blocks that they are in.
        self.attentions = {
            f"{names[id(block)]}.{name}": at
            for at, block in enumerate(self.blocks)
            for name in attentions_of(block)
        }
        self._places = {id(block): at for at, block in enumerate(self.blocks)}
        #: Whether each block does nothing but add what its heads and its feed-forward layer wrote.
        self.adds = len(self._projections) == len(self._feed_forwards) == len(self.blocks)
        self.reason: str | None = None
        self.eps = 0.0
        self.last: Tensor | None = None  # [B,C], the output matrix's last input
        self._chunks: dict[tuple[str, int], list[Tensor]] = {}
        self._given: dict[int, Tensor] = {}
        self._written: dict[tuple[str, int], Tensor] = {}

    def kept(self, what: str, layer: int = 0) -> Tensor:
        """[B,N,C] of what was recorded: "start", "stream" behind a layer, "context" of its attention.

        Raises:
            ValueError: where nothing was, or batches of several sizes.
        """
        chunks = self._chunks.get((what, layer), [])
        if self.reason is not None:
            raise ValueError(f"lens: what was written is not known: {self.reason}.")
        if not chunks:
            raise ValueError("lens: the model did not run in this block.")
        if len({chunk.shape[0] for chunk in chunks}) > 1:
            raise ValueError(
                "lens: the model ran with batches of several sizes in this block. Trace each run by itself."
            )
        if len(chunks) > 1:
            chunks[:] = [torch.cat(chunks, 1)]
        return chunks[0]

    def projection(self, layer: int) -> tuple[Tensor, Tensor | None]:
        """Weight [C,H·D] and bias [C] of a layer's output projection."""
        module: Any = output_of(self.blocks[layer])
        weight = module.weight
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            raise TypeError(
                f"lens: a projection of this model is a {type(module).__name__} without a floating weight. "
                "Trace the model before it is quantised."
            )
        transposed = type(module).__name__.endswith("Conv1D")  # Transformers' own, of GPT-2
        bias = getattr(module, "bias", None)
        return double(weight.T if transposed else weight), None if bias is None else double(bias)

    # --- what a trace calls -----------------------------------------------------------------------

    def entered(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module begins to run."""
        known = (self._places, self._projections)
        if any(id(module) in each for each in known) or module is self._matrix:
            given = args[0] if args and isinstance(args[0], Tensor) else None
            if given is None:
                self.reason = f"{type(module).__name__} was given no tensor first"
            else:
                self._given[id(module)] = given
        elif id(module) in self._dropouts and module.training and vars(module).get("p", 0):
            self.reason = "dropout was on, and changed what was written. Call model.eval() before"

    def left(self, module: nn.Module, output: Any) -> None:
        """A module has run; ``output`` is ``None`` where it failed."""
        made = output[0] if isinstance(output, tuple) else output
        if not isinstance(made, Tensor):
            return
        try:
            with observing(), _disable_current_modes():
                self._take(module, made.detach())
        except Exception as error:  # must not become the model's
            self.reason = f"{type(module).__name__} could not be read: {type(error).__name__}: {error}"

    def _take(self, module: nn.Module, made: Tensor) -> None:
        given = self._given.pop(id(module), None)
        if id(module) in self._projections and given is not None:
            at = self._projections[id(module)]
            self._keep("context", at, given.detach())
            self._written["heads", at] = made
        elif id(module) in self._feed_forwards:
            self._written["feed-forward", self._feed_forwards[id(module)]] = made
        elif id(module) in self._places and given is not None:
            self._block(self._places[id(module)], given.detach(), made)
        elif id(module) in self._norms and ("stream", len(self.blocks) - 1) in self._chunks:
            self.norm = module
        elif module is self._matrix and given is not None:
            self.last = given.detach()[:, -1]

    def _block(self, layer: int, given: Tensor, made: Tensor) -> None:
        if layer == 0:
            self._keep("start", 0, given)
        self._keep("stream", layer, made)
        self.eps = max(self.eps, torch.finfo(made.dtype).eps)
        parts = [self._written.pop((what, layer), None) for what in ("heads", "feed-forward")]
        if not self.adds or any(each is None for each in parts):
            self.adds = False
            return
        total = given.double() if given.device.type != "mps" else given.float()
        for part in parts:
            assert part is not None
            total = total + part.reshape(made.shape)
        scale = total.abs().amax().clamp_min(1)
        self.adds = bool((made - total).abs().amax() <= 16 * self.eps * scale)

    def _keep(self, what: str, layer: int, tensor: Tensor) -> None:
        self._chunks.setdefault((what, layer), []).append(tensor)
