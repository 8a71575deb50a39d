"""OpenVINO's scaled_dot_product_attention on its CPU plugin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.bench.case import Case, Inputs
from sightline.bench.pattern import FULL, CausalPattern
from sightline.bench.peers.peer import Peer, PreparedCase
from sightline.bench.peers.sdpa import mask_tensor


class OpenVino(Peer):
    """A model of one operator, layout [B,H,N,D]; ``causal``, otherwise a bool mask or a bias.

    The inference precision is set to the inputs' dtype by a hint. Grouped heads with one query become rows of
    one head.
    """

    title = "OpenVINO"
    packages = ("openvino",)
    own_process = True

    def why_not(self, case: Case) -> str:
        return "no backward pass" if case.direction == "backward" else ""

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        import openvino
        from openvino import opset13 as op

        kinds = _kinds()
        b, g, m, d = given.key.shape
        folded = given.query.reshape(b, g, case.heads // g * case.queries, d)
        tensors = [folded, given.key, given.value]
        causal = isinstance(case.pattern, CausalPattern)
        if given.bias is not None:
            tensors.append(given.bias)
        elif not causal and case.pattern != FULL:
            tensors.append(mask_tensor(case))
        parameters = [op.parameter(list(tensor.shape), kinds[tensor.dtype]) for tensor in tensors]
        attention = op.scaled_dot_product_attention(*parameters, causal=causal)
        model = openvino.Model([op.result(attention)], parameters, "attention")
        request = compiled(model, given.query.dtype, threads).create_infer_request()
        for index, (tensor, parameter) in enumerate(zip(tensors, parameters, strict=True)):
            request.set_input_tensor(index, _shared(openvino, tensor, parameter.get_element_type()))

        def call() -> Any:
            request.infer()
            return request

        shape = (b, case.heads, case.queries, d)
        return PreparedCase(
            call, lambda done: [_read(done.get_output_tensor(0), given.query.dtype).reshape(shape)]
        )


def compiled(model: Any, dtype: torch.dtype, threads: int) -> Any:
    """A model for the CPU, computed in this dtype."""
    import openvino
    from openvino import properties
    from openvino.properties import hint

    settings = {
        properties.inference_num_threads: threads,
        properties.num_streams: 1,
        hint.inference_precision: _kinds()[dtype],
        hint.enable_cpu_pinning: False,
    }
    return openvino.Core().compile_model(model, "CPU", settings)


def _kinds() -> dict[torch.dtype, Any]:
    import openvino

    return {
        torch.float32: openvino.Type.f32,
        torch.bfloat16: openvino.Type.bf16,
        torch.float16: openvino.Type.f16,
        torch.bool: openvino.Type.boolean,
    }


def _shared(openvino: Any, tensor: Tensor, kind: Any) -> Any:
    """The tensor for OpenVINO; NumPy has no bfloat16, so its bits pass as an integer type."""
    if tensor.dtype != torch.bfloat16:
        return openvino.Tensor(tensor.numpy())
    made = openvino.Tensor(kind, openvino.Shape(list(tensor.shape)))
    made.data.view("int16")[:] = tensor.view(torch.int16).numpy()
    return made


def _read(made: Any, dtype: torch.dtype) -> Tensor:
    if dtype != torch.bfloat16:
        return torch.from_numpy(made.data.copy())
    return torch.from_numpy(made.data.view("int16").copy()).view(torch.bfloat16)
