"""An AttentionMatrix where people already use a tensor, and its promises about memory and change."""

import math

import numpy
import pytest
import torch

import sightline
from sightline.backends.native import kernels


@pytest.fixture
def A():
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 6, 8)
    return sightline.AttentionMatrix(q, k, mask=sightline.causal())


def test_looks_like_a_tensor(A):
    assert (A.shape, A.ndim, A.dim(), A.size(), A.size(-1), len(A)) == (
        (2, 4, 5, 6),
        4,
        4,
        (2, 4, 5, 6),
        6,
        2,
    )
    assert (A.dtype, A.device, A.numel()) == (torch.float32, torch.device("cpu"), 240)
    assert A.cpu().shape == A.detach().shape == A.clone().shape == A.shape
    assert A.to(torch.float64).dtype == torch.float64
    assert A.to("cpu", torch.bfloat16)[0, 0, 0].dtype == torch.bfloat16
    assert repr(A) == "AttentionMatrix(shape=[2, 4, 5, 6], dtype=torch.float32, device=cpu)"


def test_functions_of_torch_and_numpy(A):
    weights = A.dense()
    assert torch.equal(torch.stack((A, A))[1], weights)
    assert torch.equal(torch.cat([A, A]), torch.cat([weights, weights]))
    assert torch.equal(torch.mean(A, dim=1), weights.mean(1))
    assert torch.equal(A.mean(dim=1), weights.mean(1))
    assert torch.equal(A.sum(-1), weights.sum(-1))
    assert torch.equal(torch.allclose(A, weights) and A.permute(0, 2, 1, 3), weights.permute(0, 2, 1, 3))
    assert (numpy.asarray(A) == weights.numpy()).all()
    assert numpy.asarray(A.to(torch.bfloat16)).dtype == numpy.float32
    assert [row.shape for row in A] == [(4, 5, 6)] * 2
    assert A[0, 0, 0, 0].item() == weights[0, 0, 0, 0].item()


def test_arithmetic_and_comparisons_are_of_the_dense_weights(A):
    weights, other = A.dense(), torch.rand(2, 4, 5, 6)
    for made, wanted in (
        (A + 1, weights + 1), (1 + A, weights + 1), (A - other, weights - other), (1 - A, 1 - weights),
        (A * 100, weights * 100), (other * A, weights * other), (2 * A, weights * 2), (A / 2, weights / 2),
        (1 / (A + 1), 1 / (weights + 1)), (A**2, weights**2), (2**A, 2**weights), (-A, -weights), (abs(A), weights),
        (A - A, weights - weights), (A > 0.2, weights > 0.2), (A >= A, weights >= weights), (A < 0.5, weights < 0.5),
        (A <= 0, weights <= 0), (A[0] - A[1], weights[0] - weights[1]),
    ):  # fmt: skip
        torch.testing.assert_close(made, wanted)
    assert {A: 1}[A] == 1


def test_becomes_a_tensor_where_one_is_made(A):
    assert torch.equal(torch.as_tensor(A), A.dense())
    torch.testing.assert_close(torch.as_tensor(A[0, 1]), A.dense()[0, 1])
    torch.testing.assert_close(torch.as_tensor(A.T), A.dense().mT)
    assert torch.equal(torch.from_dlpack(A), A.dense())
    assert (A.T.dtype, A.T.device) == (A.dtype, A.device)


def test_products_stay_lazy(A, monkeypatch):
    weights, x, y = A.dense(), torch.randn(6, 3), torch.randn(3, 5)
    monkeypatch.setattr(sightline.AttentionMatrix, "dense", lambda *_: pytest.fail("densified"))
    torch.testing.assert_close(A @ x, weights @ x)
    torch.testing.assert_close(torch.matmul(A, x), weights @ x)
    torch.testing.assert_close(y @ A, y @ weights)
    torch.testing.assert_close(A.T @ y.T, weights.mT @ y.T)
    torch.testing.assert_close(x.T @ A.T, x.T @ weights.mT)
    torch.testing.assert_close(A[1, 2] @ x[:, 0], weights[1, 2] @ x[:, 0])
    torch.testing.assert_close(y[0] @ A[1, 2], y[0] @ weights[1, 2])
    per_head = torch.randn(4, 6, 3)
    torch.testing.assert_close(A[1] @ per_head, weights[1] @ per_head)


def test_indexing_like_a_tensor(A):
    weights = A.dense()
    for index in (
        (0, 1, 2, 3), (0, 1, 2), (slice(None), 1, -1), (..., 3), (0, ..., 2), (slice(1, 2), slice(1, 3), 0, slice(2, 5)),
        (1, 1, slice(0, 5, 2), slice(1, None, 2)), (-1, -1, -1, -1), (slice(None), slice(None), slice(2, 2)),
    ):  # fmt: skip
        torch.testing.assert_close(A[index], weights[index])
    for index in (
        0,
        (0, 1),
        (slice(None), slice(1, 3)),
        ...,
        (..., slice(None)),
        (1, ..., slice(None), slice(None)),
    ):
        part = A[index]
        assert isinstance(part, sightline.AttentionMatrix)
        torch.testing.assert_close(part.dense(), weights[index])
    torch.testing.assert_close(A[0][1][2], weights[0, 1, 2])
    torch.testing.assert_close(A[:, 1:][0, 1].entropy(), torch.special.entr(weights[0, 2]).sum(-1))


def test_large_matrices_refuse_to_densify():
    q = torch.randn(1, 4, 100_000, 8)
    A = sightline.AttentionMatrix(q, q)
    message = (
        r"\[1, 4, 100000, 100000\] take 149.0 GiB, over the limit of 1.0 GiB.*A.topk\(k\).*A.pool.*limit="
    )
    for densify in (
        A.dense,
        A.numpy,
        lambda: numpy.asarray(A),
        lambda: torch.stack([A]),
        lambda: A.mean(1),
        lambda: A * 2,
        lambda: torch.as_tensor(A) + 1,
    ):
        with pytest.raises(MemoryError, match=message):
            densify()
    with pytest.raises(MemoryError, match="over the limit"):
        A[0, 0, :50_000]
    with pytest.raises(MemoryError, match="over"):
        A.scores(slice(0, 50_000))


def test_the_limit_can_be_chosen():
    A = sightline.AttentionMatrix(torch.randn(1, 1, 50, 4), torch.randn(1, 1, 50, 4))
    with pytest.raises(MemoryError, match="over the limit of 0.0 MiB"):
        A.dense(limit=9_999)
    assert A.dense(limit=10_000).shape == (1, 1, 50, 50)


def test_a_row_of_a_long_matrix_needs_no_whole_pass(monkeypatch):
    q = torch.randn(1, 2, 100_000, 8)
    A = sightline.AttentionMatrix(q, q)
    monkeypatch.setattr(sightline.AttentionMatrix, "_full_lse", lambda _: pytest.fail("computed every row"))
    row = A[0, 1, 99_999]
    torch.testing.assert_close(row.sum(), torch.tensor(1.0))
    assert A.pool(4, 4, rows=slice(10, 20)).shape == (1, 2, 4, 4)


def test_a_change_in_place_is_noticed():
    q, k = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 4, 8)
    A = sightline.AttentionMatrix(q, k)
    k[:, :, 0] = 0
    for read in (A.dense, A.entropy, lambda: A.lse, lambda: A[0], lambda: A @ torch.randn(4, 1)):
        with pytest.raises(RuntimeError, match=r"key: changed in place .* key.clone\(\)"):
            read()


def test_lazy_parts_share_memory_and_remember_lse():
    q, k = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8)
    A = sightline.AttentionMatrix(q, k)
    assert A[1].problem.query.data_ptr() == q[1].data_ptr()
    assert A[:, 2:].problem.key.data_ptr() == k[:, 1].data_ptr()
    lse = A.exact_lse
    assert A[1, 2:].exact_lse.data_ptr() == lse[1, 2].data_ptr()


def test_values_are_kept_for_those_who_weigh_them():
    q, v = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 3)
    A = sightline.AttentionMatrix(q, q[:, :2], v)
    assert A[0, 2:].problem.value.shape == (1, 1, 5, 3)


def test_k_beyond_the_native_lists():
    q = torch.randn(1, 2, 90, 8)
    A = sightline.AttentionMatrix(q, q)
    torch.testing.assert_close(A.topk(90).values, A.dense().sort(-1, descending=True).values)


def test_one_pass_serves_several_readouts(monkeypatch):
    calls = []
    for name in ("readouts", "row_lse"):
        original = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *a, f=original, n=name, **o: calls.append(n) or f(*a, **o))
    q = torch.randn(1, 2, 30, 8)
    _, A = sightline.attention(q, q, q, return_matrix=True)
    A.readouts("received", "entropy", "max", "distance", topk=3, segments=torch.arange(30) // 4)
    assert calls == ["readouts"]


def test_math_is_right_at_the_edges():
    q = torch.randn(1, 1, 1, 4)
    A = sightline.AttentionMatrix(q, q)
    torch.testing.assert_close(A.dense().item(), 1.0, atol=1e-6, rtol=0)
    assert abs(A.entropy().item()) < 1e-6
    assert math.isclose(A.lse.item(), (q @ q.mT).item() / 2, rel_tol=1e-6)


def test_an_lse_is_known_row_by_row_and_shared_with_parts():
    q, k = torch.randn(2, 4, 90, 8), torch.randn(2, 2, 90, 8)
    A, whole = (sightline.AttentionMatrix(q, k, mask=sightline.causal()) for _ in range(2))
    with torch.inference_mode():
        found = A[1:, 2:3].lse_of(slice(5, 80, 3))
    torch.testing.assert_close(found, whole.lse[1:, 2:3, 5:80:3])
    assert A.unknown_lse(slice(None)) == 2 * 4 * 90 - 25 and A[1:, 2:3].unknown_lse(slice(5, 80, 3)) == 0
    torch.testing.assert_close(A.lse, whole.lse)
    assert A.unknown_lse(slice(None)) == 0
