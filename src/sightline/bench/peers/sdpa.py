"""PyTorch's fused attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sightline.bench.case import Case, Inputs
from sightline.bench.pattern import FULL, CausalPattern
from sightline.bench.peers.peer import Peer, PreparedCase
from sightline.bench.peers.torch_run import torch_run


class Sdpa(Peer):
    """``F.scaled_dot_product_attention``; ``is_causal``, otherwise a mask or a bias tensor."""

    title = "PyTorch SDPA"

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        causal = isinstance(case.pattern, CausalPattern)
        mask = None if causal or case.pattern == FULL else mask_tensor(case)
        grouped = case.groups != case.heads

        def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
            given = mask if bias is None else bias
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask=given, is_causal=causal, enable_gqa=grouped
            )

        return torch_run(case, given, attend)


def mask_tensor(case: Case) -> Tensor:
    """The pattern as bool: [B,1,1,M] where every query sees the same keys, else [B|1,1,N,M]."""
    alike = case.pattern.by_batch and case.form != "dense"
    return case.pattern.dense(case.batch, 1 if alike else case.queries, case.length).contiguous()
