"""ONNX's standard operator, Attention of opset 23, in ONNX Runtime."""

from __future__ import annotations

from sightline.bench.case import Case, Inputs
from sightline.bench.pattern import FULL, CausalPattern
from sightline.bench.peers.ort_session import PACKAGES, BoundSession
from sightline.bench.peers.peer import Peer, PreparedCase
from sightline.bench.peers.sdpa import mask_tensor


class OrtAttention(Peer):
    """Layout [B,H,N,D]; ``is_causal``, otherwise a bool mask [B|1,1,N,M] or a bias."""

    title = "ONNX Runtime Attention-23"
    packages = PACKAGES
    own_process = True

    def why_not(self, case: Case) -> str:
        if case.direction == "backward":
            return "no backward pass"
        return "no bfloat16 on the CPU" if case.dtype == "bfloat16" else ""

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        from onnx import helper

        tensors = {"query": given.query, "key": given.key, "value": given.value}
        causal = isinstance(case.pattern, CausalPattern)
        if given.bias is not None:
            tensors["mask"] = given.bias
        elif not causal and case.pattern != FULL:
            mask = mask_tensor(case)
            tensors["mask"] = mask.expand(-1, -1, case.queries, -1).contiguous()
        node = helper.make_node("Attention", list(tensors), ["context"], is_causal=int(causal))
        return PreparedCase(BoundSession(node, tensors, given.query.shape, threads), lambda out: [out])
