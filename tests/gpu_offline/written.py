"""What PyTorch's compiler writes for a card that is not there: its Triton kernels, and their machine code.

The compiler asks the card for its properties, and Triton for its driver; both are told of here.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.utils._triton
import triton
from torch import Tensor
from torch._dynamo.device_interface import CudaInterface
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime import triton_helpers
from torch._inductor.virtualized import V
from torch.fx.experimental.proxy_tensor import make_fx
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel
from triton.runtime import driver

from fake_cuda import fake_cuda

_KERNEL = re.compile(r"async_compile\.triton\('(\w+)', '''(.*?)'''", re.DOTALL)


@contextmanager
def card(capability: int) -> Iterator[None]:
    """A card of a compute capability, 80 for 8.0, as far as the compiler asks for one."""
    about = SimpleNamespace(
        name="pretended", major=capability // 10, minor=capability % 10, multi_processor_count=132,
        max_threads_per_multi_processor=2048, max_threads_per_block=1024, regs_per_multiprocessor=65536,
        warp_size=32, total_memory=80 << 30, L2_cache_size=50 << 20, shared_memory_per_block=49152,
        shared_memory_per_block_optin=166912, shared_memory_per_multiprocessor=167936, gcnArchName="",
    )  # fmt: skip
    target = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", capability, 32), get_current_device=lambda: 0
    )
    of_torch = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "get_device_capability": lambda device=None: divmod(capability, 10), "_lazy_init": lambda: None,
        "get_device_properties": lambda device=None: about, "synchronize": lambda device=None: None,
    }  # fmt: skip
    of_interface = {
        "get_device_properties": staticmethod(lambda device=None: about),
        "get_compute_capability": staticmethod(lambda device=None: capability),
        "current_device": staticmethod(lambda: 0),
    }
    with ExitStack() as stack:
        for patch in (
            mock.patch.multiple(torch.cuda, **of_torch),
            mock.patch.multiple(CudaInterface, **of_interface),
            mock.patch.object(
                CudaInterface.Worker, "get_device_properties", of_interface["get_device_properties"]
            ),
            mock.patch.object(torch.utils._triton, "triton_hash_with_backend", return_value="pretended"),
            mock.patch.object(triton_helpers, "set_driver_to_gpu", return_value=None),
            mock.patch.object(driver, "_active", target),
        ):
            stack.enter_context(patch)
        yield


def code_for(function: Callable[..., Any], made: Callable[[], list[Tensor]]) -> str:
    """The Python code that runs a function of tensors, which are made on the card that is pretended."""
    with fake_cuda(), mock.patch.object(torch.compiler, "is_compiling", return_value=True):
        arguments = made()
        graph = make_fx(function, decomposition_table=select_decomp_table())(*arguments)
    with arguments[0].fake_mode as mode, V.set_fake_mode(mode), DebugContext():
        graph = make_fx(torch.func.functionalize(graph))(*arguments)
        lowering = GraphLowering(graph, example_inputs=arguments)
        with V.set_graph_handler(lowering):
            lowering.run(*arguments)
            code, _ = lowering.codegen()
    return str(code.value)


def kernels_of(code: str, folder: Path) -> dict[str, Any]:
    """The kernels by name, as inductor wraps them."""
    found = {}
    for number, (name, source) in enumerate(_KERNEL.findall(code)):
        path = folder / f"written_{number}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        found[name] = getattr(module, name)
    return found


def machine_code(wrapped: Any, config: Any, capability: int) -> CompiledKernel:
    """One of the ways in which inductor would try a kernel."""
    function, meta = wrapped.fn, wrapped.triton_meta
    names = [one.name for one in function.params]
    constants = {(names.index(name),): value for name, value in config.kwargs.items() if name in names}
    constants |= {(names.index(name),): value for name, value in meta["constants"].items()}
    hints = meta["configs"][0]
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages, "enable_fp_fusion": True}
    source = ASTSource(function, dict(meta["signature"]), constants, hints)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
