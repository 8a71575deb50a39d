"""The block: what it restores, who sees what, which layers, where things are kept."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import sightline

from .modules import CausalSelfAttention, NanoGPT, ids


def assert_nothing_is_left() -> None:
    assert _get_current_dispatch_mode_stack() == []
    assert not torch_modules._global_forward_hooks
    assert not torch_modules._global_forward_pre_hooks
    assert torch._dynamo.eval_frame._stance.stance == "default"


@pytest.fixture
def model() -> NanoGPT:
    return NanoGPT().eval()


# --- leaving -------------------------------------------------------------------------------------------


def test_nothing_is_left_behind(model: NanoGPT) -> None:
    keys = set(vars(model.h[0].attn))
    with sightline.trace(model):
        model(ids())
    assert_nothing_is_left()
    assert set(vars(model.h[0].attn)) == keys
    assert not model.h[0].attn._forward_hooks


def test_an_error_inside_leaves_everything_restored(model: NanoGPT) -> None:
    class HaltError(Exception):
        pass

    class Failing(CausalSelfAttention):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise HaltError

    failing = NanoGPT(CausalSelfAttention(), Failing())
    trace = sightline.trace(failing)
    with pytest.raises(HaltError), trace:
        failing(ids())
    assert_nothing_is_left()
    assert [call.verified for call in trace] == [True, True]  # what ran before stays usable
    with sightline.trace(model) as after:
        model(ids())
    assert len(after) == 2


def test_an_error_that_the_model_catches(model: NanoGPT) -> None:
    class Forgiving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = CausalSelfAttention()

        def forward(self, x: Tensor) -> Tensor:
            with contextlib.suppress(RuntimeError):  # a wrong width
                self.inner(x[0, ..., :3])
            return F.scaled_dot_product_attention(x, x, x)

    forgiving = Forgiving()
    with sightline.trace(forgiving) as trace:
        forgiving(torch.randn(1, 4, 5, 16))
    assert [call.name for call in trace if call.verified] == [""]


def test_a_trace_is_used_once(model: NanoGPT) -> None:
    trace = sightline.trace(model)
    with trace:
        model(ids())
    with pytest.raises(RuntimeError, match="make a new one"), trace:
        pass


def test_calls_stay_what_they_were(model: NanoGPT) -> None:
    with torch.no_grad(), sightline.trace(model) as trace:
        model(ids())
    before = [call.matrix.dense() for call in trace]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model(ids())
    assert all(torch.equal(a, call.matrix.dense()) for a, call in zip(before, trace, strict=True))


def test_inputs_written_later_are_noticed() -> None:
    x = torch.randn(1, 2, 5, 4)
    with sightline.trace(None) as trace:
        F.scaled_dot_product_attention(x, x, x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="changed in place after this matrix was made"):
        trace[0].matrix.entropy()


@pytest.mark.parametrize("offload", [None, "disk"])
def test_copies_and_pickles_hold_the_calls_alone(offload: str | None) -> None:
    model, x = nn.MultiheadAttention(256, 2, batch_first=True).eval(), torch.randn(1, 6, 256)
    with torch.no_grad(), sightline.trace(model, offload=offload) as trace:
        model(x, x, x)
    trace.tokens = list("abcdef")
    assert len(pickle.dumps(trace)) < model.in_proj_weight.nbytes
    copies = (copy.copy(trace), copy.deepcopy(trace), pickle.loads(pickle.dumps(trace)))
    dense, call = trace[0].matrix.dense(), repr(trace[0])
    del trace
    for one in copies:
        assert (repr(one[0]), one.tokens, one.model) == (call, list("abcdef"), "MultiheadAttention")
        assert torch.equal(one[0].matrix.dense(), dense)
        with pytest.raises(RuntimeError, match="was used before"):
            one.__enter__()


def test_buffers_that_are_written_again_and_again_are_copied() -> None:
    cache = torch.zeros(1, 2, 5, 4)
    cache.copy_(torch.randn(1, 2, 5, 4))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), sightline.trace(None) as trace:
            F.scaled_dot_product_attention(cache, cache, cache)
            before = trace[0].matrix.dense().clone()
            cache.normal_()
            assert torch.equal(trace[0].matrix.dense(), before)
        assert torch.equal(trace[0].matrix.dense(), before)


# --- nesting and threads -------------------------------------------------------------------------------


def test_nesting(model: NanoGPT) -> None:
    other = NanoGPT().eval()
    with torch.no_grad(), sightline.trace(model) as outer:
        model(ids())
        with sightline.trace(other) as inner, sightline.trace(None) as everything:
            model(ids())
            other(ids())
        model(ids())
    assert [len(t) for t in (outer, inner, everything)] == [6, 2, 4]
    assert not outer.unverified and not inner.unverified
    assert_nothing_is_left()


def test_threads_see_their_own_calls(model: NanoGPT) -> None:
    models = [NanoGPT().eval() for _ in range(4)]
    traces: list[Any] = [None] * len(models)
    start = threading.Barrier(len(models))
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            start.wait()
            for _ in range(3):
                with torch.no_grad(), sightline.trace(models[number] if number % 2 else None) as trace:
                    models[number](ids(2, 5 + number))
                traces[number] = trace
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for number, trace in enumerate(traces):
        assert [tuple(call.shape) for call in trace] == [(2, 4, 5 + number, 5 + number)] * 2
        assert not trace.unverified
    assert_nothing_is_left()


def test_a_thread_without_a_trace_is_not_seen(model: NanoGPT) -> None:
    with torch.no_grad(), sightline.trace(model) as trace:
        thread = threading.Thread(target=lambda: model(ids()))
        thread.start()
        thread.join()
        model(ids(1))
    assert [call.shape[0] for call in trace] == [1, 1]


# --- torch.compile, checkpoints ------------------------------------------------------------------------


@pytest.mark.parametrize("fullgraph", [False, True])
def test_compiled_models_run_uncompiled(model: NanoGPT, fullgraph: bool) -> None:
    compiled = torch.compile(model, backend="aot_eager", fullgraph=fullgraph)
    with torch.no_grad():
        plain = model(ids())
        before = compiled(ids())
        with sightline.trace(compiled) as trace:
            output = compiled(ids())
        after = compiled(ids())
    assert [call.name for call in trace] == ["h.0.attn", "h.1.attn"]
    assert trace.unverified == []
    assert "uncompiled" in trace.notices[0]
    assert torch.equal(output, plain)
    assert torch.equal(before, after)
    assert_nothing_is_left()


def test_gradient_checkpointing_counts_once(model: NanoGPT) -> None:
    from torch.utils.checkpoint import checkpoint

    x = torch.randn(2, 5, 16, requires_grad=True)
    with sightline.trace(model) as trace:
        checkpoint(model.h[0], x, use_reentrant=False).sum().backward()
    assert [call.verified for call in trace] == [True]


# --- indexing ------------------------------------------------------------------------------------------


def test_calls_by_place_and_name(model: NanoGPT) -> None:
    with sightline.trace(model) as trace:
        model(ids())
    assert len(trace) == 2 and list(trace) == [trace[0], trace[1]]
    assert trace[-1] is trace[1]
    assert trace["h.1"] is trace["h.1.attn"] is trace[1]
    assert repr(trace) == "Trace(NanoGPT, 2 calls)"
    assert repr(trace[0]) == "AttentionCall(0, 'h.0.attn', self, [2, 4, 9, 9])"
    with pytest.raises(IndexError, match=r"trace\[7\]: there are 2 calls"):
        trace[7]
    with pytest.raises(KeyError, match=r"no attention ran there. Calls: 'h.0.attn', 'h.1.attn'"):
        trace["ln"]
    with pytest.raises(KeyError, match="2 calls ran there"):
        trace["h"]
    with pytest.raises(TypeError, match="takes a place or a module's name"):
        trace[1.5]  # type: ignore[index]


# --- which layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("h.1", ["h.1.attn"]),
        ("h.*.attn", ["h.0.attn", "h.1.attn"]),
        (1, ["h.1.attn"]),
        ([0, "h.1"], ["h.0.attn", "h.1.attn"]),
        (lambda name: name.startswith("h.0"), ["h.0.attn"]),
    ],
)
def test_chosen_layers(model: NanoGPT, layers: Any, names: list[str]) -> None:
    with sightline.trace(model, layers=layers) as trace:
        model(ids())
    assert [call.name for call in trace] == names


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ("h.7", ValueError, r"no module 'h\.7'. Near: .*'h\.1'"),
        (-1, ValueError, "counts from the end"),
        ([], ValueError, "an empty list traces nothing"),
        ([1.5], TypeError, "names, globs, integers"),
        (True, TypeError, "names, globs, integers"),
    ],
)
def test_wrong_choices(model: NanoGPT, layers: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sightline.trace(model, layers=layers)


@pytest.mark.parametrize(
    ("layers", "message"),
    [(2, "there is no layer 2; 2 layers"), ("lm_head", "no attention ran in 'lm_head'")],
)
def test_layers_that_never_ran(model: NanoGPT, layers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message), sightline.trace(model, layers=layers):
        model(ids())
    assert_nothing_is_left()


def test_a_block_without_attention_warns(model: NanoGPT) -> None:
    with pytest.warns(UserWarning, match="no attention was seen in NanoGPT"), sightline.trace(model):
        pass


def test_wrong_options(model: NanoGPT) -> None:
    with pytest.raises(ValueError, match='"cpu" or "disk", got \'gpu\''):
        sightline.trace(model, offload="gpu")
    with pytest.raises(TypeError, match="floating torch.dtype"):
        sightline.trace(model, dtype=torch.int32)
    with pytest.raises(ValueError, match="Give one of the two"):
        sightline.trace(model, gradients=True, on_call=print)


# --- what is kept, and where ---------------------------------------------------------------------------


def test_dtype(model: NanoGPT) -> None:
    with torch.no_grad(), sightline.trace(model) as exact:
        model(ids())
    with torch.no_grad(), sightline.trace(model, dtype=torch.bfloat16) as short:
        model(ids())
    assert short[0].matrix.dtype == torch.bfloat16 and short[0].verified
    torch.testing.assert_close(short[0].matrix.dense().float(), exact[0].matrix.dense(), atol=0.02, rtol=0.05)


def test_offload_to_disk(model: NanoGPT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with torch.no_grad(), sightline.trace(model) as kept:
        model(ids())
    with torch.no_grad(), sightline.trace(model, offload="disk") as trace:
        model(ids())
    assert len(list(tmp_path.glob("sightline-trace-*/*.safetensors"))) == 2
    for a, b in zip(kept, trace, strict=True):
        torch.testing.assert_close(a.matrix.dense(), b.matrix.dense())
    matrix = trace[0].matrix
    del trace, a, b
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert bool(torch.isfinite(matrix.dense()).all())  # mapped memory outlives its name


def test_streaming(model: NanoGPT) -> None:
    seen = []
    with (
        torch.no_grad(),
        sightline.trace(
            model,
            on_call=lambda call: seen.append((call.index, call.name, call.matrix.entropy().mean().item())),
        ) as trace,
    ):
        model(ids())
        model(ids())
    assert len(trace) == 0
    assert [(index, name) for index, name, _ in seen] == [
        (0, "h.0.attn"), (1, "h.1.attn"), (2, "h.0.attn"), (3, "h.1.attn"),
    ]  # fmt: skip


def test_an_error_in_the_callback_reaches_the_caller(model: NanoGPT) -> None:
    def fail(call: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), sightline.trace(model, on_call=fail):
        model(ids())
    assert_nothing_is_left()


@pytest.mark.parametrize("layers", [None, "h.1"])
def test_gradients_of_the_contexts(model: NanoGPT, layers: Any) -> None:
    with sightline.trace(model, layers=layers, gradients=True) as trace:
        loss = model(ids()).square().mean()
    assert trace[0].gradient is None
    loss.backward()
    call = trace[-1]
    assert call.gradient is not None and call.gradient.shape == (2, 4, 9, 4)
    # dL/d(projection's weight) = Σ dL/dy ⊗ context, so dL/dcontext = dL/dy · W: checked by autograd itself.
    captured = []
    block = model.h[1].attn
    handle = block.c_proj.register_forward_pre_hook(lambda _, args: captured.append(args[0]))
    loss = model(ids()).square().mean()
    handle.remove()
    (expected,) = torch.autograd.grad(loss, captured[0])
    torch.testing.assert_close(call.gradient.transpose(1, 2).flatten(2), expected)


def test_matrices_are_detached(model: NanoGPT) -> None:
    with sightline.trace(model) as trace:
        model(ids())
    assert not any(call.matrix.requires_grad for call in trace)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.chunk(2, -1)[1],
        lambda x: x.narrow(0, 1, 2),
        lambda x: x.tensor_split(2, -1)[0],
        lambda x: x.mT,
        lambda x: x.unflatten(1, (2, 3)),
    ],
    ids=["chunk", "narrow", "tensor_split", "mT", "unflatten"],
)
@pytest.mark.parametrize("make", [torch.randn, lambda *shape: nn.Parameter(torch.randn(*shape))])
def test_views_of_ordinary_tensors_in_inference_mode(view: Any, make: Any) -> None:
    """Parameters and tables made before keep counting their writes there, through PyTorch's own views."""
    ordinary, q = make(4, 6), torch.randn(1, 1, 3, 4)
    with torch.inference_mode():
        before = view(ordinary)
        with sightline.trace(None) as trace:
            after = view(ordinary)
            F.scaled_dot_product_attention(q, q, q)
    assert trace.unverified == [] and trace.notices == []
    assert torch.equal(before, after)
    assert after._is_view() and after._is_view() == before._is_view()
    assert (after.requires_grad, after.is_inference()) == (before.requires_grad, before.is_inference())


# --- modules that are looked at as a whole -------------------------------------------------------------


class Between(nn.Module):
    """Attention that somebody hides where none is expected: in a hook of a linear layer, in its forward."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)
        if how == "hook":
            self.linear.register_forward_pre_hook(lambda _, args: (attend(args[0]),))
        elif how == "replaced":
            forward = self.linear.forward
            self.linear.forward = lambda x: forward(attend(x))  # type: ignore[method-assign]
        elif how == "subclass":
            self.linear.__class__ = AttendingLinear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)  # type: ignore[no-any-return]


class AttendingLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(attend(x))


def attend(x: Tensor) -> Tensor:
    return (
        F.scaled_dot_product_attention(*(x.unflatten(-1, (4, 4)).transpose(1, 2),) * 3)
        .transpose(1, 2)
        .flatten(2)
    )


@pytest.mark.parametrize("how", ["hook", "replaced", "subclass"])
def test_attention_inside_a_linear_layer_is_seen(how: str) -> None:
    model = Between(how)
    with torch.no_grad(), sightline.trace(model) as trace:
        model(torch.randn(2, 5, 16))
    assert [call.verified for call in trace] == [True]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_inside_a_linear_layer(
    model: NanoGPT, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next module, and the end of the block, find everything as it was; also where no hook ran."""
    linear = F.linear

    def fail(*args: Any) -> Tensor:
        raise error

    with torch.no_grad(), sightline.trace(model) as trace:
        monkeypatch.setattr(F, "linear", fail)
        with pytest.raises(error):
            model(ids())
        monkeypatch.setattr(F, "linear", linear)
        model(ids())
    assert [call.name for call in trace if call.verified] == ["h.0.attn", "h.1.attn"]
    assert_nothing_is_left()
    monkeypatch.setattr(F, "linear", fail)
    with pytest.raises(error), sightline.trace(model):
        model(ids())
    assert_nothing_is_left()


def test_self_and_cross_are_told_apart_through_linear_layers() -> None:
    """Where queries and keys come from is followed through layers that are looked at as a whole."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.norm = nn.Linear(16, 16), nn.Linear(16, 16), nn.LayerNorm(16)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            q, k = self.norm(self.q(x)), self.norm(self.k(y))
            return F.scaled_dot_product_attention(q[:, None], k[:, None], k[:, None])

    model, x, y = Attention(), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), sightline.trace(model) as trace:
            model(x, x)
            model(x, y)
        assert [call.kind for call in trace] == ["self", "cross"]


def test_another_mode_inside_sees_everything(model: NanoGPT) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen += 1
            return func(*args, **(kwargs or {}))

    def count(around: Any) -> int:
        with torch.no_grad(), around, Counting() as counting:
            model(ids())
        return counting.seen

    assert count(sightline.trace(model)) == count(contextlib.nullcontext())
