"""No loss makes a matrix of all queries and keys, forward or backward: the peak of a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import torch, sightline
from sightline import losses
from sightline.bench.resident import forget_peak, resident
torch.set_num_threads(2)

def peak(n, name):
    inputs = [torch.randn(1, 2, n, 16).requires_grad_() for _ in range(3)]
    mask = sightline.window(64, 0)
    A = sightline.AttentionMatrix(*inputs, mask=mask, detach=False)
    T = sightline.AttentionMatrix(*torch.randn(3, 1, 2, n, 24), mask=mask)
    forget_peak()
    before = resident("VmRSS")
    loss = {
        "entropy": lambda: losses.entropy(A, floor=1.0),
        "sink_mass": lambda: losses.sink_mass(A, slice(0, n // 2)),
        "alignment": lambda: losses.alignment(A, torch.arange(n)[:, None].expand(n, 2)),
        "divergence": lambda: losses.divergence(A, T),
        "minilmv2": lambda: losses.minilmv2(A, T, 4),
        "tinybert": lambda: losses.tinybert(A, T),
    }[name]()
    torch.autograd.grad(loss, inputs[:2])
    return resident("VmHWM") - before

for name in ("entropy", "sink_mass", "alignment", "divergence", "minilmv2", "tinybert"):
    peak(300, name)
    print(name, peak(8192, name))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.slow
def test_peaks_above_the_inputs():
    # All weights of the two heads would be 512 MB, and as much again for each gradient.
    run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    peaks = {name: float(peak) for name, peak in map(str.split, run.stdout.splitlines())}
    assert len(peaks) == 6 and max(peaks.values()) < 100, peaks
