"""explain() says which code runs, from the same decisions, and nothing falls to a slower path in silence."""

import pytest
import torch

import sightline
from sightline.backends.native import kernels
from sightline.backends.native.plan import schedule_of
from sightline.core import library
from sightline.lowering import lower

LEVELS = library.levels() if library.available() is None else []


def tensors(n=200, m=200, dtype=torch.float32):
    return torch.randn(2, 4, n, 16, dtype=dtype), *torch.randn(2, 2, 2, m, 16, dtype=dtype)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_nothing_to_complain_about(one_thread):
    found = sightline.explain(
        *tensors(), mask=sightline.causal(), bias=sightline.alibi(torch.rand(4)), dropout=0.1
    )
    assert (found.forward.backend, found.forward.path, found.mask) == ("cpu", "blocks", "ranges")
    assert found.forward.level == sightline.info()["level active"]
    assert found.forward.threads == found.backward.threads == 1
    assert [r for r in found.reasons if "this machine's best" not in r] == []
    assert str(found).startswith("forward:  native, ") and "of the matrix is computed" in str(found)
    with pytest.raises(AttributeError):
        found.mask = "none"


def test_it_agrees_with_the_plan_of_the_call():
    for n, m in ((200, 200), (1, 3000)):
        q, k, v = tensors(n, m)
        plan, found = schedule_of(lower(q, k, v)), sightline.explain(q, k, v)
        assert (found.forward.path, found.forward.level) == (plan.path, plan.level)
        assert (found.forward.threads, found.forward.arithmetic) == (plan.workers, plan.products)


def test_linear_layers_are_explained():
    for way, title in (("pytorch", "PyTorch's own"), ("float32", "converted to float32 and back")):
        with sightline.product(way):
            found = sightline.explain(*tensors(dtype=torch.bfloat16))
        assert found.linear == (title,) * 3 and f"linear:   {title} (gradients: " in str(found)
    with sightline.product("float32"):  # float64 and other devices are PyTorch's in any case
        assert sightline.explain(*tensors(dtype=torch.float64)).linear == ("PyTorch's own",) * 3
        assert sightline.explain(*(x.to("meta") for x in tensors())).linear == ("PyTorch's own",) * 3


def test_float64_runs_in_plain_pytorch():
    found = sightline.explain(*tensors(dtype=torch.float64))
    assert (found.forward.backend, found.forward.path, found.forward.level) == ("chunked", "rows", None)
    assert found.forward.arithmetic == "float64"
    (reason,) = found.reasons
    assert reason == (
        "Plain PyTorch instead of the native kernels: the dtype is torch.float64, and it takes float32, "
        "bfloat16 and float16. Use .float() where that is precise enough."
    )


def test_other_devices_run_in_plain_pytorch():
    (reason,) = sightline.explain(*(t.to("meta") for t in tensors())).reasons
    assert "the tensors are on meta, and it runs on the CPU. Use .cpu()." in reason


def test_a_forced_backend_is_named(monkeypatch):
    q, k, v = tensors()
    with sightline.backend("chunked"):
        (reason,) = sightline.explain(q, k, v).reasons
    assert "asked for by sightline.backend() or SIGHTLINE_BACKEND. Ask for 'auto'." in reason
    monkeypatch.setenv("SIGHTLINE_BACKEND", "chunked")
    assert sightline.explain(q, k, v).backward.backend == "chunked"
    with sightline.backend("cpu"), pytest.raises(ValueError, match="'cpu' was asked for, but the dtype is"):
        sightline.explain(q.double(), k.double(), v.double())


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_NATIVE", "/nowhere/_native.so")
    library.library.cache_clear()
    try:
        (reason,) = sightline.explain(*tensors()).reasons
        assert "/nowhere/_native.so" in reason and "sightline.info()" in reason
    finally:
        monkeypatch.undo()
        library.library.cache_clear()


@pytest.mark.skipif(len(LEVELS) < 2, reason="one level only")
def test_a_lower_level_is_named(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", "generic")
    found = sightline.explain(*tensors())
    assert found.forward.level == "generic"
    assert f"Level generic, although this machine can run {LEVELS[-1]}: SIGHTLINE_ISA says so. Unset it." in (
        found.reasons
    )


def test_fewer_threads_are_explained(torch_threads):
    torch_threads(2)
    few = sightline.explain(*torch.randn(3, 1, 1, 20, 4))
    assert few.forward.threads == 1
    assert any(r.startswith("1 of 2 threads: the work comes in 1 piece.") for r in few.reasons)
    short = sightline.explain(*torch.randn(3, 1, 8, 20, 4))
    assert any("the call is too short" in r for r in short.reasons)


def test_copies_are_named():
    q, k, v = tensors()
    found = sightline.explain(q, k.mT.contiguous().mT, v, bias=torch.randn(200, 200, dtype=torch.float64))
    assert any(r.startswith("key: copied in every call, because its last axis is not") for r in found.reasons)
    assert any(
        r.startswith("bias: copied in every call, because its dtype is torch.float64") for r in found.reasons
    )


def test_a_dense_mask_is_named_and_its_empty_part_counted():
    q, k, v = tensors(256, 256)
    mask = torch.zeros(256, 256, dtype=torch.bool)
    mask[:64, :128] = True
    found = sightline.explain(q, k, v, mask=mask)
    assert found.mask == "dense" and found.computed == 64 * 128 / 256**2
    (reason,) = [r for r in found.reasons if "dense" in r]
    assert "of which every call reads 65,536 bytes" in reason and "causal()" in reason
    both = sightline.explain(q, k, v, mask=sightline.dense(mask) & sightline.prefix(64))
    assert both.mask == "ranges and dense" and both.computed == 64 * 64 / 256**2


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
def test_share_of_the_matrix(backend):
    q, k, v = tensors(512, 512)
    with sightline.backend(backend):
        assert sightline.explain(q, k, v).computed == 1
        # Rows in plain PyTorch are taken together where that wastes little time.
        causal = sightline.explain(q, k, v, mask=sightline.causal()).computed
        assert 0.5 < causal < 0.55 if backend == "cpu" else 0.5 < causal <= 1
        assert sightline.explain(q, k, v, mask=sightline.lengths([0, 0])).computed == 0


def test_it_draws_and_changes_nothing():
    q, k, v = tensors()
    state = torch.get_rng_state()
    sightline.explain(q, k, v, dropout=0.5)
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ValueError, match="dropout: must lie between 0 and 1, got 2"):
        sightline.explain(q, k, v, dropout=2)


def test_readouts_of_a_matrix():
    q, k, _ = tensors()
    A = sightline.AttentionMatrix(q, k)
    found = A.explain("entropy", "topk", "distance", topk=kernels.max_topk() + 1)
    assert found["entropy"] == "native"
    assert found["topk"] == f"plain PyTorch: k={kernels.max_topk() + 1} is above {kernels.max_topk()}"
    assert found["distance"] == "native"
    wanted = sightline.AttentionMatrix(q.requires_grad_(), k, detach=False).explain("entropy", "distance")
    assert wanted["entropy"] == "native; gradients by the same kernels"
    assert wanted["distance"] == "native; gradients in plain PyTorch"
    with sightline.backend("chunked"):
        assert "asked for" in A.explain("entropy")["entropy"]


def test_a_learned_softcap_is_named():
    query, key, value = torch.randn(3, 1, 2, 5, 4)
    learned = sightline.explain(query, key, value, softcap=torch.tensor(2.0, requires_grad=True))
    assert any("softcap is a tensor" in reason for reason in learned.reasons)
    number = sightline.explain(query, key, value, softcap=torch.tensor(2.0))
    assert not any("softcap" in reason for reason in number.reasons)
