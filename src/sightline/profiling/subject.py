"""The model that is profiled: how it is called, and what its attention calls are called."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sightline.profiling.batches import Batch, Side
from sightline.profiling.tally import Call
from sightline.tracing.call import AttentionCall

#: Calls a model with ids [B,N] and, where some are padding, a bool mask [B,N], else ``None``.
Runner = Callable[[Tensor, Tensor | None], object]


class Subject:
    """A model and what is known about it.

    Args:
        model: any PyTorch model.
        run: how it is called; by default as models of Transformers are.
    """

    def __init__(self, model: nn.Module, run: Runner | None = None) -> None:
        self.model, self._run = model, run
        names = {id(module): name for name, module in model.named_modules()}
        self._places = {name: place for place, name in enumerate(names.values())}
        config = getattr(model, "config", None)
        self.two_sided = bool(getattr(config, "is_encoder_decoder", False)) and run is None
        find: Any = getattr(model, "get_decoder", None)
        decoder = find() if self.two_sided and find is not None else None
        self._decoder = names.get(id(decoder), "decoder") + "."
        self._options = {"use_cache": False} if hasattr(config, "use_cache") else {}

    def __call__(self, batch: Batch) -> None:
        """Runs the model over a batch."""
        with torch.no_grad():
            if self._run is not None:
                ids, real = batch.source
                self._run(ids, None if bool(real.all()) else real)
            elif batch.target is None:
                ids, real = batch.source
                self.model(input_ids=ids, attention_mask=real.long(), **self._options)
            else:
                self.model(
                    input_ids=batch.source.ids,
                    attention_mask=batch.source.real.long(),
                    decoder_input_ids=batch.target.ids,
                    decoder_attention_mask=batch.target.real.long(),
                    **self._options,
                )

    def named(self, call: AttentionCall, turns: Counter[tuple[str, str]]) -> Call:
        """Which call of the model this is; ``turns`` counts those of one pass."""
        turn = turns[call.name, call.kind]
        turns[call.name, call.kind] += 1
        return Call(self._places.get(call.name, len(self._places)), call.name, call.kind, turn)

    def queries(self, call: AttentionCall, batch: Batch) -> Side:
        """The tokens that look in this call."""
        if batch.target is not None and (call.kind == "cross" or call.name.startswith(self._decoder)):
            return batch.target
        return batch.source

    def identity(self) -> dict[str, Any]:
        """What says whether it is the same model: its class, size and a sum over all of its weights' bits."""
        digest = hashlib.sha256()
        count = 0
        for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]:
            count += tensor.numel()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {_bits(tensor)}\n".encode())
        return {"class": type(self.model).__name__, "numbers": count, "sha256": digest.hexdigest()[:32]}


_AS_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _bits(tensor: Tensor) -> int:
    plain = tensor.detach().contiguous()
    if plain.is_complex():
        plain = torch.view_as_real(plain)
    return int(plain.view(_AS_INTEGERS[plain.element_size()]).sum(dtype=torch.int64))
