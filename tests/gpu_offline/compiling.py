"""Kernels compiled to machine code without a GPU, from the arguments with which the passes launch them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from sightline.backends.triton import passes

KERNELS = ("row_pass", "row_product", "column_pass", "cell_pass")
_POINTERS = {
    torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int64: "*i64",
    torch.int32: "*i32", torch.uint8: "*u8", torch.float64: "*fp64",
}  # fmt: skip
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Launch:
    """A kernel, and what it was launched with."""

    kernel: Any
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__


class Recorded:
    """Stands in for a kernel: notes launches, and runs none."""

    def __init__(self, kernel: Any, launches: list[Launch]) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        assert all(0 < one < 1 << 31 for one in grid)
        return lambda **arguments: self.launches.append(Launch(self.kernel, arguments))


def launches_of(work: Any, monkeypatch: Any) -> list[Launch]:
    """What a function launches."""
    launches: list[Launch] = []
    for name in KERNELS:
        monkeypatch.setattr(passes, name, Recorded(getattr(passes, name), launches))
    work()
    monkeypatch.undo()
    return launches


def compiled(launch: Launch, capability: int) -> CompiledKernel:
    """The machine code for cards of a compute capability, 80 for 8.0."""
    signature, constants, hints = {}, {}, {}
    for place, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or (type(value) is int and value == 1):
            signature[parameter.name], constants[(place,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = _POINTERS[value.dtype]
            hints[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
            if isinstance(value, int) and value % 16 == 0:
                hints[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, hints)
    options = {name: launch.arguments[name] for name in ("num_warps", "num_stages", "enable_fp_fusion")}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@dataclass(frozen=True)
class Resources:
    """What cuobjdump says of a kernel."""

    registers: int
    stack: int
    local: int
    shared: int


def resources(kernel: CompiledKernel, folder: Path) -> Resources:
    """Registers, spills (stack and local memory) and shared memory of a compiled kernel."""
    path = folder / "kernel.cubin"
    path.write_bytes(kernel.asm["cubin"])
    told = subprocess.run(
        [_TOOLS / "cuobjdump", "--dump-resource-usage", path], capture_output=True, text=True, check=True
    ).stdout
    numbers = dict(re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", told))
    return Resources(*(int(numbers[name]) for name in ("REG", "STACK", "LOCAL", "SHARED")))


def uses_tensor_cores(kernel: CompiledKernel) -> bool:
    """Whether products run on tensor cores: mma, wgmma or tcgen05."""
    return re.search(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)", kernel.asm["ptx"]) is not None
