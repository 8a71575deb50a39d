"""attention() as a PyTorch operator: compiled, exported, under autocast and inference mode."""

from dataclasses import replace

import pytest
import torch
from torch.library import opcheck

import sightline
from cases import BACKENDS, close
from sightline.backends import tensors as tensor_fields
from sightline.lowering import lower

OPTIONS = {
    "plain": lambda: {},
    "causal": lambda: {"mask": sightline.causal()},
    "combined": lambda: {"mask": sightline.lengths([3, 6]) & (sightline.window(2, 1) | sightline.prefix(1))},
    "terms": lambda: {
        "bias": sightline.alibi(torch.rand(4).requires_grad_()),
        "sinks": torch.randn(4).requires_grad_(),
        "softcap": 4.0,
    },
    "table": lambda: {"bias": sightline.relative(torch.randn(4, 5).requires_grad_())},
    "dense": lambda: {"bias": torch.randn(5, 6).requires_grad_(), "mask": torch.rand(2, 1, 5, 6) < 0.7},
    "dropout": lambda: {"dropout": 0.5},
}


def tensors(n=5, m=6):
    return [torch.randn(2, h, length, 8, requires_grad=True) for h, length in ((4, n), (2, m), (2, m))]


#: Every option on the native core; on the others, which differ in what they compute with, two that hold most.
_QUICK = [
    (name, backend)
    for name in OPTIONS
    for backend in BACKENDS
    if backend == "cpu" or name in ("combined", "table")
]


@pytest.mark.parametrize(
    "name, backend",
    [
        pytest.param(name, backend, marks=() if (name, backend) in _QUICK else pytest.mark.slow)
        for backend in BACKENDS
        for name in OPTIONS
    ],
)
def test_opcheck(name, backend):
    for query_layout in (lambda q: q, lambda q: q.detach().transpose(1, 2).contiguous().transpose(1, 2)):
        q, k, v = tensors()
        p = lower(query_layout(q), k, v, **OPTIONS[name]())
        leaves = {n: t.detach().requires_grad_() for n, t in tensor_fields(p).items() if t.requires_grad}
        p = replace(p, **leaves)
        arguments = (
            p.query, p.key, p.value, p.ranges, p.visible, p.bias, p.slopes, p.table, p.offset, p.sinks, p.seed,
            p.scale, p.softcap, p.dropout,
        )  # fmt: skip
        with sightline.backend(backend):
            opcheck(torch.ops.sightline.attention.default, arguments)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "dropout"])
def test_compiles_into_one_graph(name):
    options = OPTIONS[name]()
    q, k, v = tensors()

    def run(q, k, v):
        return sightline.attention(q * 2, k, v, **options).relu()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    wanted, found = run(q, k, v), compiled(q, k, v)
    close(found, wanted, 1e-6)
    a = torch.autograd.grad(found.sum(), (q, k, v))
    b = torch.autograd.grad(wanted.sum(), (q, k, v))
    for x, y in zip(a, b, strict=True):
        close(x, y, 1e-5)


def test_masks_made_inside_a_compiled_function():
    ids, lengths = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([5, 4])

    def run(q, k, v, ids, lengths):
        mask = sightline.causal() & sightline.documents(ids) & sightline.lengths(lengths) | sightline.prefix(
            1
        )
        return sightline.attention(q, k, v, mask=mask)

    inputs = (*(x.detach() for x in tensors(5, 5)), ids, lengths)
    whole = torch.__version__ >= "2.7"  # the compiler of 2.6 leaves the graph for an & of ours
    close(torch.compile(run, fullgraph=whole, backend="aot_eager")(*inputs), run(*inputs), 1e-6)


def test_exports_with_dynamic_lengths():
    class Model(torch.nn.Module):
        def forward(self, q, k, v):
            return sightline.attention(q, k, v, mask=sightline.causal())

    n, m = torch.export.Dim("n", min=2, max=1000), torch.export.Dim("m", min=2, max=1000)
    example = tuple(x.detach() for x in tensors())
    program = torch.export.export(Model(), example, dynamic_shapes=({2: n}, {2: m}, {2: m}))
    other = tuple(x.detach() for x in tensors(9, 11))
    close(program.module()(*other), Model()(*other), 1e-6)


def test_inference_mode():
    q, k, v = (x.detach() for x in tensors())
    with torch.inference_mode():
        context, A = sightline.attention(q, k, v, return_matrix=True)
        inside = A.entropy()
    close(context, sightline.attention(q, k, v), 0)
    close(A.entropy(), inside, 0)
    with torch.inference_mode():
        made_inside = sightline.AttentionMatrix(q * 1, k * 1)
    close(made_inside[0, 0], sightline.AttentionMatrix(q, k)[0, 0].dense(), 1e-6)


def test_autocast_computes_in_the_region_s_dtype():
    q, k, v = tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        context = sightline.attention(q, k, v)
    assert context.dtype == torch.bfloat16
    context.float().sum().backward()
    assert q.grad.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        doubles = [x.detach().double() for x in (q, k, v)]
        assert sightline.attention(*doubles).dtype == torch.float64


def test_meta_tensors_give_shapes():
    q, k, v = (x.detach().to("meta") for x in tensors())
    context = sightline.attention(q, k, v, mask=sightline.causal())
    assert (context.shape, context.device.type) == (torch.Size([2, 4, 5, 8]), "meta")


def test_context_is_laid_out_like_the_query():
    x = torch.randn(2, 5, 4, 8)
    context = sightline.attention(*[x.transpose(1, 2)] * 3)
    assert context.transpose(1, 2).is_contiguous()
    assert sightline.attention(*[x.transpose(1, 2).contiguous()] * 3).is_contiguous()
