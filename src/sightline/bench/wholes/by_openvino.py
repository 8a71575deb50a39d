"""OpenVINO's CPU plugin, on what it reads out of a module."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from sightline.bench.case import DTYPES
from sightline.bench.peers.openvino import compiled
from sightline.bench.peers.peer import PreparedCase
from sightline.bench.wholes.by_torch import ByTorch
from sightline.bench.wholes.case import Whole, WholeCase


class ByOpenVino(ByTorch):
    """Converted in float32 for these shapes; the inference precision is set to the case's dtype by a hint."""

    title = "OpenVINO"
    packages = ("openvino",)
    own_process = True

    def why_not(self, case: WholeCase) -> str:
        return "no backward pass" if case.direction != "forward" else ""

    def prepare(self, case: WholeCase, whole: Whole, threads: int) -> PreparedCase:
        import openvino

        arguments = tuple(one.float() if one.is_floating_point() else one for one in whole.arguments)
        model = _converted(openvino, whole.module.float(), arguments)
        request = compiled(model, DTYPES[case.dtype], threads).create_infer_request()
        for number, one in enumerate(arguments):
            request.set_input_tensor(number, openvino.Tensor(one.numpy(), shared_memory=True))

        def call() -> Any:
            request.infer()
            return request, arguments  # whose memory it reads

        return PreparedCase(call, lambda done: [torch.from_numpy(done[0].get_output_tensor(0).data.copy())])


def _converted(openvino: Any, module: nn.Module, arguments: tuple[Tensor, ...]) -> Any:
    """Traced, as OpenVINO does by itself; exported, where it does not know an operator of the trace."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            model = openvino.convert_model(module, example_input=arguments)
        except Exception:
            model = openvino.convert_model(torch.export.export(module, arguments))
    model.reshape({number: list(one.shape) for number, one in enumerate(arguments)})
    return model
