"""Peak memory above inputs and outputs, each measured in a process of its own (Linux)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

_SCRIPT = """
import sys, torch, sightline
from benchmarks.memory import resident, forget_peak
torch.set_num_threads(1)
n, what = int(sys.argv[1]), sys.argv[2]
q, k, v = (torch.randn(1, 4, n, 64) for _ in range(3))
_, A = sightline.attention(*(x[:, :, :99] for x in (q, k, v)), return_matrix=True)
A.readouts("entropy", "received", topk=8)
A = sightline.AttentionMatrix(q, k)
if what == "readouts":
    A.lse
forget_peak()
before = resident("VmRSS")
if what == "attention":
    result = [sightline.attention(q, k, v)]
else:
    found = A.readouts("entropy", "received", topk=8)
    result = [found.entropy, found.received, *found.topk]
print(resident("VmHWM") - before - sum(t.nbytes for t in result) / 2**20)
"""


def resident(field: str) -> float:
    """MB of this process: "VmRSS" now, "VmHWM" at the highest."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Makes the highest mark start again from now."""
    with open("/proc/self/clear_refs", "w") as marks:
        marks.write("5")


def rows(n: int = 65536) -> Iterator[dict[str, Any]]:
    """Attention, and entropy + received + top-8, at (1,4,n,64)."""
    for what in ("attention", "readouts"):
        run = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(n), what], capture_output=True, text=True, check=True
        )
        yield {"case": f"(1,4,{n},64)", "what": what, "MB above inputs and outputs": float(run.stdout)}
