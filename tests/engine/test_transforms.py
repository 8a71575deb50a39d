"""Derivatives of every order and direction, and vmap, against the definition under the same transforms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import sightline
from cases import close
from sightline import reference
from sightline.backends import Work, choose
from sightline.backends.problem import GRADIENTS
from sightline.common import dispatcher
from sightline.core import library
from sightline.lowering import lower

B, H, G, N, M, D, E = 2, 4, 2, 5, 7, 3, 2


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


#: Every mask, bias and number: what attention is given besides query, key and value; floats are followed.
OPTIONS = {
    "plain": lambda: {},
    "causal": lambda: {"mask": sightline.causal()},
    "window": lambda: {"mask": sightline.window(1, 2)},
    "lengths": lambda: {"mask": sightline.lengths([0, 4])},
    "documents": lambda: {"mask": sightline.documents(torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 1, 1, 2, 2, 2]))},
    "union": lambda: {"mask": sightline.prefix(2) | sightline.window(0, 0)},
    "dense": lambda: {"mask": torch.rand(B, 1, N, M) < 0.6},
    "bias": lambda: {"bias": double(1, H, N, M)},
    "one row of bias": lambda: {"bias": double(M)},
    "hiding bias": lambda: {"bias": double(N, M).masked_fill(torch.rand(N, M) < 0.3, -torch.inf)},
    "slopes": lambda: {"slopes": torch.rand(H).double()},
    "table": lambda: {"table": double(H, 5)},
    "one table": lambda: {"table": double(1, 5)},
    "sinks": lambda: {"sinks": double(H), "mask": sightline.lengths([0, 4])},
    "softcap": lambda: {"softcap": torch.tensor(1.5).double(), "scale": torch.tensor(0.7).double()},
    "all": lambda: {
        "mask": sightline.causal(), "slopes": torch.rand(H).double(), "sinks": double(H),
        "softcap": 2.0, "scale": -0.4,
    },
}  # fmt: skip


class Problem:
    """Attention as a function of all tensors that derivatives reach."""

    def __init__(self, name):
        self.options = OPTIONS[name]()
        self.names = [
            n for n, x in self.options.items() if isinstance(x, torch.Tensor) and x.is_floating_point()
        ]
        self.inputs = (
            double(B, H, N, D),
            double(B, G, M, D),
            double(B, G, M, E),
            *(self.options[n] for n in self.names),
        )

    def of(self, attend):
        def function(query, key, value, *others):
            options = {**self.options, **dict(zip(self.names, others, strict=True))}
            if "slopes" in options:
                options["bias"] = sightline.alibi(options.pop("slopes"))
            if "table" in options:
                options["bias"] = sightline.relative(options.pop("table"))
            return attend(query, key, value, **options)

        return function

    def both(self):
        return self.of(sightline.attention), self.of(defined)

    def directions(self):
        """A tangent of each input; none where a bias hides."""
        return tuple(torch.where(x.isinf(), 0, torch.randn_like(x)) for x in self.inputs)


def defined(*args, **options):
    return reference.attention(*args, **options).context


def compare(found, wanted, tolerance=1e-10):
    if isinstance(found, torch.Tensor):
        return close(found, wanted, tolerance)
    for a, b in zip(found, wanted, strict=True):
        compare(a, b, tolerance)


everywhere = pytest.mark.parametrize("name", OPTIONS)


def number(f):
    """A number that depends on every entry of the result, and not linearly."""
    return lambda *inputs: f(*inputs).sin().mul(torch.arange(1, 1 + E)).sum()


def every(problem):
    return tuple(range(len(problem.inputs)))


@everywhere
def test_reverse_mode(name):
    problem = Problem(name)
    ours, definition = (grad(number(f), every(problem))(*problem.inputs) for f in problem.both())
    compare(ours, definition)
    cotangent = double(B, H, N, E)
    ours, definition = (vjp(f, *problem.inputs)[1](cotangent) for f in problem.both())
    compare(ours, definition)


@everywhere
def test_forward_mode(name):
    problem = Problem(name)
    directions = problem.directions()
    ours, definition = (jvp(f, problem.inputs, directions) for f in problem.both())
    compare(ours, definition)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(problem.inputs, directions, strict=True)]
        compare(tuple(forward_ad.unpack_dual(problem.both()[0](*duals))), definition)


@everywhere
@pytest.mark.parametrize("outer", ["reverse", "forward"])
@pytest.mark.parametrize("inner", ["reverse", "forward"])
def test_second_order(name, inner, outer):
    problem = Problem(name)
    directions, again = problem.directions(), problem.directions()

    def second(f):
        def first(*inputs):
            if inner == "reverse":
                return grad(number(f), every(problem))(*inputs)
            return jvp(f, inputs, directions)[1]

        if outer == "forward":
            return jvp(first, problem.inputs, again)[1]
        outputs, pull = vjp(first, *problem.inputs)
        return pull(again if inner == "reverse" else outputs.cos())

    ours, definition = (second(f) for f in problem.both())
    compare(ours, definition, 1e-9)


@everywhere
def test_double_backward(name):
    problem = Problem(name)
    directions = problem.directions()

    def second(f):
        inputs = [x.clone().requires_grad_() for x in problem.inputs]
        first = torch.autograd.grad(number(f)(*inputs), inputs, create_graph=True)
        return first, torch.autograd.grad(first, inputs, directions)

    ours, definition = (second(f) for f in problem.both())
    compare(ours, definition, 1e-9)


@everywhere
def test_double_backward_where_others_listen(name):
    """Under a profiler the call goes through the operator."""
    problem = Problem(name)

    def second(f):
        inputs = [x.clone().requires_grad_() for x in problem.inputs]
        (first,) = torch.autograd.grad(number(f)(*inputs), inputs[:1], create_graph=True)
        return torch.autograd.grad(first.square().sum(), inputs)

    with torch.profiler.profile():
        ours = second(problem.both()[0])
    compare(ours, second(problem.both()[1]), 1e-9)


@pytest.mark.parametrize("name", ["causal", "slopes", "table", "sinks", "softcap", "dense"])
def test_gradgradcheck(name):
    problem = Problem(name)
    inputs = [x.requires_grad_() for x in problem.inputs]
    ours = problem.both()[0]
    assert torch.autograd.gradcheck(ours, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, inputs, fast_mode=True, check_fwd_over_rev=True)


def test_third_order():
    problem = Problem("causal")

    def third(f):
        def along(x):
            return number(f)(x, *problem.inputs[1:])

        return jvp(
            lambda x: grad(lambda y: grad(along)(y).square().sum())(x),
            problem.inputs[:1],
            (problem.inputs[0].cos(),),
        )

    ours, definition = (third(f) for f in problem.both())
    compare(ours, definition, 1e-9)


@pytest.mark.parametrize("transform", [jacrev, jacfwd, hessian])
@pytest.mark.parametrize("name", ["all", "one table", "one row of bias"])
def test_jacobians(transform, name):
    problem = Problem(name)

    def whole(f):
        function = number(f) if transform is hessian else f
        at = len(problem.inputs) - 1
        return transform(lambda query, last: function(query, *problem.inputs[1:-1], last), (0, 1))(
            problem.inputs[0], problem.inputs[at]
        )

    ours, definition = (whole(f) for f in problem.both())
    for a, b in zip(ours, definition, strict=True):
        compare(a, b, 1e-9)


def batches(problem, samples=3):
    """Every input with an axis of samples, at a place of its own."""
    stacked = []
    for at, x in enumerate(problem.inputs):
        several = torch.stack([x + 0.1 * torch.randn_like(x) for _ in range(samples)], dim=at % (x.dim() + 1))
        stacked.append(several.abs() if x.dim() == 0 else several)
    return stacked, tuple(at % (x.dim() + 1) for at, x in enumerate(problem.inputs))


def one(inputs, axes, sample):
    return [x if axis is None else x.select(axis, sample) for x, axis in zip(inputs, axes, strict=True)]


@everywhere
@pytest.mark.parametrize("which", ["all", "first", "last", "all but the first"])
def test_vmap_is_a_loop_over_samples(name, which):
    problem = Problem(name)
    inputs, axes = batches(problem)
    shared = {
        "all": [],
        "first": range(1, len(axes)),
        "last": range(len(axes) - 1),
        "all but the first": [0],
    }[which]
    axes = tuple(None if at in shared else axis for at, axis in enumerate(axes))
    inputs = [
        x if axis is not None else own for x, axis, own in zip(inputs, axes, problem.inputs, strict=True)
    ]
    ours, definition = problem.both()
    each = [definition(*one(inputs, axes, sample)) for sample in range(3)]
    compare(vmap(ours, axes)(*inputs), torch.stack(each))
    gradients = vmap(grad(number(ours), every(problem)), axes)(*inputs)
    each = [grad(number(definition), every(problem))(*one(inputs, axes, sample)) for sample in range(3)]
    compare(gradients, tuple(torch.stack(x) for x in zip(*each, strict=True)))
    # And the other way around: the gradient of what a vmap gives.
    floats = [x for x, axis in zip(inputs, axes, strict=True)]
    compare(
        grad(lambda *x: vmap(number(ours), axes)(*x).square().sum(), every(problem))(*floats),
        grad(
            lambda *x: sum(number(definition)(*one(x, axes, sample)).square() for sample in range(3)),
            every(problem),
        )(*floats),
        1e-9,
    )


@everywhere
def test_vmap_of_a_hessian_product(name):
    problem = Problem(name)
    inputs, axes = batches(problem)
    directions = problem.directions()

    def product(f):
        return lambda *x: jvp(grad(number(f), every(problem)), x, directions)[1]

    ours, definition = problem.both()
    each = [product(definition)(*one(inputs, axes, sample)) for sample in range(3)]
    compare(vmap(product(ours), axes)(*inputs), tuple(torch.stack(x) for x in zip(*each, strict=True)), 1e-9)


MASKS = {
    "lengths": (sightline.lengths, lambda: torch.tensor([[3, 5], [1, 2], [0, 4]])),
    "causal": (lambda x: sightline.causal(x), lambda: torch.tensor([[0, 1], [1, 2], [2, 3]])),
    "documents": (sightline.documents, lambda: torch.randint(0, 2, (3, N)).sort().values),
    "dense": (sightline.dense, lambda: torch.rand(3, B, 1, N, N) < 0.6),
    "tensor": (lambda x: x, lambda: torch.rand(3, B, 1, N, N) < 0.6),
    "ranges": (lambda x: sightline.ranges(x, x + 2), lambda: torch.randint(0, N, (3, B, 1, N))),
    "both": (lambda x: sightline.lengths(x) & sightline.causal() | sightline.prefix(1), lambda: torch.tensor([[3, 5], [1, 2], [0, 4]])),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks_made_inside_vmap(name):
    make, draw = MASKS[name]
    of, (query, key, value) = draw(), double(3, 3, B, H, N, E).unbind()

    def masked(q, k, v, x):
        return sightline.attention(q, k, v, mask=make(x))

    each = [masked(query[i], key[i], value[i], of[i]) for i in range(3)]
    compare(vmap(masked)(query, key, value, of), torch.stack(each))
    gradients = vmap(grad(lambda *x: masked(*x).sin().sum()))(query, key, value, of)
    each = [grad(lambda *x: masked(*x).sin().sum())(query[i], key[i], value[i], of[i]) for i in range(3)]
    compare(gradients, torch.stack(each))


@pytest.mark.parametrize(
    "transform", ["grad", "vmap", *(pytest.param(name, marks=pytest.mark.slow) for name in ("jvp", "scale"))]
)
def test_transforms_inside_a_compiled_function(transform):
    query, key, value = torch.randn(3, 1, 2, 5, 4)
    attend = lambda q: sightline.attention(q, key, value)  # noqa: E731
    functions = {
        "grad": lambda q: grad(lambda x: attend(x).sin().sum())(q),
        "vmap": lambda q: vmap(sightline.attention)(*[x[None] for x in (q, q, q)]),
        "jvp": lambda q: jvp(attend, (q,), (q,))[1],
        "scale": lambda q: sightline.attention(q, key, value, scale=q.mean()),
    }
    function = functions[transform]
    close(torch.compile(function, backend="aot_eager")(query), function(query), 1e-6)


def test_vmap_inside_vmap():
    query, key, value = double(3, 2, B, H, N, D), double(3, B, G, M, D), double(B, G, M, E)
    ours = vmap(vmap(lambda q, k: sightline.attention(q, k, value), (0, None)))(query, key)
    each = [[sightline.attention(query[i, j], key[i], value) for j in range(2)] for i in range(3)]
    compare(ours, torch.stack([torch.stack(row) for row in each]))


@pytest.mark.filterwarnings("error::UserWarning")  # PyTorch warns of its slow fallback
def test_vmap_is_one_call(monkeypatch):
    from sightline.call import operator

    calls = []
    real = operator._attention
    monkeypatch.setattr(operator, "_attention", lambda *a: calls.append(a[0].shape) or real(*a))
    query, key, value = torch.randn(3, 7, 1, 2, 5, 4)
    vmap(lambda *x: sightline.attention(*x, mask=sightline.causal()))(query, key, value)
    assert calls == [torch.Size([7, 2, 5, 4])]


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_dropout_under_vmap(randomness):
    query, key, value = double(4, B, H, N, D), double(B, G, M, D), double(B, G, M, E)

    def dropped(q):
        return sightline.attention(q, key, value, dropout=0.4)

    torch.manual_seed(3)
    first = vmap(dropped, randomness=randomness)(query[:1].expand(4, -1, -1, -1, -1))
    assert (first[0] == first[1]).all() == (randomness == "same")
    torch.manual_seed(3)
    compare(vmap(dropped, randomness=randomness)(query[:1].expand(4, -1, -1, -1, -1)), first, 0)
    if randomness == "same":
        torch.manual_seed(3)
        compare(first[2], dropped(query[0]))


def test_dropout_keeps_its_pattern_in_every_derivative():
    query, key, value = double(1, H, 3, 2), double(1, G, M, 2), double(1, G, M, 2)

    def dropped(q):
        torch.manual_seed(5)
        return sightline.attention(q, key, value, dropout=0.4)

    q = query.requires_grad_()
    assert torch.autograd.gradcheck(dropped, [q], check_forward_ad=True)
    assert torch.autograd.gradgradcheck(dropped, [q])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"mask": sightline.causal()}, {"bias": torch.randn(H, N, M)}])
def test_kernels_and_dtypes(dtype, options):
    inputs = [x.to(dtype) for x in Problem("plain").inputs]
    directions = [torch.randn_like(x) for x in inputs]
    wide = [x.double() for x in inputs]
    far = [x.double() for x in directions]
    tolerance = 5e-6 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps

    def pairs(attend, x, t):
        f = lambda *a: attend(*a, **options)  # noqa: E731
        yield jvp(f, tuple(x), tuple(t))
        yield grad(lambda *a: f(*a).float().square().sum(), (0, 1, 2))(*x)
        yield vjp(lambda *a: jvp(f, a, tuple(t))[1], *x)[1](torch.ones(B, H, N, E, dtype=x[0].dtype))
        yield jvp(lambda *a: grad(lambda *b: f(*b).square().sum(), (0, 1, 2))(*a), tuple(x), tuple(t))

    for found, wanted in zip(
        pairs(sightline.attention, inputs, directions), pairs(defined, wide, far), strict=True
    ):
        leaves = zip(
            torch.utils._pytree.tree_leaves(found), torch.utils._pytree.tree_leaves(wanted), strict=True
        )
        for a, b in leaves:
            assert a.dtype == dtype
            close(a, b, tolerance * max(1, float(b.abs().max())))


LEVELS = library.levels() if library.available() is None else []


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_native_tangents_of_many_shapes(level, which, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    options = [
        {}, {"mask": sightline.causal()}, {"mask": sightline.window(9, 3)}, {"softcap": 2.0, "scale": -0.5},
        {"mask": torch.rand(2, 1, 1, 130) < 0.5, "sinks": torch.randn(4)},
        {"bias": sightline.alibi(torch.rand(4))},
    ]  # fmt: skip
    for dtype in (torch.float32, torch.bfloat16):
        for at, (n, d, e) in enumerate(
            [(1, 3, 2), (70, 16, 24), (129, 33, 17), (200, 64, 64), (5, 8, 8), (64, 1, 1)]
        ):
            heads = 2, 4, n, d
            inputs = [torch.randn(*heads), torch.randn(2, 2, 130, d), torch.randn(2, 2, 130, e)]
            inputs = [x.to(dtype) for x in inputs]
            tangents = {
                name: torch.randn_like(inputs[i]) for i, name in enumerate(GRADIENTS[:3]) if i in which
            }
            problem = lower(*inputs, **options[at])
            found = choose(problem, Work("tangent", moved=tuple(tangents))).tangent(problem, tangents)
            wide = lower(*(x.double() for x in inputs), **options[at])
            wanted = choose(wide, Work("tangent")).tangent(
                wide, {name: x.double() for name, x in tangents.items()}
            )
            for a, b in zip(found, wanted, strict=True):
                most = float(b.where(b.isfinite(), 0).abs().max())
                eps = max(torch.finfo(a.dtype).eps, torch.finfo(torch.float32).eps)
                close(a, b, 20 * eps * max(1, most))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hides", ["lengths", "causal", "dense", "bias"])
@pytest.mark.parametrize("hidden", [math.nan, math.inf])
def test_what_is_hidden_stays_hidden(dtype, hides, hidden):
    """In tangents and second derivatives, too."""
    options = {
        "lengths": {"mask": sightline.lengths([6])},
        "causal": {"mask": sightline.causal()},
        "dense": {"mask": torch.tensor([[True] * 6 + [False]] * 5)},
        "bias": {"bias": torch.tensor([0.0] * 6 + [-math.inf])},
    }[hides]
    inputs = [torch.randn(1, 2, length, 3).to(dtype) for length in (5, 7, 7)]
    directions = [torch.randn_like(x) for x in inputs]
    spoiled = [inputs[0], *(x.clone() for x in inputs[1:])]
    for x in spoiled[1:]:
        x[:, :, 6] = hidden

    def results(x, t):
        f = lambda *a: sightline.attention(*a, **options)[:, :, :4]  # noqa: E731
        yield from jvp(f, tuple(x), tuple(t))
        yield from jvp(lambda *a: grad(lambda *b: f(*b).square().sum(), (0, 1, 2))(*a), tuple(x), tuple(t))[1]

    pairs = list(zip(results(spoiled, directions), results(inputs, directions), strict=True))
    if hides == "causal":
        # The last query sees the last key, and passes its NaN on to every key and value that it sees.
        pairs = [(found[:, :, :4], wanted[:, :, :4]) for found, wanted in pairs if found.shape[2] < 7]
    for found, wanted in pairs:
        close(found, wanted, 1e-12 if dtype == torch.float64 else 0.02)


def test_rows_that_see_nothing():
    query, key, value = double(1, 1, 3, 2), double(1, 1, 4, 2), double(1, 1, 4, 2)
    f = lambda q: sightline.attention(q, key, value, mask=sightline.lengths([0]))  # noqa: E731
    for found in (jvp(f, (query,), (query,))[1], hessian(lambda q: f(q).square().sum())(query)):
        assert not found.any()
    nobody = sightline.attention(query, key[:, :, :0], value[:, :, :0])
    compare(
        jvp(lambda q: sightline.attention(q, key[:, :, :0], value[:, :, :0]), (query,), (query,)),
        (nobody, nobody),
    )


def test_memory_is_linear():
    """Nothing that second derivatives keep is as large as the matrix."""
    n = 2048
    query, key, value = torch.randn(3, 1, 1, n, 8)
    with torch.profiler.profile(profile_memory=True) as profile:
        jvp(
            lambda q: grad(lambda x: sightline.attention(x, key, value).square().sum())(q), (query,), (query,)
        )
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest <= 4 * n * n


def test_layers_and_per_sample_gradients():
    layer = sightline.nn.MultiheadAttention(8, 2, batch_first=True)
    parameters = dict(layer.named_parameters())
    x = torch.randn(4, 5, 8)

    def loss(parameters, sample):
        out, _ = torch.func.functional_call(layer, parameters, (sample[None],) * 3, {"need_weights": False})
        return out.square().sum()

    found = vmap(grad(loss), (None, 0))(parameters, x)
    for name in parameters:
        each = torch.stack([grad(loss)(parameters, sample)[name] for sample in x])
        close(found[name], each, 1e-5)


def test_learned_temperature_and_cap_in_training():
    query, key, value = torch.randn(3, 1, 2, 6, 4)
    scale = torch.tensor([0.5], requires_grad=True)
    cap = torch.tensor(2.0, requires_grad=True)
    sightline.attention(query, key, value, scale=scale, softcap=cap).square().sum().backward()
    wide = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, 2.0)]
    defined(query, key, value, scale=wide[0], softcap=wide[1]).square().sum().backward()
    close(scale.grad[0], wide[0].grad, 1e-5)
    close(cap.grad, wide[1].grad, 1e-5)
    # A scale of which nobody wants a gradient changes no bit.
    close(
        sightline.attention(query, key, value, scale=scale),
        sightline.attention(query, key, value, scale=0.5),
        0,
    )


@pytest.mark.parametrize("name", ["scale", "softcap"])
def test_what_no_number_is(name):
    query, key, value = torch.randn(3, 1, 2, 6, 4)
    for wrong in (torch.ones(2), torch.tensor(True), torch.tensor(float("nan"), requires_grad=True)):
        with pytest.raises((TypeError, ValueError), match=name):
            sightline.attention(query, key, value, **{name: wrong})


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")
def test_linearize_sees_the_operators():
    query, key, value = Problem("causal").inputs
    f = lambda q: sightline.attention(q, key, value)  # noqa: E731
    output, push = torch.func.linearize(f, query)
    tangent = torch.randn_like(query)
    compare((output, push(tangent)), jvp(f, (query,), (tangent,)))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_override_keeps_what_worked():
    import torch.nn.functional as F

    query, key, value = double(3, 1, 2, 6, 4).unbind()
    f = lambda q: F.scaled_dot_product_attention(q, key, value).square().sum()  # noqa: E731
    wanted = grad(f)(query), vmap(grad(f))(torch.stack([query, key]))
    second = hessian(lambda q: defined(q, key, value).square().sum())(query).sum((0, 1, 2, 3))
    with sightline.sdpa_override():
        compare((grad(f)(query), vmap(grad(f))(torch.stack([query, key]))), wanted)
        q = query.clone().requires_grad_()
        (first,) = torch.autograd.grad(f(q), q, create_graph=True)
        compare(torch.autograd.grad(first.sum(), q), (second,))
        with forward_ad.dual_level():
            dual = F.scaled_dot_product_attention(forward_ad.make_dual(query, key), key, value)
            found = tuple(forward_ad.unpack_dual(dual))
    compare(found, jvp(lambda q: defined(q, key, value), (query,), (key,)))


def test_this_pytorch_tells_of_transforms():
    """Where it stops to, derivatives would get lost without a word."""
    assert dispatcher._OFFERED
