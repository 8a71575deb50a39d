"""What PyTorch's compiler makes of ``A.reduce(f)`` for three generations of cards: one kernel behind the product.

Made from the function that is compiled, by inductor's own passes, for shapes that are known; no GPU takes part.
"""

from __future__ import annotations

import os

import pytest
import torch

if os.environ.get("SIGHTLINE_GPU_OFFLINE") != "1" or os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("make test-gpu-offline runs this", allow_module_level=True)
pytest.importorskip("triton", reason="make test-gpu-offline installs Triton")

from fake_cuda import CUDA
from sightline.backends.problem import Problem
from sightline.backends.schedule import Numbered
from sightline.backends.softmax import RowSums
from sightline.matrix import block_reductions

from .compiling import resources
from .written import card, code_for, kernels_of, machine_code

B, G, H, N, M = 1, 2, 4, 128, 1024
#: By name of the field: its shape and dtype.
TERMS = {
    "ranges": ((1, 1, N, 2, 2), torch.int32), "visible": ((1, H, N, M), torch.bool),
    "bias": ((1, 1, N, M), torch.bfloat16), "slopes": ((1, H), torch.float32),
    "table": ((H, 33), torch.float32), "offset": ((1,), torch.int64),
}  # fmt: skip
OPTIONS = {
    "nothing": (),
    "ranges and alibi": ("ranges", "slopes", "offset"),
    "dense and bias": ("visible", "bias"),
    "table": ("table", "offset"),
    "all": tuple(TERMS),
}
GRID = [
    (name, "keys" if (at + place) % 2 else "queries", op, capability)
    for at, name in enumerate(OPTIONS)
    for place, op in enumerate(("sum", "max"))
    for capability in (80, 90, 100)
]


def cubed(w, s, i, j):
    return w**3 * (i - j)


def empty(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device=CUDA)


def written(terms, over, op, functions=(cubed,)):
    """The code for a block."""

    def made():
        given = [empty(B, H, N, 64, dtype=torch.bfloat16), empty(B, G, M, 64, dtype=torch.bfloat16)]
        given += [empty(B, H, N), empty(B, H, N)]
        given += [empty(N, 1, dtype=torch.int64), empty(M, dtype=torch.int64)]
        return given + [empty(*TERMS[name][0], dtype=TERMS[name][1]) for name in terms]

    def reductions(query, key, top, log_sum, queries, keys, *fields):
        problem = Problem(query, key, None, 0.125, softcap=30.0, **dict(zip(terms, fields, strict=True)))
        block = block_reductions.Given(problem, Numbered(queries, keys), RowSums(top, log_sum), ())
        return block_reductions.reductions(functions, block, over, op)

    return code_for(reductions, made)


def kinds(kernels):
    """Inductor names kernels for their kind; a reduction's row may or may not stay in registers."""
    known = {"poi": "element", "red": "reduction", "per": "reduction"}
    return sorted(known[name.split("_")[1]] for name in kernels)


@pytest.mark.parametrize("name, over, op, capability", GRID)
def test_one_kernel_behind_the_product(name, over, op, capability, tmp_path):
    """Two more bring queries and keys to float32. None spills, in any of the ways that would be tried."""
    with card(capability):
        code = written(OPTIONS[name], over, op)
        assert code.count("extern_kernels.bmm(") == 1
        kernels = kernels_of(code, tmp_path)
        assert kinds(kernels) == ["element", "element", "reduction"]
        for wrapped in kernels.values():
            for config in wrapped.configs:
                told = resources(machine_code(wrapped, config, capability), tmp_path)
                assert told.stack == told.local == 0, f"{wrapped.fn.__name__} spills: {told}"


def test_several_functions_share_the_kernel(tmp_path):
    with card(90):
        functions = (cubed, lambda w, s, i, j: torch.tanh(s) * w)
        kernels = kernels_of(written((), "keys", "sum", functions), tmp_path)
    assert kinds(kernels) == ["element", "element", "reduction"]
