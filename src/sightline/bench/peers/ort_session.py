"""ONNX Runtime with a model built in memory, its inputs and its output bound once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

PACKAGES = ("onnxruntime", "onnx")


def run_session(node: Any, given: Mapping[str, Tensor], output: Sequence[int], threads: int) -> Any:
    """A call that runs the one node and returns its output.

    Threads wait asleep and not spinning, since time spent spinning would be charged to the next contender.
    """
    import onnx
    import onnxruntime
    from onnx import helper

    kinds = {
        torch.float32: onnx.TensorProto.FLOAT,
        torch.float16: onnx.TensorProto.FLOAT16,
        torch.bool: onnx.TensorProto.BOOL,
        torch.int32: onnx.TensorProto.INT32,
    }
    dtype = given["query"].dtype
    graph = helper.make_graph(
        [node],
        "attention",
        [helper.make_tensor_value_info(n, kinds[t.dtype], list(t.shape)) for n, t in given.items()],
        [helper.make_tensor_value_info("context", kinds[dtype], list(output))],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=11)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    bound = {name: onnxruntime.OrtValue.ortvalue_from_numpy(t.numpy()) for name, t in given.items()}
    for name, tensor in bound.items():
        binding.bind_ortvalue_input(name, tensor)
    context = torch.empty(tuple(output), dtype=dtype)
    binding.bind_output(
        "context",
        "cpu",
        element_type=context.numpy().dtype,
        shape=list(output),
        buffer_ptr=context.data_ptr(),
    )

    def call() -> Tensor:
        session.run_with_iobinding(binding)
        return context

    call.inputs = bound  # type: ignore[attr-defined]  # the session reads their memory, and owns none of it

    return call
