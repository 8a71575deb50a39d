"""Peak memory above inputs and outputs, each measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

_SCRIPT = """
import resource, sys, torch, sightline
torch.set_num_threads(1)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
n, what = int(sys.argv[1]), sys.argv[2]
q, k, v = (torch.randn(1, 4, n, 64) for _ in range(3))
_, A = sightline.attention(*(x[:, :, :99] for x in (q, k, v)), return_matrix=True)
A.readouts("entropy", "received", topk=8)
A = sightline.AttentionMatrix(q, k)
if what == "readouts":
    A.lse
before = peak()
if what == "attention":
    result = [sightline.attention(q, k, v)]
else:
    found = A.readouts("entropy", "received", topk=8)
    result = [found.entropy, found.received, *found.topk]
print(peak() - before - sum(t.nbytes for t in result) / 2**20)
"""


def rows(n: int = 65536) -> Iterator[dict[str, Any]]:
    """Attention, and entropy + received + top-8, at (1,4,n,64)."""
    for what in ("attention", "readouts"):
        run = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(n), what], capture_output=True, text=True, check=True
        )
        yield {"case": f"(1,4,{n},64)", "what": what, "MB above inputs and outputs": float(run.stdout)}
