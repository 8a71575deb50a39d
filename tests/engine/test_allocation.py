"""Memory that cannot be had gives a MemoryError, and the process goes on."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch, sightline
torch.set_num_threads(1)

def limited(call):
    # As much address space as there is now, and a little more: for the result (4 MiB), not for the sums.
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (6 << 20), resource.RLIM_INFINITY))
    try:
        call()
    except MemoryError as error:
        print("MemoryError:", error)
    else:
        print("no error")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

q, k = torch.randn(1, 1, 1, 4), torch.randn(1, 1, 1 << 20, 4)
A = sightline.AttentionMatrix(q, k)
A.lse
with sightline.backend("cpu"):
    limited(lambda: A.readouts("received"))
print(A.received().sum().item())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space the way Linux does")
def test_readouts_without_memory_for_their_sums():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    error, total = run.stdout.splitlines()
    assert "MemoryError: readouts: the native core reports: out of memory." in error
    assert float(total) == pytest.approx(1.0, abs=1e-5)
