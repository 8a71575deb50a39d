"""ONNX Runtime's own operator, com.microsoft MultiHeadAttention."""

from __future__ import annotations

from sightline.bench.case import Case, Inputs
from sightline.bench.pattern import FULL, CausalPattern, LengthsPattern
from sightline.bench.peers.ort_session import PACKAGES, BoundSession
from sightline.bench.peers.peer import Peer, PreparedCase


class OrtMultiHeadAttention(Peer):
    """Layout [B,N,H·D]; ``unidirectional``, key lengths, or a bias.

    Grouped heads with one query become rows of one head: the same numbers, each key read once.
    """

    title = "ONNX Runtime MultiHeadAttention"
    packages = PACKAGES
    own_process = True

    def why_not(self, case: Case) -> str:
        if case.direction == "backward":
            return "no backward pass"
        if case.dtype == "bfloat16":
            return "no bfloat16 on the CPU"
        if case.form != "best":
            return "it takes lengths, not bool masks"
        known = case.pattern == FULL or isinstance(case.pattern, CausalPattern | LengthsPattern)
        return "" if known else "no such pattern except as a dense bias"

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        import torch
        from onnx import helper

        b, g, m, d = given.key.shape
        rows = case.heads // g * case.queries
        tensors = {
            "query": given.query.reshape(b, g, rows, d).transpose(1, 2).reshape(b, rows, g * d),
            "key": given.key.transpose(1, 2).reshape(b, m, g * d),
            "value": given.value.transpose(1, 2).reshape(b, m, g * d),
        }
        names = ["query", "key", "value", ""]
        if isinstance(case.pattern, LengthsPattern):
            tensors["lengths"] = torch.tensor(case.pattern.kept, dtype=torch.int32)
        names.append("lengths" if "lengths" in tensors else "")
        if given.bias is not None:
            tensors["bias"] = given.bias
            names.append("bias")
        while not names[-1]:
            names.pop()
        node = helper.make_node(
            "MultiHeadAttention",
            names,
            ["context"],
            domain="com.microsoft",
            num_heads=g,
            unidirectional=int(isinstance(case.pattern, CausalPattern)),
        )
        session = BoundSession(node, tensors, (b, rows, g * d), threads)
        shape = (b, case.heads, case.queries, d)
        return PreparedCase(session, lambda out: [out.reshape(b, rows, g, d).transpose(1, 2).reshape(shape)])
