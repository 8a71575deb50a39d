"""Sightline itself."""

from __future__ import annotations

import torch

from sightline._version import __version__
from sightline.bench.case import Case, Inputs
from sightline.bench.pattern import CausalPattern, DocumentsPattern, LengthsPattern, WindowPattern
from sightline.bench.peers.peer import Peer, PreparedCase
from sightline.bench.peers.torch_run import torch_run
from sightline.call.attention import attention
from sightline.masks import Mask, causal, documents, lengths, window


class Sightline(Peer):
    """``sightline.attention`` with the pattern's mask object, or the bool tensor that the case asks for."""

    title = "Sightline"

    def version(self) -> str:
        return __version__

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        mask = mask_of(case)
        return torch_run(case, given, lambda q, k, v, bias: attention(q, k, v, mask=mask, bias=bias))


def mask_of(case: Case) -> Mask | torch.Tensor | None:
    """The pattern in Sightline's terms."""
    pattern, batch, queries, keys = case.pattern, case.batch, case.queries, case.length
    if case.form == "dense":
        return pattern.dense(batch, queries, keys).contiguous()
    if case.form == "key mask":
        return pattern.dense(batch, 1, keys).contiguous()
    if isinstance(pattern, CausalPattern):
        return causal()
    if isinstance(pattern, WindowPattern):
        return window(pattern.left, 0)
    if isinstance(pattern, LengthsPattern):
        return lengths(list(pattern.kept))
    if isinstance(pattern, DocumentsPattern):
        return documents(torch.arange(queries) // pattern.length)
    return None
