"""The model that is profiled: how it is called, and how its attention calls are identified."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sightline.common.devices import device_of
from sightline.common.errors import CommandError
from sightline.profiling.batches import Batch, PaddedIds
from sightline.profiling.tally import CallKey
from sightline.tracing.call import AttentionCall

#: Calls a model with ids [B,N] and, where some are padding, a bool mask [B,N], True at real tokens.
ModelCall = Callable[[Tensor, Tensor | None], object]


class ProfiledModel:
    """A model, with what a profile needs to know about it.

    Args:
        module: any PyTorch model.
        name: what to call it.
        tokenizer: for texts; ``None`` where documents are ids.
        limit: the most tokens that it takes; ``None`` for no limit.
        run: how to call it; by default as Transformers' models are called.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        tokenizer: Any = None,
        limit: int | None = None,
        run: ModelCall | None = None,
    ) -> None:
        self.module, self.name, self.tokenizer, self.limit, self._run = module, name, tokenizer, limit, run
        names = {id(part): path for path, part in module.named_modules()}
        self._places = {path: place for place, path in enumerate(names.values())}
        config = getattr(module, "config", None)
        self.two_sided = bool(getattr(config, "is_encoder_decoder", False)) and run is None
        get_decoder: Callable[[], nn.Module] | None = getattr(module, "get_decoder", None)
        decoder = get_decoder() if self.two_sided and get_decoder is not None else None
        self._decoder = names.get(id(decoder), "decoder") + "."
        self._options = {"use_cache": False} if hasattr(config, "use_cache") else {}

    def __call__(self, batch: Batch) -> None:
        """Runs the model on a batch."""
        batch = batch.to(device_of(self.module))
        with torch.no_grad():
            if self._run is not None:
                ids, real = batch.source
                self._run(ids, None if bool(real.all()) else real)
            elif batch.target is None:
                ids, real = batch.source
                self.module(input_ids=ids, attention_mask=real.long(), **self._options)
            else:
                self.module(
                    input_ids=batch.source.ids,
                    attention_mask=batch.source.real.long(),
                    decoder_input_ids=batch.target.ids,
                    decoder_attention_mask=batch.target.real.long(),
                    **self._options,
                )

    def call_key(self, call: AttentionCall, turns: Counter[tuple[str, str]]) -> CallKey:
        """Identifies a call, the same way in every pass; ``turns`` counts the calls of this pass so far."""
        turn = turns[call.name, call.kind]
        turns[call.name, call.kind] += 1
        return CallKey(self._places.get(call.name, len(self._places)), call.name, call.kind, turn)

    def queries(self, call: AttentionCall, batch: Batch) -> PaddedIds:
        """The tokens whose queries this call computes."""
        if batch.target is not None and (call.kind == "cross" or call.name.startswith(self._decoder)):
            return batch.target
        return batch.source

    def first_target_id(self) -> int:
        """The id with which the decoder's text begins.

        Raises:
            CommandError: if neither configuration nor tokenizer has one.
        """
        for holder, name in (
            (self.module.config, "decoder_start_token_id"),
            (self.tokenizer, "bos_token_id"),
            (self.tokenizer, "pad_token_id"),
        ):
            if isinstance(number := getattr(holder, name, None), int):
                return number
        raise CommandError(f"the model {self.name} does not say with which token its decoder begins")

    @property
    def dtype(self) -> str:
        """The dtype of its weights, without "torch."."""
        return str(next(self.module.parameters()).dtype).removeprefix("torch.")

    def identity(self) -> dict[str, Any]:
        """What tells it from other models: its class, its size and a hash over sums of its weights' bits."""
        digest = hashlib.sha256()
        count = 0
        for name, tensor in [*self.module.named_parameters(), *self.module.named_buffers()]:
            count += tensor.numel()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {_bits(tensor)}\n".encode())
        return {"class": type(self.module).__name__, "numbers": count, "sha256": digest.hexdigest()[:32]}


_AS_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _bits(tensor: Tensor) -> int:
    """The sum of a tensor's entries, each read as an integer of its size."""
    plain = tensor.detach().contiguous()
    if plain.is_complex():
        plain = torch.view_as_real(plain)
    return int(plain.view(_AS_INTEGERS[plain.element_size()]).sum(dtype=torch.int64))
