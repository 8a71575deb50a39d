"""Every kernel compiled to machine code for three generations of cards: no spills, and tensor cores for halves.

It says that they compile and fit, not that they ran: no GPU takes part.
"""

from __future__ import annotations

import os

import pytest
import torch

if os.environ.get("SIGHTLINE_GPU_OFFLINE") != "1" or os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("make test-gpu-offline runs this", allow_module_level=True)
pytest.importorskip("triton", reason="make test-gpu-offline installs Triton")

import sightline
from sightline.backends.contract import FUNCTIONS, PooledRegion, Request, Summand
from sightline.backends.triton import given, passes

from .compiling import compiled, launches_of, resources, uses_tensor_cores

CAPABILITIES = (80, 90, 100)
N = 128

ROWS = [Request("entropy"), Request("max"), Request("topk", k=8), Request("distance")]
REGION = PooledRegion(slice(0, N), slice(0, N), 2, 2, "mean")
WORK = {
    "rows": lambda problem, lse: passes.readouts(problem, lse, ROWS),
    "entropy": lambda problem, lse: passes.readouts(problem, lse, [Request("entropy")]),
    "mass": lambda problem, lse: passes.readouts(problem, lse, [Request("mass", segments=torch.arange(N) // 4)]),
    "lse": lambda problem, lse: passes.row_lse(problem),
    "received": lambda problem, lse: passes.key_sums(problem, lse, Summand("weight")),
    "product": lambda problem, lse: passes.product(problem, lse, torch.ones(1, 1, N, 64)),
    "transposed product": lambda problem, lse: passes.transposed_product(problem, lse, torch.ones(1, 1, N, 64)),
    "pool": lambda problem, lse: passes.pool(problem, lse, REGION),
    "pool, largest": lambda problem, lse: passes.pool(problem, lse, REGION._replace(reduce="max")),
    "largest": lambda problem, lse: passes.key_largest(problem, lse),
    "sums": lambda problem, lse: [passes.summed(problem, lse, Summand(f), "keys") for f in FUNCTIONS],
}  # fmt: skip
#: All capabilities for what matters most and for pictures, where compilers spill most easily; one for each of the
#: others, so that the grid stays small.
GRID = [
    (work, dtype, width, capability)
    for work in ("rows", "received", "pool", "pool, largest")
    for dtype in (torch.float16, torch.bfloat16, torch.float32)
    for width in (64, 128, 256)
    for capability in CAPABILITIES
] + [
    (work, dtype, width, CAPABILITIES[(at + place) % 3])
    for at, work in enumerate(("mass", "lse", "product", "transposed product"))
    for dtype in (torch.float16, torch.bfloat16, torch.float32)
    for place, width in enumerate((64, 128, 256))
]
REST = [(work, torch.bfloat16, 64, CAPABILITIES[at]) for at, work in enumerate(("largest", "sums"), start=1)]


def problem_of(dtype, width, **options):
    query, key = torch.zeros(1, 4, N, width, dtype=dtype), torch.zeros(1, 2, N, width, dtype=dtype)
    return sightline.AttentionMatrix(query, key, **options).problem


def check(work, problem, capability, monkeypatch, tmp_path):
    monkeypatch.setattr(given, "generation", lambda device: capability // 10)
    lse = torch.zeros(problem.shape[:3], dtype=torch.float64)
    launches = launches_of(lambda: WORK[work](problem, lse), monkeypatch)
    assert launches
    for launch in launches:
        kernel = compiled(launch, capability)
        told = resources(kernel, tmp_path)
        assert told.stack == told.local == 0, f"{launch.name} spills: {told}"
        assert 0 < told.registers <= 255
        if problem.query.dtype != torch.float32:
            assert uses_tensor_cores(kernel), launch.name


@pytest.mark.parametrize("work, dtype, width, capability", GRID + REST)
def test_it_compiles_and_does_not_spill(work, dtype, width, capability, monkeypatch, tmp_path):
    check(work, problem_of(dtype, width, mask=sightline.causal()), capability, monkeypatch, tmp_path)


OPTIONS = {
    "nothing": {},
    "two ranges": {"mask": sightline.prefix(4) | sightline.window(16, 0)},
    "dense": {"mask": torch.ones(N, N, dtype=torch.bool)},
    "bias": {"bias": torch.zeros(4, N, N)},
    "half a bias": {"bias": torch.zeros(1, 1, N, N, dtype=torch.bfloat16)},
    "alibi": {"bias": sightline.alibi(torch.ones(4))},
    "table": {"bias": sightline.relative(torch.zeros(4, 33))},
    "softcap": {"softcap": 30.0},
    "all": {
        "mask": sightline.causal(),
        "bias": sightline.alibi(torch.ones(4)),
        "softcap": 30.0,
        "sinks": torch.zeros(4),
    },
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("work", ["rows", "received", "pool, largest"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_option_compiles(name, work, capability, monkeypatch, tmp_path):
    check(work, problem_of(torch.bfloat16, 64, **OPTIONS[name]), capability, monkeypatch, tmp_path)


@pytest.mark.parametrize("work", ["rows", "entropy", "received"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_tables_compile_for_wide_heads(work, capability, monkeypatch, tmp_path):
    """What takes the most registers of all."""
    check(work, problem_of(torch.bfloat16, 128, **OPTIONS["table"]), capability, monkeypatch, tmp_path)


@pytest.mark.parametrize("word", ["tf32x3", "tf32"])
def test_faster_settings_use_tensor_cores_for_float32(word, monkeypatch, tmp_path):
    monkeypatch.setenv("SIGHTLINE_TRITON_PRECISION", word)
    problem = problem_of(torch.float32, 64)
    assert given.precision() == word
    lse = torch.zeros(problem.shape[:3], dtype=torch.float64)
    launches = []
    with monkeypatch.context() as patch:
        launches = launches_of(lambda: WORK["received"](problem, lse), patch)
    for launch in launches:
        assert uses_tensor_cores(compiled(launch, 80))
