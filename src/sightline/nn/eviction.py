"""Rules that keep a cache bounded while a sequence grows: which keys go, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, get_args

from torch import Tensor

from sightline.common.check import choice, flag, integer
from sightline.nn.key_scores import ScoreKind
from sightline.nn.kv_cache import KVCache
from sightline.nn.scores import Pool, pooled


class EvictionRule(Protocol):
    """What generation asks after each step, once for the cache of every layer.

    Another rule is a class with these. ``window`` is read with ``scores="window"``.

    Example:
        >>> import torch
        >>> from sightline.nn import KVCache
        >>> class OnlyTheLast:
        ...     scores, window = None, 1
        ...     def __call__(self, cache, prompt):
        ...         cache.evict(torch.zeros(1, 1, 1), 16, sinks=4)
        >>> cache = KVCache()
        >>> _ = cache.append(*torch.randn(2, 1, 2, 20, 8))
        >>> OnlyTheLast()(cache, prompt=True)
        >>> cache.positions[0, 0].tolist()
        [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    """

    @property
    def scores(self) -> ScoreKind | None:
        """Which scores the caches are to keep."""

    @property
    def window(self) -> int:
        """How many queries "window" means."""

    def __call__(self, cache: KVCache, prompt: bool) -> None:
        """Evicts what is to go; ``prompt``: the step was the prompt."""


@dataclass(frozen=True)
class HeavyHitters:
    """H2O: after each step, the keys that received most so far stay, and the last ones.

    Args:
        keep: how many keys stay, per layer and key/value head.
        recent: so many of them are the last ones. Default: half, or what the sinks leave.
        sinks: so many are the first of the text. Default: 0.
        slack: evict only when more than keep + slack keys are there, since each eviction copies what is left.
            Default: 0, after every step, as in the paper.

    Raises:
        ValueError: for numbers out of range; TypeError: for what is no integer.

    Source: Zhang et al. 2023, "H2O: Heavy-hitter oracle for efficient generative inference of large language
    models".

    Example:
        >>> import torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> from sightline.nn import HeavyHitters
        >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50))
        >>> model.generate(torch.randint(50, (1, 30)), new_tokens=5, evict=HeavyHitters(keep=8)).tokens.shape
        torch.Size([1, 5])
    """

    keep: int
    recent: int | None = None
    sinks: int = 0
    slack: int = 0

    scores = "received"
    window = 32

    def __post_init__(self) -> None:
        _check(self.keep, self._recent, self.sinks, self.slack)

    @property
    def _recent(self) -> int:
        """How many of the last keys stay."""
        if self.recent is not None:
            return integer("recent", self.recent, 0)
        keep, sinks = integer("keep", self.keep, 1), integer("sinks", self.sinks, 0)
        return max(0, min(keep // 2, keep - sinks))

    def __call__(self, cache: KVCache, prompt: bool) -> None:
        """After each step."""
        if len(cache) > self.keep + self.slack:
            cache.evict(None, self.keep, recent=self._recent, sinks=self.sinks)


@dataclass(frozen=True)
class LastQuery:
    """TOVA: after each step, the keys that the last query gave most stay.

    Args:
        keep: how many keys stay, per layer and key/value head.
        together: whether all heads of a layer keep the same keys, by the mean over them, as in the paper.
            Default: True.
        recent, sinks, slack: as for :class:`HeavyHitters`, of which the paper has none. Default: 0.

    Raises:
        ValueError: for numbers out of range; TypeError: for what is no integer.

    Source: Oren et al. 2024, "Transformers are multi-state RNNs".

    Example:
        >>> import torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> from sightline.nn import LastQuery
        >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50))
        >>> model.generate(torch.randint(50, (1, 30)), new_tokens=5, evict=LastQuery(keep=8)).tokens.shape
        torch.Size([1, 5])
    """

    keep: int
    together: bool = True
    recent: int = 0
    sinks: int = 0
    slack: int = 0

    scores = "last"
    window = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "together", flag("together", self.together))
        _check(self.keep, self.recent, self.sinks, self.slack)

    def __call__(self, cache: KVCache, prompt: bool) -> None:
        """After each step."""
        if len(cache) > self.keep + self.slack:
            cache.evict(_scores(cache, self.together), self.keep, recent=self.recent, sinks=self.sinks)


@dataclass(frozen=True)
class SnapKV:
    """SnapKV: after the prompt, the keys that its last queries gave most stay; what is written then stays.

    Args:
        keep: how many of the prompt's keys stay, per layer and key/value head, the window included.
        window: how many queries of the prompt's end say what matters. Default: 32.
        kernel: over how many neighbouring keys scores are smoothed; odd, 1 for not at all. Default: 5.
        pool: how, "mean" or "max". Default: "mean".
        sinks: so many of the first keys stay. Default: 0.

    Raises:
        ValueError: for numbers out of range, or a window that is more than ``keep``; TypeError: for what is
            no integer.

    Source: Li et al. 2024, "SnapKV: LLM knows what you are looking for before generation".

    Example:
        >>> import torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> from sightline.nn import SnapKV
        >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50))
        >>> rule = SnapKV(keep=16, window=8)
        >>> model.generate(torch.randint(50, (1, 30)), new_tokens=5, evict=rule).tokens.shape
        torch.Size([1, 5])
    """

    keep: int
    window: int = 32
    kernel: int = 5
    pool: Pool = "mean"
    sinks: int = 0

    scores = "window"

    def __post_init__(self) -> None:
        integer("window", self.window, 1)
        _check(self.keep, self.window, self.sinks, 0, recent_name="window")
        if integer("kernel", self.kernel, 1) % 2 == 0:
            raise ValueError(f"kernel: must be odd, so that it has a middle, got {self.kernel}.")
        choice("pool", self.pool, get_args(Pool))

    def __call__(self, cache: KVCache, prompt: bool) -> None:
        """After the prompt."""
        if prompt and len(cache) > self.keep:
            cache.evict(pooled(cache.scores, self.kernel, self.pool), self.keep, sinks=self.sinks)


def _scores(cache: KVCache, together: bool) -> Tensor:
    return cache.scores.mean(1, keepdim=True) if together else cache.scores


def _check(keep: int, recent: int, sinks: int, slack: int, recent_name: str = "recent") -> None:
    integer("keep", keep, 1)
    integer("slack", slack, 0)
    if integer(recent_name, recent, 0) + integer("sinks", sinks, 0) > keep:
        raise ValueError(
            f"keep: {keep} keys are fewer than {recent_name}={recent} and sinks={sinks} together. Keep more."
        )
