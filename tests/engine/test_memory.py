"""Memory is linear in the sequence: measured as the peak of a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys, torch, sightline
from sightline.bench.resident import forget_peak, resident
torch.set_num_threads(2)
n, backend = int(sys.argv[1]), sys.argv[2]
q, k, v = (torch.randn(1, 2, n, 64) for _ in range(3))
mask = sightline.window(256, 0)
with sightline.backend(backend):
    _, A = sightline.attention(*(x[:, :, :200] for x in (q, k, v)), mask=mask, return_matrix=True)
    A.readouts("entropy", "received", topk=8)
    A = sightline.AttentionMatrix(q, k, mask=mask)
    A.lse

def made(what):
    if what == "attention":
        return [sightline.attention(q, k, v, mask=mask)]
    if what == "readouts":
        found = A.readouts("entropy", "received", topk=8)
        return [found.entropy, found.received, *found.topk]
    inputs = [x.requires_grad_() for x in (q, k, v)]
    table, sinks = torch.randn(1, 65, requires_grad=True), torch.zeros(2, requires_grad=True)
    context = sightline.attention(
        *inputs, mask=mask, bias=sightline.relative(table), sinks=sinks, dropout=0.1
    )
    return [context, *torch.autograd.grad(context.sum(), (*inputs, table, sinks))]

for what in ("attention", "readouts", "gradients"):
    forget_peak()
    before = resident("VmRSS")
    with sightline.backend(backend):
        out = made(what)
    print(what, resident("VmHWM") - before - sum(t.nbytes for t in out) / 2**20)
    del out
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize(
    "backend, n", [("cpu", 65536), pytest.param("chunked", 8192, marks=pytest.mark.slow)]
)
def test_peak_above_inputs_and_outputs(backend, n):
    # The whole matrix would be 16 GiB a head, or 256 MiB (chunked); a window keeps the test short without changing the
    # memory.
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(n), backend], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    # Native: each of the two threads sums gradients of keys and values, 128 floats a key: 33 MB at 65,536 keys.
    # Chunked: the dropout pattern of a block takes several int64 arrays of 16 MB each, at any length.
    limits = {"attention": 100, "readouts": 100, "gradients": 160 if backend == "cpu" else 256}
    peaks = {what: float(peak) for what, peak in map(str.split, run.stdout.splitlines())}
    assert set(peaks) == set(limits) and all(peaks[what] < limits[what] for what in peaks), peaks
