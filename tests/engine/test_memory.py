"""Memory is linear in the sequence: measured as the peak of a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch, sightline
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
n, h, backend, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
q, k, v = (torch.randn(1, h, n, 64) for _ in range(3))
warm = [x[:, :, :200] for x in (q, k, v)]
with sightline.backend(backend):
    _, A = sightline.attention(*warm, mask=sightline.causal(), return_matrix=True)
    A.readouts("entropy", "received", topk=8)
    mask = sightline.window(256, 0)
    if what == "attention":
        out = [torch.zeros(1, h, n, 64), torch.zeros(1, h, n)]; del out
        before = peak()
        sightline.attention(q, k, v, mask=mask)
    else:
        A = sightline.AttentionMatrix(q, k, mask=mask); A.lse
        before = peak()
        A.readouts("entropy", "received", topk=8)
print(peak() - before)
"""


@pytest.mark.parametrize("backend, n", [("cpu", 65536), ("chunked", 32768)])
@pytest.mark.parametrize("what", ["attention", "readouts"])
def test_peak_above_inputs(backend, n, what):
    # The whole matrix would be 16 GiB a head; a window keeps the test short without changing the memory.
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(n), "2", backend, what], capture_output=True, text=True, check=True
    )
    outputs = 2 * n * (64 + 1) * 4 if what == "attention" else 2 * n * (2 + 8 * 3) * 4
    assert float(run.stdout) < 100 + outputs / 2**20
