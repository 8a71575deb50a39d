"""A model in the middle of writing: what it has read, and what it keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sightline.models.decoder import Decoder
    from sightline.models.encoder_decoder import EncoderDecoder

_WORTH = 0.75


class Memory(NamedTuple):
    """What a decoder looks at: [B,M,C], the lengths of the entries, if they differ, and their ids [B,M]."""

    states: Tensor
    lengths: Tensor | None
    source: Tensor


def worth_leaving(going: int, entries: int) -> bool:
    """Whether the entries that are over should leave the batch: that copies what is kept of the others."""
    return going <= _WORTH * entries


class Running:
    """A decoder that is given tokens and says what it makes of the next one.

    Args:
        model: the model.
        read: makes the memory, if there is one, when writing begins.
    """

    def __init__(self, model: Decoder | EncoderDecoder, read: Callable[[], Memory] | None = None) -> None:
        self.model = model
        self._read = read
        self._cache = model.make_cache()
        self._memory: Memory | None = None

    def step(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """ids [B,n], of which ``lengths`` count → ln p [B,V] of the next token; ``pad`` is never one."""
        if self._read is not None and self._memory is None:
            self._memory = self._read()
        logits = self.model.step(ids, self._cache, lengths, self._memory)  # type: ignore[arg-type]
        logits = logits.float()
        config = self.model.config
        if config.pad is not None and config.pad != config.end:
            logits[:, config.pad] = -torch.inf
        return logits.log_softmax(-1)

    def repeat(self, times: int) -> None:
        """Every entry becomes ``times`` entries next to each other."""
        batch = self._cache.self_attention[0].key.shape[0]
        self.reorder(torch.arange(batch).repeat_interleave(times))

    def reorder(self, indices: Tensor, *, memory: bool = True) -> None:
        """Entry i becomes what entry ``indices[i]`` was; those that are not named leave the batch.

        Args:
            indices: [B'] integers.
            memory: False where entries change places only with others of the same memory, which then stays.
        """
        self._cache.reorder(indices, memory=memory)
        if memory and self._memory is not None:
            states, lengths, source = self._memory
            if (
                self.model.config.copying
            ):  # else its keys and values are in the cache, and it is no longer read
                states, source = states[indices], source[indices]
            self._memory = Memory(states, None if lengths is None else lengths[indices], source)
