"""ONNX Runtime with a model built in memory, its inputs and its output bound once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

PACKAGES = ("onnxruntime", "onnx")


class BoundSession:
    """A model of one node, ready to run.

    Args:
        node: made by ``onnx.helper``; its output is called "context".
        inputs: the node's inputs by name, "query" among them, whose dtype the output has.
        shape: of the output.
        threads: how many may compute.
    """

    def __init__(self, node: Any, inputs: Mapping[str, Tensor], shape: Sequence[int], threads: int) -> None:
        import onnxruntime

        self._context = torch.empty(tuple(shape), dtype=inputs["query"].dtype)
        self._session = onnxruntime.InferenceSession(
            _model(node, inputs, self._context), options(threads), providers=["CPUExecutionProvider"]
        )
        self._binding = self._session.io_binding()
        # The session reads the memory of these values, and does not keep them alive.
        self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(t.numpy()) for t in inputs.values()]
        for name, value in zip(inputs, self._values, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_output(
            "context",
            "cpu",
            element_type=self._context.numpy().dtype,
            shape=list(shape),
            buffer_ptr=self._context.data_ptr(),
        )

    def __call__(self) -> Tensor:
        """Runs the node, and returns its output, which the next call overwrites."""
        self._session.run_with_iobinding(self._binding)
        return self._context


def _model(node: Any, inputs: Mapping[str, Tensor], context: Tensor) -> bytes:
    """The node as a serialized model."""
    import onnx
    from onnx import helper

    kinds = {
        torch.float32: onnx.TensorProto.FLOAT,
        torch.float16: onnx.TensorProto.FLOAT16,
        torch.bool: onnx.TensorProto.BOOL,
        torch.int32: onnx.TensorProto.INT32,
    }

    def described(name: str, tensor: Tensor) -> Any:
        return helper.make_tensor_value_info(name, kinds[tensor.dtype], list(tensor.shape))

    graph = helper.make_graph(
        [node], "attention", [described(*item) for item in inputs.items()], [described("context", context)]
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    serialized: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=11).SerializeToString()
    return serialized


def options(threads: int) -> Any:
    """Settings of a session for so many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads sleep instead of spinning, which would be charged to the next contender.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
