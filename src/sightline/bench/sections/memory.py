"""Peak memory above inputs and outputs, each measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from sightline.bench.resident import AVAILABLE
from sightline.bench.sections.section import CASE, DTYPE, Column, Section
from sightline.bench.session import Row, Session

_SCRIPT = """
import sys, torch, sightline
import torch.nn.functional as F
from sightline.bench.resident import resident, forget_peak
torch.set_num_threads(1)
n, dtype, what = int(sys.argv[1]), getattr(torch, sys.argv[2]), sys.argv[3]
q, k, v = (torch.randn(1, 2, n, 64).to(dtype) for _ in range(3))
grad = torch.randn(1, 2, n, 64).to(dtype)
attend = F.scaled_dot_product_attention if "sdpa" in what else sightline.attention
def work(q, k, v, grad, A):
    if "backward" in what:
        q, k, v = (t.detach().requires_grad_() for t in (q, k, v))
        context = attend(q, k, v)
        return [context, *torch.autograd.grad(context, (q, k, v), grad)]
    if "readouts" in what:
        found = A.readouts("entropy", "received", topk=8)
        return [found.entropy, found.received, *found.topk]
    return [attend(q, k, v)]
def matrix(query, key):
    A = sightline.AttentionMatrix(query, key)
    if "readouts" in what:
        A.lse
    return A
short = [t[:, :, :99] for t in (q, k, v, grad)]
work(*short, matrix(*short[:2]))
A = matrix(q, k)
forget_peak()
before = resident("VmRSS")
out = work(q, k, v, grad, A)
print(resident("VmHWM") - before - sum(t.nbytes for t in out) / 2**20)
"""
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
            yield {
                "case": f"(1,2,{length},64) full",
                "dtype": dtype,
                "what": what,
                "mb": _peak(length, dtype, what),
                "sdpa_mb": None if "readouts" in what or n < 32768 else _peak(length, dtype, f"{what}, sdpa"),
                "matrix_mb": 2 * length**2 * (4 if dtype == "float32" else 2) / 2**20,
            }


def _peak(n: int, dtype: str, what: str) -> float:
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(n), dtype, what], capture_output=True, text=True, check=False
    )
    if run.returncode < 0 or run.returncode == 130:
        raise KeyboardInterrupt
    if run.returncode:
        raise RuntimeError(f"memory of {what}: {run.stderr.strip().splitlines()[-1]}")
    return float(run.stdout)


SECTION = Section(
    name="memory",
    title="Memory",
    note="Peak resident memory above inputs and outputs (Linux). The last column is what the weights take.",
    columns=(
        CASE, DTYPE, Column("what", "what", "text"), Column("mb", "MB", "number"),
        Column("sdpa_mb", "sdpa's MB", "number"), Column("matrix_mb", "whole matrix MB", "number"),
    ),
    rows=rows,
)  # fmt: skip
