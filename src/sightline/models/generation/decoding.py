"""A model while it writes: what it has read, and what it keeps of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sightline.models.config import GenerativeConfig
from sightline.nn.decoder_cache import DecoderCache
from sightline.nn.eviction import EvictionRule

_WORTH = 0.75


class Memory(NamedTuple):
    """What a decoder looks at: [B,M,C], the lengths of the entries, if they differ, and their ids [B,M]."""

    states: Tensor
    lengths: Tensor | None
    source: Tensor


class GenerativeModel(Protocol):
    """What generation asks of a model."""

    @property
    def config(self) -> GenerativeConfig:
        """Its configuration."""
        ...

    def make_cache(self) -> DecoderCache:
        """An empty cache."""
        ...

    def step(self, ids: Tensor, cache: DecoderCache, lengths: Tensor | None, memory: Memory | None) -> Tensor:
        """Logits [B,V] after the last token of each entry; the cache then holds ids [B,n] as well."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """The model and all modules in it."""
        ...

    def eval(self) -> object:
        """Switches dropout off."""
        ...


def worth_leaving(going: int, entries: int) -> bool:
    """Whether finished entries should leave the batch, which copies what is kept of the others."""
    return going <= _WORTH * entries


class Decoding:
    """A decoder that takes tokens and gives the log-probabilities of the next one.

    Args:
        model: the model.
        read: makes the memory, if there is one, when writing begins.
        read_again: whether each step reads the memory itself, and not only its keys and values in the cache.
    """

    def __init__(
        self, model: GenerativeModel, read: Callable[[], Memory] | None = None, *, read_again: bool = False
    ) -> None:
        self.model = model
        self._read, self._read_again = read, read_again
        self._cache = model.make_cache()
        self._memory: Memory | None = None
        self._rule: EvictionRule | None = None
        self._begun = False

    def evict_by(self, rule: EvictionRule) -> None:
        """From the first step on, the rule says after each step which keys go."""
        for cache in self._cache.self_attention:
            cache.keep_scores(rule.scores, rule.window)
        self._rule = rule

    def step(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """ids [B,n], of which ``lengths`` count → ln p [B,V] of the next token; ``pad`` is never one."""
        if self._read is not None and self._memory is None:
            self._memory = self._read()
        logits = self.model.step(ids, self._cache, lengths, self._memory).float()
        if self._rule is not None:
            for cache in self._cache.self_attention:
                self._rule(cache, not self._begun)
        self._begun = True
        config = self.model.config
        if config.pad is not None and config.pad != config.end:
            logits[:, config.pad] = -torch.inf
        return logits.log_softmax(-1)

    def repeat(self, times: int) -> None:
        """Every entry becomes ``times`` entries next to each other."""
        batch = self._cache.self_attention[0].key.shape[0]
        self.reorder(torch.arange(batch).repeat_interleave(times))

    def reorder(self, indices: Tensor, *, memory: bool = True) -> None:
        """Entry i becomes what entry ``indices[i]`` was; those not named leave the batch.

        Args:
            indices: [B'] integers.
            memory: False where entries change places only with others of the same memory, which then stays.
        """
        self._cache.reorder(indices, memory=memory)
        if memory and self._memory is not None:
            states, lengths, source = self._memory
            if self._read_again:
                states, source = states[indices], source[indices]
            self._memory = Memory(states, None if lengths is None else lengths[indices], source)
