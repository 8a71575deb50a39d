"""Peak memory above inputs and outputs, each measured in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.bench.child import in_child
from sightline.bench.resident import AVAILABLE, forget_peak, resident
from sightline.bench.sections.section import CASE, DTYPE, BenchSection, Column
from sightline.bench.session import Row, Session
from sightline.call.attention import attention
from sightline.matrix import AttentionMatrix

WORK = ("forward", "forward and backward", "readouts: entropy, received, top-8")


def rows(session: Session) -> Iterator[Row]:
    """Forward, forward and backward, and readouts of one long sequence; SDPA's beside the first two."""
    if not AVAILABLE:
        return
    n = session.pick(full=32768, quick=8192, tiny=256)
    for dtype in session.pick(full=("float32", "bfloat16"), quick=("float32",), tiny=("float32",)):
        for what in WORK:
            length = n // 2 if "backward" in what else n
            session.progress(f"memory: {what}, {dtype}")
            sdpa = "readouts" not in what and n >= 32768
            yield {
                "case": f"(1,2,{length},64) full",
                "dtype": dtype,
                "what": what,
                "mb": in_child(peak_of, n=length, dtype=dtype, what=what),
                "sdpa_mb": in_child(peak_of, n=length, dtype=dtype, what=f"{what}, sdpa") if sdpa else None,
                "matrix_mb": 2 * length**2 * (4 if dtype == "float32" else 2) / 2**20,
            }


SECTION = BenchSection(
    name="memory",
    title="Memory",
    note="Peak resident memory above inputs and outputs (Linux). The last column is what the weights take.",
    columns=(
        CASE, DTYPE, Column("what", "what", "text"), Column("mb", "MB", "number"),
        Column("sdpa_mb", "sdpa's MB", "number"), Column("matrix_mb", "whole matrix MB", "number"),
    ),
    rows=rows,
)  # fmt: skip


# --- in a process of its own ---------------------------------------------------------------------------


def peak_of(n: int, dtype: str, what: str) -> float:
    """The peak of one piece of work, in MB above what is there before and what it returns.

    Args:
        n: tokens.
        dtype: its name.
        what: of WORK, with ", sdpa" at the end for PyTorch's.
    """
    torch.set_num_threads(1)
    inputs = [torch.randn(1, 2, n, 64).to(getattr(torch, dtype)) for _ in range(4)]
    short = [tensor[:, :, :99] for tensor in inputs]
    prepare(short, what)()  # what is allocated once is not the work's
    work = prepare(inputs, what)
    forget_peak()
    before = resident("VmRSS")
    outputs = work()
    return resident("VmHWM") - before - sum(tensor.nbytes for tensor in outputs) / 2**20


def prepare(inputs: list[Tensor], what: str) -> Callable[[], list[Tensor]]:
    """The work on query, key, value and the gradient of the context, ready to be called."""
    query, key, value, grad = inputs
    attend = F.scaled_dot_product_attention if what.endswith("sdpa") else attention
    if "readouts" in what:
        matrix = AttentionMatrix(query, key)
        _ = matrix.lse  # known before, as after attention(..., return_matrix=True)
        return lambda: _readouts(matrix)
    if "backward" in what:
        return lambda: _both_ways(attend, query, key, value, grad)
    return lambda: [attend(query, key, value)]


def _readouts(matrix: AttentionMatrix) -> list[Tensor]:
    readouts = matrix.readouts("entropy", "received", topk=8)
    return [readouts.entropy, readouts.received, *readouts.topk]


def _both_ways(attend: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    *tensors, grad = inputs
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    context = attend(*leaves)
    return [context, *torch.autograd.grad(context, leaves, grad)]
