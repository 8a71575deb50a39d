"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.common.check import integer, kind, number


@dataclass(frozen=True)
class NextToken:
    """The likeliest token, or one that is drawn: with a temperature, and among the likeliest only.

    Raises:
        ValueError: for numbers out of range, or a top_k or top_p without a temperature.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        number("temperature", self.temperature, 0, remedy="0 takes the likeliest token.")
        if self.top_k is not None:
            integer("top_k", self.top_k, 1)
        if self.top_p is not None and not 0 < number("top_p", self.top_p) <= 1:
            raise ValueError(f"top_p: must lie above 0 and at most at 1, got {self.top_p}.")
        if self.generator is not None:
            kind("generator", self.generator, torch.Generator, "a torch.Generator")
        if not self.temperature and (self.top_k is not None or self.top_p is not None):
            raise ValueError("temperature: top_k and top_p need one above 0, since 0 draws nothing.")

    def __call__(self, logits: Tensor) -> Tensor:
        """logits [B,V] → tokens [B]."""
        if not self.temperature:
            return logits.argmax(-1)
        return torch.multinomial(self.probabilities(logits), 1, generator=self.generator)[:, 0]

    def probabilities(self, logits: Tensor) -> Tensor:
        """logits [B,V] → what is drawn from, [B,V]: temperature first, then top_k, then top_p."""
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p is not None:
            ordered, order = logits.softmax(-1).sort(-1, descending=True)
            before = ordered.cumsum(-1) - ordered  # what likelier tokens have together
            dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= self.top_p)
            logits = logits.masked_fill(dropped, -torch.inf)
        return logits.softmax(-1)
