"""A linear layer's product by every way: exact to rounding, with PyTorch's gradients, under all that surrounds it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import sightline
from sightline.nn import Linear
from sightline.products import layer, linear, operator, ways
from sightline.products.ways import DTYPES, WAYS

ABLE = [(name, dtype) for name, way in WAYS.items() for dtype in DTYPES if way.why_not(dtype) is None]
IDS = [f"{name}-{str(dtype).removeprefix('torch.')}" for name, dtype in ABLE]


@pytest.fixture(params=ABLE, ids=IDS)
def way(request, monkeypatch):
    name, dtype = request.param
    monkeypatch.setattr(layer, "_NO_MATTER", dict.fromkeys(DTYPES, 1))
    with sightline.product(name):
        yield name, dtype


def operands(
    shape: tuple[int, ...], outputs: int, dtype: torch.dtype, bias: bool = True
) -> list[Tensor | None]:
    x, weight = torch.randn(shape), torch.randn(outputs, shape[-1]) / shape[-1] ** 0.5
    given = [x, weight, torch.randn(outputs) if bias else None]
    return [None if one is None else one.to(dtype).requires_grad_() for one in given]


def results(function, given, upstream) -> list[Tensor]:
    output = function(*given)
    wanted = [one for one in given if one is not None]
    return [output, *torch.autograd.grad(output, wanted, upstream.to(output.dtype))]


SHAPES = [((70,), 33), ((3, 70), 33), ((2, 5, 64), 200), ((300, 96), 129), ((1, 1, 256), 256), ((40, 17), 1)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape, outputs", SHAPES)
def test_errors_are_at_most_twice_pytorchs(way, shape, outputs, bias):
    _, dtype = way
    given = operands(shape, outputs, dtype, bias)
    upstream = torch.randn(*shape[:-1], outputs).to(dtype)
    ours, theirs = results(linear, given, upstream), results(F.linear, given, upstream)
    wide = [None if one is None else one.detach().double().requires_grad_() for one in given]
    exact = results(F.linear, wide, upstream.double())
    for mine, other, wanted in zip(ours, theirs, exact, strict=True):
        assert mine.shape == other.shape and mine.dtype == other.dtype
        error, allowed = ((found.double() - wanted).norm() / wanted.norm() for found in (mine, other))
        assert error <= 2 * allowed + torch.finfo(dtype).eps / 8, (float(error), float(allowed))


def test_any_layout(way):
    _, dtype = way
    x, weight = torch.randn(64, 3, 40).to(dtype), torch.randn(40, 50).to(dtype)
    for given in (x.transpose(0, 1), x[:, 1:2], x.permute(2, 1, 0)[:, :, :40], x[:1].expand(5, 3, 40)):
        torch.testing.assert_close(
            linear(given, weight.t()), F.linear(given, weight.t()), rtol=0.02, atol=0.02
        )


def test_the_same_call_gives_the_same_bits(way):
    _, dtype = way
    given = operands((200, 128), 256, dtype)
    upstream = torch.randn(200, 256)
    for once, again in zip(results(linear, given, upstream), results(linear, given, upstream), strict=True):
        assert torch.equal(once, again)


def test_what_is_large_is_converted_by_parts(monkeypatch):
    given = operands((130, 64), 90, torch.bfloat16)
    with sightline.product("float32"):
        whole = results(linear, given, torch.ones(130, 90))
        monkeypatch.setattr(ways, "CONVERTED", 4 * 64 * 7)
        monkeypatch.setattr(ways, "CONVERTED_FOR_FEW", 4 * 64 * 5)
        parts = results(linear, given, torch.ones(130, 90))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0.01, atol=0.01)


def test_second_derivatives_are_pytorchs(way):
    _, dtype = way
    x, weight, bias = operands((6, 64), 48, dtype)

    def penalty(function) -> tuple[Tensor, ...]:
        output = function(x, weight, bias)
        (gradient,) = torch.autograd.grad((output**2).sum(), x, create_graph=True)
        return torch.autograd.grad((gradient**2).sum(), (x, weight, bias))

    for ours, theirs in zip(penalty(linear), penalty(F.linear), strict=True):
        rtol = 1e-4 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * float(theirs.abs().max()))


@pytest.mark.parametrize(
    "transform", ["grad", "vmap", "jvp", "vmap of grad", "batched gradients", "compile", "export"]
)
def test_transforms_and_compilers(way, transform):
    _, dtype = way
    own = Linear(32, 24).to(dtype)
    x = torch.randn(20, 32).to(dtype)

    def loss(function):
        return lambda x: (function(x, own.weight, own.bias).float() ** 2).sum()

    def run(function):
        if transform == "grad":
            return torch.func.grad(loss(function))(x)
        if transform == "vmap":
            return torch.func.vmap(lambda row: function(row, own.weight, own.bias))(x)
        if transform == "jvp":
            return torch.func.jvp(lambda x: function(x, own.weight, own.bias), (x,), (x,))[1]
        if transform == "vmap of grad":
            return torch.func.vmap(torch.func.grad(loss(function)))(x)
        leaf = x.clone().requires_grad_()
        output = function(leaf, own.weight, own.bias)
        upstream = torch.ones(3, *output.shape, dtype=dtype)
        return torch.autograd.grad(output, leaf, upstream, is_grads_batched=True)[0]

    if transform == "compile":
        found = torch.compile(own, backend="eager", fullgraph=True)(x)
        wanted = torch.nn.Linear.forward(own, x)
    elif transform == "export":
        found = torch.export.export(own, (x,)).module()(x)
        wanted = torch.nn.Linear.forward(own, x)
    else:
        found, wanted = run(linear), run(F.linear)
    rtol = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=rtol * float(wanted.detach().abs().max()))


@pytest.mark.parametrize("name", [name for name in WAYS if name != "native"])  # which is for float32
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("of_x", [torch.float32, torch.bfloat16, torch.float64])
def test_autocast(name, dtype, of_x):
    if WAYS[name].why_not(dtype) is not None:
        pytest.skip(str(WAYS[name].why_not(dtype)))
    own = Linear(64, 48)
    x = torch.randn(30, 64).to(of_x)
    if of_x == torch.float64:
        own.double()
    with torch.autocast("cpu", dtype=dtype), sightline.product(name):
        found = own(x)
        gradients = torch.autograd.grad(found.float().sum(), tuple(own.parameters()))
    with torch.autocast("cpu", dtype=dtype):
        wanted = torch.nn.Linear.forward(own, x)
        expected = torch.autograd.grad(wanted.float().sum(), tuple(own.parameters()))
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
    for one, other in zip(gradients, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05 * float(other.abs().max()))


def test_a_layer_is_pytorchs(tmp_path):
    torch.manual_seed(0)
    ours = Linear(8, 4)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(8, 4)
    assert isinstance(ours, torch.nn.Linear)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert Linear(8, 4, bias=False, dtype=torch.bfloat16, device="meta").weight.is_meta


@pytest.mark.parametrize(
    "shapes", [((2, 3), (4, 5)), ((2, 3), (3,)), ((3,), (4, 3), (5,)), ((), (4, 3))], ids=str
)
def test_what_does_not_fit_raises_as_in_pytorch(way, shapes):
    _, dtype = way
    given = [torch.ones(shape, dtype=dtype) for shape in shapes]

    def outcome(function):
        try:
            return function(*given).shape
        except (RuntimeError, IndexError) as error:
            return type(error)

    assert outcome(linear) == outcome(F.linear)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("shape", [(0, 8), (2, 0, 8), (5, 0)])
def test_empty(way, shape):
    _, dtype = way
    own = Linear(shape[-1], 4).to(dtype)
    output = own(torch.ones(shape, dtype=dtype))
    assert output.shape == (*shape[:-1], 4)
    output.sum().backward()
    assert own.weight.grad is not None


@pytest.mark.parametrize("autocast", [False, True])
def test_compiled_layers_choose_when_they_run(way, autocast):
    """With gradients, for any number of rows."""
    name, dtype = way
    if autocast and (dtype == torch.float32 or name == "onednn"):
        pytest.skip("autocast is for halves, which oneDNN may refuse")
    torch._dynamo.reset()
    own = Linear(48, 40).to(torch.float32 if autocast else dtype)
    compiled = torch.compile(own, backend="aot_eager", fullgraph=True, dynamic=True)
    for rows in (4, 70, 0):
        x = torch.randn(2, rows, 48).to(own.weight.dtype).requires_grad_()
        given = (x, own.weight, own.bias)
        with torch.autocast("cpu", dtype=dtype if autocast else torch.bfloat16, enabled=autocast):
            found, wanted = compiled(x), F.linear(*given)
        assert found.dtype == wanted.dtype == dtype
        upstream = torch.randn_like(wanted)
        tolerance = 1e-4 if dtype == torch.float32 else 0.05
        pairs = zip(
            (found, *torch.autograd.grad(found, given, upstream)),
            (wanted, *torch.autograd.grad(wanted, given, upstream)),
            strict=True,
        )
        for ours, theirs in pairs:
            atol = tolerance * float(theirs.detach().abs().max()) if rows else 0
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=atol)


def test_compiled_layers_are_an_operator_only_where_it_pays():
    own = Linear(8, 4).bfloat16()
    seen = []

    def backend(graph, inputs):
        seen.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph

    for name in ("pytorch", "float32"):
        torch._dynamo.reset()
        with sightline.product(name):
            torch.compile(own, backend=backend, fullgraph=True)(torch.ones(2, 8).bfloat16())
    assert not any("sightline" in target for target in seen[0])
    assert any("sightline.linear" in target for target in seen[1])


def test_exported_layers_run_without_sightline(way):
    _, dtype = way
    program = torch.export.export(Linear(8, 4).to(dtype), (torch.ones(2, 8, dtype=dtype),))
    assert "sightline" not in str(program.graph)


def test_the_operators_keep_their_word():
    x, weight, bias = (one.detach().requires_grad_() for one in operands((5, 8), 4, torch.float32))
    torch.library.opcheck(operator.linear_operator, (x, weight, bias))
    torch.library.opcheck(operator.linear_operator, (x, weight, None))
    torch.library.opcheck(
        operator.gradients_operator, (torch.ones(5, 4), x.detach(), weight.detach(), [True, False, True])
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_traced_by_jit_as_pytorchs(way):
    _, dtype = way
    own, x = Linear(64, 40).to(dtype), torch.randn(30, 64).to(dtype)
    traced = torch.jit.trace(own, (x,))
    assert "aten::linear" in str(traced.graph) and "PythonOp" not in str(traced.graph)
    torch.testing.assert_close(traced(x), own(x), rtol=0.02, atol=0.02)


def test_what_comes_out_may_be_written_to(way):
    """By an activation in place, say, whatever the axes."""
    _, dtype = way
    own = Linear(64, 40).to(dtype)
    x = torch.randn(3, 30, 64).to(dtype)
    torch.nn.functional.relu_(own(x)).float().sum().backward()
    found, own.weight.grad = own.weight.grad, None
    torch.nn.functional.relu(own(x)).float().sum().backward()
    torch.testing.assert_close(found, own.weight.grad)
