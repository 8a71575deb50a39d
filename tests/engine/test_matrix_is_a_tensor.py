"""A matrix is a tensor without storage: where PyTorch asks for one it is one, and nothing writes into it."""

import copy
import dataclasses
import io
import pickle
import subprocess
import sys

import numpy
import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional
from torch.utils import _pytree, dlpack

import sightline
from sightline.nn import MeanOverHeads


@pytest.fixture
def A():
    q, k = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8)
    return sightline.AttentionMatrix(q, k, q[:, :2], mask=sightline.causal(), softcap=3.0)


def test_is_one_wherever_pytorch_asks(A):
    for one in (A, A[0], A[0, 1], A.T, MeanOverHeads(A)):
        assert isinstance(one, torch.Tensor) and torch.is_tensor(one)
        assert torch.as_tensor(one) is one
        assert _pytree.tree_leaves({"a": [one]})[0] is one
        assert (one.is_cuda, one.is_sparse, one.is_quantized, one.is_nested, one.is_meta) == (False,) * 5
        assert one.layout == torch.strided and one.is_floating_point() and not one.is_complex()
        assert (one.element_size(), one.itemsize, one.nbytes) == (4, 4, 4 * one.numel())
        assert (one.stride(), one.is_contiguous(), one.storage_offset()) == (
            one.dense().contiguous().stride(),
            True,
            0,
        )
        assert (one.grad, one.grad_fn, one.is_leaf, one.requires_grad, one.names) == (
            None, None, True, False, (None,) * one.ndim,
        )  # fmt: skip
        assert one.get_device() == -1 and one.type() == "torch.FloatTensor"
        assert torch.equal(one.data, one.dense()) and one.contiguous() is one
        assert one.detach_() is one and one.requires_grad_(False) is one
        assert not one.is_shared()


def test_equality_is_elementwise_and_identity_makes_keys(A):
    weights = A.dense()
    assert torch.equal(weights == A, weights == weights) and torch.equal(
        A[0] != A[1], weights[0] != weights[1]
    )
    assert {A: 1, A.T: 2}[A] == 1 and A in [A] and hash(A) == id(A)


def test_metadata_costs_no_weights(A, monkeypatch):
    monkeypatch.setattr(sightline.AttentionMatrix, "dense", lambda *_: pytest.fail("densified"))
    for look in (
        lambda: A.is_cuda, lambda: A.layout, A.stride, A.is_contiguous, A.element_size, lambda: A.nbytes,
        lambda: repr(A), lambda: f"{A}", lambda: dir(A), lambda: hash(A), lambda: A.data, A.contiguous, A.type,
        lambda: torch.numel(A), lambda: torch.is_floating_point(A), lambda: A.grad_fn, lambda: A.name,
        lambda: torch.result_type(A, 1.0), lambda: A.ndimension(), lambda: A.nelement(), A.is_inference,
        lambda: copy.copy(A), lambda: copy.deepcopy(A), lambda: pickle.dumps(A), lambda: A.cpu().detach().clone(),
        lambda: hasattr(A, "__cuda_array_interface__") or True,
    ):  # fmt: skip
        look()


# Each would change a copy that nobody sees.
WRITES = {
    "fill_": lambda A, W: A.fill_(0),
    "fill_diagonal_": lambda A, W: A[0, 0].fill_diagonal_(0),
    "zero_": lambda A, W: A.T.zero_(),
    "mul_": lambda A, W: A.mul_(2),
    "add_": lambda A, W: exec("A += 1", {"A": A}),
    "sub_": lambda A, W: A.__isub__(1),
    "clamp_": lambda A, W: A.data.clamp_(0.1),
    "copy_": lambda A, W: A.copy_(W),
    "masked_fill_": lambda A, W: A.masked_fill_(W > 0.2, 0),
    "unsqueeze_": lambda A, W: A.unsqueeze_(0),
    "resize_": lambda A, W: A.resize_(3),
    r"aten\.set_\S+": lambda A, W: A.set_(W),
    "uniform_": lambda A, W: A.uniform_(),
    "share_memory_": lambda A, W: A.share_memory_(),
    "requires_grad_": lambda A, W: A.requires_grad_(),
    r"requires_grad_(?#=)": lambda A, W: setattr(A, "requires_grad", True),
    r"\.data =": lambda A, W: setattr(A, "data", W),
    r"\.grad =": lambda A, W: setattr(A, "grad", W),
    "__setitem__": lambda A, W: A.__setitem__((0, 0), 1.0),
    "relu_": lambda A, W: torch.relu_(A),
    r"relu\(inplace=True\)": lambda A, W: functional.relu(A, inplace=True),
    r"dropout\(inplace=True\)": lambda A, W: torch.nn.Dropout(0.5, inplace=True)(A),
    "zero_(?#init)": lambda A, W: torch.nn.init.zeros_(A),
    r"add\(out=\)": lambda A, W: torch.add(W, W, out=A),
    r"sort\(out=\)": lambda A, W: torch.sort(W, out=(A, W.long())),
    "_foreach_add_": lambda A, W: torch._foreach_add_([A], 1),
    r"add_\.Tensor": lambda A, W: torch.ops.aten.add_.Tensor(A, W),
    r"aten\.mul_": lambda A, W: unseen(torch.mul, W, W, out=A),
}


def unseen(function, *args, **kwargs):
    """As called from C++, past what classes say of functions of PyTorch."""
    with torch._C.DisableTorchFunctionSubclass():
        return function(*args, **kwargs)


@pytest.mark.parametrize("name", WRITES)
def test_writing_is_refused(A, name):
    before = A.dense()
    name_only = name.replace(r"aten\.mul_", r"aten\.mul\.out")
    with pytest.raises(
        RuntimeError, match=name_only + r": the weights .* cannot be written to. A.dense\(\) gives"
    ):
        WRITES[name](A, A.dense())
    assert torch.equal(A.dense(), before)


def test_a_dense_copy_can_be_written_to(A):
    weights = A[0, 0].dense()
    weights.fill_diagonal_(0)
    assert weights.diagonal().sum() == 0 and A[0, 0].diagonal().sum() > 0
    target = torch.zeros(2, 4, 6, 6)
    assert torch.equal(target.copy_(A), A.dense()) and torch.equal(target.add_(A), 2 * A.dense())
    target[0] = A[1]
    assert torch.equal(target[0], A[1].dense())


def test_hooks_of_one_reading_are_refused():
    q = torch.randn(1, 1, 4, 8, requires_grad=True)
    A = sightline.AttentionMatrix(q, q, detach=False)
    assert A.requires_grad
    for listen in (A.retain_grad, lambda: A.register_hook(print), A.detach_, lambda: A.requires_grad_(False)):
        with pytest.raises(RuntimeError, match=r"A.dense\(\)"):
            listen()
    A.backward(torch.ones(1, 1, 4, 4))
    assert q.grad is not None


def test_nothing_reads_the_storage_that_is_not_there(A):
    weights = A.dense()
    assert torch.equal(unseen(torch.sin, A), weights.sin())
    with pytest.warns(UserWarning, match="copy construct"):  # as for every tensor
        assert torch.equal(torch.tensor(A), weights)
    assert torch.equal(torch.Tensor(A), weights)
    assert torch.equal(unseen(lambda: A.T), weights.mT)
    if torch.__version__ >= "2.7":  # that of 2.6 makes a capsule of it that leads nowhere
        with pytest.raises(RuntimeError):
            dlpack.to_dlpack(A)
    assert torch.equal(torch.from_dlpack(A), weights)
    assert A.data_ptr() == A.untyped_storage().data_ptr() == A.data_ptr() != 0
    assert A.untyped_storage().nbytes() == A.nbytes

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

    assert torch.equal(Twice.apply(A), weights * 2)


def copies(matrix):
    yield copy.copy(matrix)
    yield copy.deepcopy(matrix)
    yield pickle.loads(pickle.dumps(matrix))
    file = io.BytesIO()
    torch.save({"matrices": [matrix]}, file)
    file.seek(0)
    yield torch.load(file)["matrices"][0]  # weights_only=True


def test_copies_read_the_same(A):
    A.reason = "doubtful"
    biased = sightline.AttentionMatrix(
        A.query, A.key, bias=sightline.alibi(torch.rand(4)), mask=sightline.window(2, 2), sinks=torch.randn(4)
    )
    for one in (A, A[0], A[:, 1], A[1, 2], biased, A.T, MeanOverHeads(A), MeanOverHeads(A[0])):
        for made in copies(one):
            assert type(made) is type(one) and made.shape == one.shape
            torch.testing.assert_close(made.dense(), one.dense())
            if isinstance(one, sightline.AttentionMatrix):
                assert made.reason == one.reason and made.stages == one.stages
                torch.testing.assert_close(made.entropy(), one.entropy())
                torch.testing.assert_close(made @ torch.ones(6), one @ torch.ones(6))


def test_deep_copies_have_tensors_of_their_own_and_share_them_as_before(A):
    first, second = copy.deepcopy((A, A))
    assert first is second and first.query.data_ptr() != A.query.data_ptr()
    apart = copy.deepcopy((A, A[0]))
    assert apart[0].query.data_ptr() == apart[1].query.data_ptr()
    apart[0].query.zero_()
    with pytest.raises(RuntimeError, match="query: changed in place"):
        apart[0].entropy()
    A.entropy()


def test_a_changed_matrix_is_not_copied(A):
    A.query.add_(1)
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match="query: changed in place"):
            make(A)


def test_what_holds_a_matrix_copies(A):
    @dataclasses.dataclass
    class Result:
        weights: object

    module = torch.nn.Linear(2, 2)
    module.last = A
    assert torch.equal(dataclasses.asdict(Result(A))["weights"].dense(), A.dense())
    assert torch.equal(copy.deepcopy(module).last.dense(), A.dense())


def test_another_process_loads_it(A, tmp_path):
    torch.save(A, tmp_path / "a.pt")
    program = f"import sightline, torch; print(float(torch.load({str(tmp_path / 'a.pt')!r}).entropy().sum()))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert float(out) == pytest.approx(float(A.entropy().sum()), rel=1e-5)


def test_a_pickle_that_lies_is_refused(A):
    make, (kind, given, numbers, *rest) = A.__reduce_ex__(4)
    for lie in (
        {"key": torch.randn(2, 2, 600, 9)}, {"ranges": torch.full((1, 1, 6, 1, 2), 99, dtype=torch.int32)},
        {"bias": torch.randn(1, 1, 5, 6)}, {"evil": torch.zeros(1)}, {"query": torch.zeros(2, 4, 6, 8, dtype=torch.int64)},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="its |unknown names"):
            make(kind, given | lie, numbers, *rest)
    with pytest.raises(ValueError, match="scale"):
        make(kind, given, numbers | {"scale": float("nan")}, *rest)


def test_products_of_two_matrices(A):
    weights = A.dense()
    for made, wanted in (
        (A @ A, weights @ weights), (A[0, 0] @ A[0, 1], weights[0, 0] @ weights[0, 1]),
        (A.T @ A, weights.mT @ weights), (A @ A.T, weights @ weights.mT), (A.T @ A.T, (weights @ weights).mT),
        (torch.matmul(A, A), weights @ weights), (A[0] @ A[1], weights[0] @ weights[1]),
        (torch.bmm(A[0], A[1]), weights[0] @ weights[1]), (torch.mm(A[0, 0], A[0, 1]), weights[0, 0] @ weights[0, 1]),
        (torch.einsum("bhij,bhjk->bhik", A, A), weights @ weights),
        (MeanOverHeads(A) @ MeanOverHeads(A), weights.mean(1) @ weights.mean(1)),
    ):  # fmt: skip
        torch.testing.assert_close(made, wanted)


def test_a_detached_matrix_leaves_forward_mode_and_transforms():
    q, k = torch.randn(2, 1, 2, 5, 8)
    wanted = sightline.AttentionMatrix(q, k)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(q, torch.ones_like(q))
        A = sightline.AttentionMatrix(dual, k)
        assert forward_ad.unpack_dual(A.query).tangent is None
        assert forward_ad.unpack_dual(A.entropy()).tangent is None
        torch.testing.assert_close(A.entropy(), wanted.entropy())
        flowing = sightline.AttentionMatrix(dual, k, detach=False)
        for read in (
            lambda M: M.dense(), lambda M: M.entropy(), lambda M: M.lse, lambda M: M @ torch.ones(5, dtype=M.dtype),
            lambda M: M.received(), lambda M: M.diagonal(), lambda M: M[0, 0, 2], lambda M: M.pool(2, 2),
        ):  # fmt: skip
            primal, tangent = forward_ad.unpack_dual(read(flowing))
            torch.testing.assert_close(primal, read(wanted))
            torch.testing.assert_close(tangent, difference(read, q, k), atol=1e-5, rtol=1e-4)


def difference(read, q, k, step=1e-5):
    """The derivative of what is read for a query that grows everywhere."""
    up, down = (sightline.AttentionMatrix(q.double() + s, k.double()) for s in (step, -step))
    return ((read(up) - read(down)) / (2 * step)).float()


def test_inside_of_grad_and_vmap():
    q, k = torch.randn(2, 3, 2, 5, 8)

    def penalty(q):
        return sightline.AttentionMatrix(q, k, detach=False).entropy().sum()

    def kept(q):
        A = sightline.AttentionMatrix(q, k)
        made.append(A)
        return (q * A.entropy()[..., None]).sum()

    made = []
    wanted = q.clone().requires_grad_()
    penalty(wanted).backward()
    torch.testing.assert_close(torch.func.grad(penalty)(q), wanted.grad)
    entropy = sightline.AttentionMatrix(q, k).entropy()
    torch.testing.assert_close(torch.func.grad(kept)(q), entropy[..., None].expand_as(q))
    torch.testing.assert_close(made[0].entropy(), entropy)
    with pytest.raises(NotImplementedError, match="vmap .* batch axis B"):
        torch.func.vmap(lambda q: sightline.AttentionMatrix(q, k[:1]).entropy())(q[:, None])


def test_arrays_of_numpy(A):
    weights = A.dense().numpy()
    assert numpy.array_equal(numpy.asarray(A), weights) and numpy.array_equal(A.numpy(force=True), weights)
    assert numpy.array_equal(numpy.stack([A[0], A[1]]), weights)


def test_safetensors_take_it(A):
    file = pytest.importorskip("safetensors.torch")
    read = file.load(file.save({"weights": A, "head": A[0, 1]}))
    assert torch.equal(read["weights"], A.dense()) and torch.equal(read["head"], A[0, 1].dense())


@pytest.mark.filterwarnings("ignore:.*(lru_cache|ctypes|builtin)")  # of readouts, which run as they are
def test_what_a_compiled_function_returns():
    def look(q, k, v):
        context, A = sightline.attention(q, k, v, return_matrix=True)
        return context * 2, A, A.entropy()

    q, k, v = torch.randn(3, 1, 2, 16, 8)
    torch._dynamo.reset()
    _, A, entropy = torch.compile(look, backend="eager")(q, k, v)
    assert isinstance(A, sightline.AttentionMatrix)
    torch.testing.assert_close(A, sightline.AttentionMatrix(q, k).dense())
    torch.testing.assert_close(entropy, A.entropy())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(lru_cache|ctypes|builtin)")
def test_what_a_compiled_function_takes():
    q, k, v = torch.randn(3, 1, 2, 16, 8)
    A = sightline.AttentionMatrix(q, k)
    torch._dynamo.reset()
    given = torch.compile(lambda A, x: (A.mean(1) + 1, A @ x), backend="eager")
    mean, product = given(A, v)
    torch.testing.assert_close(mean, A.mean(1) + 1)
    torch.testing.assert_close(product, A @ v)
