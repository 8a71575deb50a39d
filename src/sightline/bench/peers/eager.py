"""Attention written out in PyTorch: two products and a softmax, with the whole matrix in memory."""

from __future__ import annotations

import math

from torch import Tensor

from sightline.bench.case import Case, Inputs
from sightline.bench.pattern import FULL
from sightline.bench.peers.peer import Peer, PreparedCase
from sightline.bench.peers.sdpa import mask_tensor
from sightline.bench.peers.torch_run import torch_run

MOST_ENTRIES = 1 << 29


class Eager(Peer):
    """As models write it, softmax in the inputs' dtype; query heads of a group are folded into rows."""

    title = "PyTorch eager"

    def why_not(self, case: Case) -> str:
        entries = case.batch * case.heads * case.queries * case.length
        return (
            f"the whole matrix would be over {MOST_ENTRIES >> 20} M entries" if entries > MOST_ENTRIES else ""
        )

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        hidden = None if case.pattern == FULL else ~mask_tensor(case)
        b, h, n, d = given.query.shape
        g, m = case.groups, case.length

        def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
            folded = query.reshape(b, g, h // g * n, d)
            scores = (folded @ key.mT / math.sqrt(d)).reshape(b, h, n, m)
            if bias is not None:
                scores = scores + bias
            if hidden is not None:
                scores = scores.masked_fill(hidden, -math.inf)
            weights = scores.softmax(-1).reshape(b, g, h // g * n, m)
            return (weights @ value).reshape(b, h, n, d)

        return torch_run(case, given, attend)
