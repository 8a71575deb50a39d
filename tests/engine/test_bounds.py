"""Nothing beyond the end of a tensor is read: each tensor ends where a page that may not be touched begins."""

import ctypes
import mmap
import os
import sys

import pytest
import torch

from sightline.backends.contract import Cells
from sightline.backends.native import kernels, products
from sightline.backends.problem import Problem
from sightline.core import library

pytestmark = [
    pytest.mark.skipif(library.available() is not None, reason="no native core"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect"),
]

LEVELS = library.levels() if library.available() is None else []
NO_ACCESS = 0  # PROT_NONE
kept = []  # mappings, which tensors don't keep alive


def at_a_page_end(tensor):
    """A copy of the tensor, its last byte the last one of its page; reading on is a fault."""
    size = tensor.numel() * tensor.element_size()
    pages = -(-size // mmap.PAGESIZE)
    mapping = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    guard = ctypes.addressof(ctypes.c_char.from_buffer(mapping)) + pages * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(mmap.PAGESIZE), NO_ACCESS) == 0
    kept.append(mapping)
    flat = torch.frombuffer(
        mapping, dtype=tensor.dtype, count=tensor.numel(), offset=pages * mmap.PAGESIZE - size
    )
    return flat.copy_(tensor.flatten()).view(tensor.shape)


def compute(dtype, n, m, d, e):
    h, g = 6, 2
    tensors = {
        "query": torch.randn(1, h, n, d).to(dtype),
        "key": torch.randn(1, g, m, d).to(dtype),
        "value": torch.randn(1, g, m, e).to(dtype),
        "visible": torch.rand(1, h, n, m) < 0.7,
        "bias": torch.randn(1, h, n, m).to(dtype),
        "slopes": torch.rand(1, h),
        "table": torch.randn(h, 9),
        "sinks": torch.randn(h),
        "ranges": torch.tensor([0, m - 1], dtype=torch.int32).expand(1, h, n, 1, 2).contiguous(),
        "offset": torch.tensor([m - n]),
    }
    placed = {name: at_a_page_end(tensor) for name, tensor in tensors.items()}
    for chosen in (placed, {name: placed[name] for name in ("query", "key", "value")}):
        problem = Problem(**chosen, scale=0.5)
        _, lse = kernels.forward(problem)
        cells = Cells(at_a_page_end(torch.arange(m, dtype=torch.int32)[None] // 2), (m + 1) // 2)
        position = at_a_page_end(torch.tensor([m - n]))
        read = ["entropy", "distance", "cell_sum", "cell_max", "cell_seen"]
        kernels.readouts(problem, at_a_page_end(lse), read, position=position, cells=cells)
        products.product(problem, at_a_page_end(torch.randn(1, h, m, e)))
        products.transposed_product(problem, lse, at_a_page_end(torch.randn(1, h, n, e)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_nothing_beyond_the_tensors_is_read(level, dtype, n, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    library.library()
    child = os.fork()
    if child == 0:  # a fault ends the child only
        try:
            torch.set_num_threads(1)  # PyTorch's own pool does not survive a fork
            for m, d, e in ((1, 1, 1), (3, 5, 7), (17, 16, 33), (65, 40, 64), (130, 64, 72), (600, 33, 5)):
                compute(dtype, n, m, d, e)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
