"""ONNX Runtime, on what ``torch.onnx.export`` makes of a module."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sightline.bench.peers.ort_session import PACKAGES, options
from sightline.bench.peers.peer import PreparedCase
from sightline.bench.wholes.by_torch import ByTorch
from sightline.bench.wholes.case import Whole, WholeCase


class ByOrt(ByTorch):
    """Exported for these shapes; inputs are bound once, the output is allocated by each run."""

    title = "ONNX Runtime"
    packages = (*PACKAGES, "onnxscript")
    own_process = True

    def why_not(self, case: WholeCase) -> str:
        if case.direction != "forward":
            return "no backward pass"
        return "no bfloat16 on the CPU" if case.dtype == "bfloat16" else ""

    def prepare(self, case: WholeCase, whole: Whole, threads: int) -> PreparedCase:
        import onnxruntime

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # says that torchvision is missing
            program: Any = torch.onnx.export(whole.module, whole.arguments, dynamo=True, verbose=False)
        model = program.model_proto.SerializeToString()
        del program
        session = onnxruntime.InferenceSession(model, options(threads), providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        binding = session.io_binding()
        values = _bound(binding, dict(zip(names, whole.arguments, strict=True)))
        binding.bind_output(session.get_outputs()[0].name, "cpu")

        def call() -> list[Any]:
            session.run_with_iobinding(binding)
            return values  # the session reads their memory, and does not keep them alive

        return PreparedCase(call, lambda values: [torch.from_numpy(binding.copy_outputs_to_cpu()[0])])


def _bound(binding: Any, arguments: Mapping[str, Tensor]) -> list[Any]:
    import onnxruntime

    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(one.numpy()) for name, one in arguments.items()}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    return list(values.values())
