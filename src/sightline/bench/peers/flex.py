"""FlexAttention, compiled for the CPU."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from sightline.bench.case import Case, Inputs
from sightline.bench.pattern import FULL, LengthsPattern
from sightline.bench.peers.peer import Peer, PreparedCase
from sightline.bench.peers.torch_run import torch_run


class Flex(Peer):
    """``torch.compile(flex_attention)`` with static shapes; patterns as a block mask, made before timing."""

    title = "FlexAttention"

    def why_not(self, case: Case) -> str:
        if case.direction == "backward":
            return "no backward pass on the CPU"
        return "its masks are functions, not tensors" if case.form != "best" else ""

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        # Compilers in other processes might still be busy when the next contender is timed.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        from torch.nn.attention.flex_attention import flex_attention

        compiled: Any = torch.compile(flex_attention, dynamic=False)
        mask = None if case.pattern == FULL else _block_mask(case)
        score_mod = None if given.bias is None else _score_mod(given.bias)
        grouped = case.groups != case.heads

        def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
            context: Tensor = compiled(
                query, key, value, score_mod=score_mod, block_mask=mask, enable_gqa=grouped
            )
            return context

        return torch_run(case, given, attend)

    def forget(self) -> None:
        # Compiled code stays on disk; the limit on variants of one function must not be reached.
        torch._dynamo.reset()


def _block_mask(case: Case) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    pattern = case.pattern
    if isinstance(pattern, LengthsPattern):
        kept = torch.tensor(pattern.kept)

        def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return key < kept[batch]
    else:

        def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return pattern.sees(batch, query, key)

    batch = case.batch if pattern.by_batch else None
    return create_block_mask(sees, batch, None, case.queries, case.length, device="cpu")


def _score_mod(bias: Tensor) -> Any:
    def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + bias[0, head, query, key]

    return biased
