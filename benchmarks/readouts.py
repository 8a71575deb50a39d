"""Readouts as shares of the forward time, against eager PyTorch, which needs the whole matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

import sightline
from benchmarks.timing import take_turns

SETS: dict[str, dict[str, Any]] = {
    "received": {"names": ("received",)},
    "entropy": {"names": ("entropy",)},
    "received + entropy": {"names": ("received", "entropy")},
    "received + entropy + top-8": {"names": ("received", "entropy"), "topk": 8},
    "max": {"names": ("max",)},
}


def rows(rounds: int, budget: float) -> Iterator[dict[str, Any]]:
    """One row per size and set of readouts."""
    for n in (1024, 4096):
        for causal in (False, True):
            query, key, value = (torch.randn(1, 8, n, 64) for _ in range(3))
            mask = sightline.causal() if causal else None
            _, A = sightline.attention(query, key, value, mask=mask, return_matrix=True)

            def forward(q=query, k=key, v=value, m=mask) -> object:  # type: ignore[no-untyped-def]
                return sightline.attention(q, k, v, mask=m)

            def eager(q=query, k=key, c=causal) -> object:  # type: ignore[no-untyped-def]
                scores = q @ k.mT / q.shape[-1] ** 0.5
                if c:
                    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
                    scores = scores.masked_fill(hidden, -torch.inf)
                weights = scores.softmax(-1)
                entropy = torch.special.entr(weights).sum(-1)
                return weights.sum(-2), entropy, weights.topk(8)

            contenders: dict[str, Any] = {"forward": forward, "eager": eager}
            for name, asked in SETS.items():
                names, options = asked["names"], {k: v for k, v in asked.items() if k != "names"}
                contenders[name] = lambda A=A, n=names, o=options: A.readouts(*n, **o)
            found = take_turns(contenders, rounds, budget)
            for name in SETS:
                yield {
                    "case": f"(1,8,{n},64) {'causal' if causal else 'full'}",
                    "readouts": name,
                    "ms": found[name].median * 1e3,
                    "spread": found[name].spread,
                    "share of forward": 1 / found[name].over(found["forward"]),
                    "times eager": found[name].over(found["eager"]),
                }
