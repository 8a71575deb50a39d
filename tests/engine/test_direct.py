"""A call skips the dispatcher only where nobody else takes part: everybody who does still sees the operator."""

import subprocess
import sys
import threading

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import sightline
from cases import close
from sightline.call import directly
from sightline.common import dispatcher as direct
from sightline.positions import kept_ranges


def tensors(requires_grad=False):
    return [torch.randn(1, 2, 6, 8, requires_grad=requires_grad) for _ in range(3)]


class SeenByDispatch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class SeenByFunction(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Subclass(torch.Tensor):
    seen = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen.append(str(func))
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.fixture
def operator_calls(monkeypatch):
    """How often the operator itself was called."""
    from sightline.call import operator

    calls = []
    real = operator.attention_operator
    monkeypatch.setattr(operator, "attention_operator", lambda *a: calls.append(1) or real(*a))
    return calls


def test_a_plain_call_skips_it(operator_calls):
    plain, recorded = sightline.attention(*tensors()), sightline.attention(*tensors(True))
    with torch.inference_mode():
        sightline.attention(*tensors())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sightline.attention(*tensors())
    assert plain.grad_fn is None and recorded.grad_fn is not None
    assert operator_calls == []


@pytest.mark.parametrize("options", [{}, {"mask": sightline.causal()}])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_both_ways_give_the_same(options, requires_grad, monkeypatch):
    q, k, v = tensors(requires_grad)
    results = []
    for quiet in (True, False):
        with monkeypatch.context() as patch:
            if not quiet:
                patch.setattr(direct, "is_quiet", lambda: False)
            context = sightline.attention(q, k, v, **options)
            grads = torch.autograd.grad(context.square().sum(), (q, k, v)) if requires_grad else ()
            results.append((context, *grads))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def _interleaved(b, h, n, d):
    return torch.randn(b, n, h, d).transpose(1, 2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": sightline.causal()},
        {"mask": sightline.window(2, 1)},
        {"mask": sightline.prefix(2)},
        {"mask": sightline.lengths([4, 0])},
        {"scale": 0.3},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("recorded", [False, True])
def test_without_a_problem_in_between(options, dtype, groups, recorded, monkeypatch):
    """The shortest way gives what the general one gives, to the bit, and memory laid out alike."""
    cases = [
        (_interleaved(2, 4, 70, 16), _interleaved(2, groups, 90, 16), _interleaved(2, groups, 90, 24)),
        (torch.randn(2, 4, 1, 16), torch.randn(2, groups, 300, 16), torch.randn(2, groups, 300, 16)),
        (torch.randn(2, 4, 3, 16), *torch.randn(2, 1, groups, 5, 16).expand(2, 2, groups, 5, 16)),
        (torch.randn(2, 4, 0, 16), torch.randn(2, groups, 5, 16), torch.randn(2, groups, 5, 16)),
        tuple(torch.randn(2, heads, 16, 5).transpose(2, 3) for heads in (4, groups, groups)),  # copied
        tuple(torch.randn(7, 2, heads, 8).permute(1, 2, 0, 3) for heads in (4, groups, groups)),
        tuple(torch.randn(2, heads, 20).unfold(2, 8, 1) for heads in (4, groups, groups)),  # rows overlap
        tuple(torch.randn(2, 1, 9, 8).expand(2, heads, 9, 8) for heads in (4, groups, groups)),
    ]
    for case in cases:
        given = [tensor.to(dtype, memory_format=torch.preserve_format) for tensor in case]
        results = []
        for shortest in (True, False):
            with monkeypatch.context() as patch:
                if not shortest:
                    patch.setattr(directly, "attend", lambda *given: None)
                results.append(_attended(given, options, recorded))
        for found, wanted in zip(*results, strict=True):
            assert torch.equal(found, wanted) and found.stride() == wanted.stride()


def _attended(given, options, recorded):
    """The context, then the gradients of the three where they are recorded."""
    given = [tensor.detach().requires_grad_(recorded) for tensor in given]
    context = sightline.attention(*given, **options)
    return context, *(torch.autograd.grad(context.square().sum(), given) if recorded else ())


def test_some_gradients_without_a_problem_in_between():
    """Each alone, of a sum, whose own gradient has no rows, and of what has no gradient at all."""
    given = [_interleaved(2, 4, 7, 8).requires_grad_() for _ in range(3)]
    wanted = torch.autograd.grad(sightline.attention(*given).sum(), given)
    for at in range(3):
        alone = [tensor.detach().requires_grad_(place == at) for place, tensor in enumerate(given)]
        close(torch.autograd.grad(sightline.attention(*alone).sum(), alone[at])[0], wanted[at], 0)
    context = sightline.attention(*given)
    assert torch.autograd.grad(context[..., :0].sum() * 0, given, allow_unused=True)[0].eq(0).all()


def test_derivatives_of_derivatives_without_a_problem_in_between():
    given = [torch.randn(1, 2, 4, 3, dtype=torch.float32, requires_grad=True) for _ in range(3)]

    def bowed(attend, tensors):
        first = torch.autograd.grad(attend(*tensors).square().sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum(one.square().sum() for one in first), tensors)

    wide = [tensor.detach().double().requires_grad_() for tensor in given]
    wanted = bowed(lambda q, k, v: torch.softmax(q @ k.mT / 3**0.5, -1) @ v, wide)
    for found, exact in zip(bowed(sightline.attention, given), wanted, strict=True):
        close(found.double(), exact, 1e-4)


def test_saved_tensors_may_come_back_elsewhere():
    """Hooks may give other memory, with other strides, for what was saved."""
    given = [_interleaved(2, 4, 7, 8).requires_grad_() for _ in range(3)]
    wanted = torch.autograd.grad(sightline.attention(*given).square().sum(), given)
    again = (
        lambda saved: saved.clone(),
        lambda saved: saved.transpose(2, 3).contiguous().transpose(2, 3),
        lambda saved: saved.as_subclass(Subclass),
    )
    for back in again:
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda saved: saved.detach(), lambda saved, back=back: back(saved) if saved.dim() == 4 else saved
        )
        with hooks:
            context = sightline.attention(*given)
        for found, gradient in zip(torch.autograd.grad(context.square().sum(), given), wanted, strict=True):
            close(found, gradient, 1e-6)


def test_the_shortest_way_is_taken_by_the_commonest_calls(monkeypatch):
    """And is left where it does not know what is asked for."""
    from sightline.backends.native import bare

    taken, real = [], {"forward": bare.forward, "backward": bare.backward}
    monkeypatch.setattr(bare, "forward", lambda *given: taken.append("forward") or real["forward"](*given))
    monkeypatch.setattr(bare, "backward", lambda *given: taken.append("backward") or real["backward"](*given))
    q, k, v = tensors()
    lengths = sightline.lengths(torch.tensor([4]))
    for options in ({}, {"mask": sightline.causal()}, {"mask": lengths}, {"scale": 2.0}, {"dropout": 0.0}):
        taken.clear()
        sightline.attention(q, k, v, **options)
        assert taken == ["forward"], options
        sightline.attention(*tensors(requires_grad=True), **options).sum().backward()
        assert taken == ["forward", "forward", "backward"], options
    sinks, dense = torch.zeros(2), torch.ones(6, 6, dtype=torch.bool)
    for options in (
        {"mask": dense},
        {"mask": lengths & sightline.causal()},
        {"bias": sightline.alibi(torch.ones(2))},
        {"sinks": sinks},
        {"softcap": 3.0},
        {"dropout": 0.5},
        {"scale": torch.tensor(1.0)},
        {"return_matrix": True},
    ):
        taken.clear()
        sightline.attention(q, k, v, **options)
        assert not taken, options
    taken.clear()
    with sightline.backend("chunked"):
        sightline.attention(q, k, v)
    sightline.attention(*(t.double() for t in (q, k, v)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sightline.attention(q, k, v).dtype == torch.bfloat16
    with sightline.backend("cpu"):
        assert not taken
        sightline.attention(q, k, v)
    assert taken


@pytest.mark.parametrize("mode", [SeenByDispatch, SeenByFunction])
def test_modes_see_the_operator(mode):
    with mode() as seen:
        sightline.attention(*tensors(), mask=sightline.causal())
    assert any("sightline" in name for name in seen.seen)


def test_subclasses_see_the_operator():
    q, k, v = tensors()
    found = sightline.attention(q.as_subclass(Subclass), k, v)
    assert isinstance(found, Subclass) and any("sightline" in name for name in Subclass.seen)


def test_the_profiler_sees_the_operator():
    with torch.profiler.profile() as profile:
        sightline.attention(*tensors())
    assert any(event.key == "sightline::attention" for event in profile.key_averages())


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_tracing_sees_the_operator():
    for pre_dispatch in (False, True):
        graph = make_fx(
            lambda *x: sightline.attention(*x, mask=sightline.causal()), pre_dispatch=pre_dispatch
        )(*tensors())
        assert "sightline.attention" in graph.code
    q, k, v = tensors()
    traced = torch.jit.trace(lambda *x: sightline.attention(*x), (q, k, v))
    close(traced(k, v, q), sightline.attention(k, v, q), 1e-6)


def test_fake_tensors_stay_fake():
    with torch._subclasses.FakeTensorMode() as mode:
        fake = [mode.from_tensor(t) for t in tensors()]
        context = sightline.attention(*fake, mask=sightline.causal())
    assert type(context).__name__ == "FakeTensor" and context.shape == (1, 2, 6, 8)
    # And what was made then is not handed out now.
    close(sightline.attention(*tensors(), mask=sightline.causal()).sum() * 0, torch.zeros(()), 0)


def test_functionalize_takes_the_operator(operator_calls):
    q, k, v = tensors()
    found = torch.func.functionalize(lambda x: sightline.attention(x, k, v))(q)
    close(found, sightline.attention(q, k, v), 0)
    assert operator_calls


def test_lazy_negation_is_resolved():
    q, k, v = tensors()
    negative = torch.complex(torch.zeros_like(q), -q).conj().imag
    assert negative.is_neg()
    close(sightline.attention(negative, k, v), sightline.attention(q, k, v), 0)


def test_hooks_on_saved_tensors_and_checkpoints():
    q, k, v = tensors(True)
    wanted = torch.autograd.grad(sightline.attention(q, k, v).sum(), (q, k, v))
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(1) or t, lambda t: t):
        context = sightline.attention(q, k, v)
    assert packed
    again = torch.utils.checkpoint.checkpoint(sightline.attention, q, k, v, use_reentrant=False)
    for found in (context, again):
        for a, b in zip(torch.autograd.grad(found.sum(), (q, k, v)), wanted, strict=True):
            close(a, b, 0)


def test_inside_somebody_s_operator_autograd_stays_off(operator_calls):
    q, k, v = tensors(True)
    with torch._C._AutoDispatchBelowAutograd():
        context = sightline.attention(q, k, v)
    assert not context.requires_grad and operator_calls


def test_kept_ranges_serve_training_after_inference():
    kept_ranges._band.cache_clear()
    kept_ranges._until.cache_clear()
    q, k, v = tensors(True)
    for mask in (sightline.window(2, 1), sightline.lengths([4])):
        with torch.inference_mode():
            inside = sightline.attention(q.detach(), k.detach(), v.detach(), mask=mask)
        context = sightline.attention(q, k, v, mask=mask)
        context.sum().backward()
        close(context, inside, 0)


def test_kept_ranges_follow_the_values():
    q, k, v = tensors()
    lengths = torch.tensor([2])
    mask = sightline.lengths(lengths)
    short = sightline.attention(q, k, v, mask=mask)
    lengths.fill_(5)
    close(
        sightline.attention(q, k, v, mask=mask), sightline.attention(q, k, v, mask=sightline.lengths([5])), 0
    )
    close(short, sightline.attention(q, k, v, mask=sightline.prefix(2)), 0)


def test_kept_ranges_are_few_and_short():
    for n in range(2, 300):
        assert kept_ranges.band(None, 0, 0, n, n) is not None
    assert kept_ranges._band.cache_info().currsize <= 128
    assert kept_ranges.band(None, 0, 0, 100_000, 4) is None
    with SeenByDispatch():
        assert kept_ranges.band(None, 0, 0, 4, 4) is None


def test_several_threads_at_once():
    q, k, v = tensors()
    wanted = [sightline.attention(q, k, v, mask=sightline.window(w, 0)) for w in range(6)]
    failures = []

    def work():
        for w in list(range(6)) * 20:
            if not torch.equal(sightline.attention(q, k, v, mask=sightline.window(w, 0)), wanted[w]):
                failures.append(w)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_an_older_or_newer_pytorch_goes_through_the_operator(operator_calls, monkeypatch):
    monkeypatch.setattr(direct, "_OFFERED", False)
    sightline.attention(*tensors())
    assert operator_calls


def test_importing_loads_no_compiler():
    """Which takes a second, and most programs never compile."""
    code = "import sys, torch, sightline; sightline.attention; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
