"""Every backend, mask, bias and readout against the float64 definition, on problems drawn at random."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import BACKENDS, Case, biases, cases, close, masks
from sightline.core import library
from sightline.positions.key_ranges import contains


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases(empty=True))
def test_context_and_lse(backend, case):
    wanted = case.reference()
    with sightline.backend(backend):
        context, A = case.attention(return_matrix=True)
    close(context, wanted.context, 5e-6)
    close(A.lse, wanted.lse, 5e-6)
    assert context.dtype == case.query.dtype


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-12), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)]
)
def test_other_dtypes(dtype, tolerance):
    @settings(max_examples=25)
    @given(case=cases(dtype=dtype))
    def check(case):
        wanted = case.reference()
        context, A = case.attention(return_matrix=True)
        close(context, wanted.context, tolerance)
        close(A.lse, wanted.lse, 1e-12 if dtype == torch.float64 else 5e-6)
        assert context.dtype == A.dtype == dtype
        assert (
            A.lse.dtype == A.entropy().dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        )

    check()


@pytest.mark.parametrize("level", library.levels() if library.available() is None else [])
def test_every_level_of_this_machine(level, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    assert sightline.info()["level active"] == level

    @given(case=cases())
    def check(case):
        wanted = case.reference()
        with sightline.backend("cpu"):
            context, A = case.attention(return_matrix=True)
            close(context, wanted.context, 5e-6)
            close(A.lse, wanted.lse, 5e-6)
            check_readouts(A, wanted)

    check()


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases())
def test_readouts(backend, case):
    wanted = case.reference()
    with sightline.backend(backend):
        check_readouts(case.matrix(), wanted)


def check_readouts(A, wanted, tolerance=5e-6):
    weights, masked = wanted.weights, wanted.masked
    b, h, n, m = weights.shape
    k = min(m, 5)
    segments = torch.arange(m) % 3
    found = A.readouts("entropy", "received", "max", "max_score", "distance", topk=k, segments=segments)
    close(found.entropy, torch.special.entr(weights).sum(-1), tolerance)
    close(found.received, weights.sum(-2), tolerance * 10)
    close(found.max_score, masked.amax(-1), tolerance)
    steps = (torch.arange(n)[:, None] + m - n - torch.arange(m)).abs()
    close(found.distance, (weights * steps).sum(-1), tolerance * 20)
    close(found.mass[..., 0], weights[..., ::3].sum(-1), tolerance)
    close(found.max.values, weights.amax(-1), tolerance)
    best = weights.topk(k)
    close(found.topk.values, best.values, tolerance)
    # Ties may be broken either way: the keys must have the weights that are claimed for them.
    visible = masked > -torch.inf
    for values, indices in (found.topk, (found.max.values[..., None], found.max.indices[..., None])):
        count = visible.sum(-1, keepdim=True)
        assert ((indices >= 0) == (torch.arange(indices.shape[-1]) < count)).all()
        close(values, torch.where(indices < 0, 0, weights.gather(-1, indices.clamp(min=0))), tolerance)
    assert all(len(set(row)) == len(row) for row in found.topk.indices[visible.sum(-1) >= k].tolist())


@given(case=cases(), data=st.data())
def test_parts_products_and_pictures(case, data):
    wanted, A = case.reference(), case.matrix()
    weights = wanted.weights
    b, h, n, m = weights.shape
    rows, cols = data.draw(st.slices(n)), data.draw(st.slices(m))
    rows, cols = (slice(s.start, s.stop, abs(s.step) if s.step else None) for s in (rows, cols))
    part = A[:, :, rows, cols]
    close(
        part.dense() if isinstance(part, sightline.AttentionMatrix) else part, weights[:, :, rows, cols], 5e-6
    )
    for stage in ("scaled", "capped", "biased", "masked"):
        close(A.scores(rows, cols, stage=stage), getattr(wanted, stage)[:, :, rows, cols], 5e-6)
    offset = data.draw(st.integers(1 - n, m - 1))
    close(A.diagonal(offset), weights.diagonal(offset, -2, -1), 5e-6)
    indices = torch.randint(0, m, (b, h, n))
    close(A.gather(indices), weights.gather(-1, indices[..., None])[..., 0], 5e-6)
    x, y = torch.randn(b, h, m, 3), torch.randn(b, h, n, 2)
    close(A @ x, weights @ x.double(), 2e-5)
    close(A.T @ y, weights.mT @ y.double(), 2e-5)
    close(y.mT @ A, y.mT.double() @ weights, 2e-5)
    close(x[0, 0, :, 0] @ A.T, (weights @ x[0, 0, :, 0].double()), 2e-5)


@given(case=cases(), data=st.data())
def test_pool_equals_a_dense_pool(case, data):
    wanted, A = case.reference(), case.matrix()
    b, h, n, m = wanted.weights.shape
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    top, left = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, m - 1))
    bottom, right = data.draw(st.integers(top + 1, n)), data.draw(st.integers(left + 1, m))
    reduce = data.draw(st.sampled_from(["mean", "max", "sum"]))
    found = A.pool(height, width, slice(top, bottom), slice(left, right), reduce)
    visible = wanted.masked > -torch.inf
    expected = torch.full((b, h, height, width), 0.0 if reduce == "sum" else torch.nan, dtype=torch.float64)
    for r in range(height):
        for c in range(width):
            rows = slice(top + r * (bottom - top) // height, top + (r + 1) * (bottom - top) // height)
            cols = slice(left + c * (right - left) // width, left + (c + 1) * (right - left) // width)
            cell, seen = wanted.weights[:, :, rows, cols], visible[:, :, rows, cols].sum((-1, -2))
            if cell.numel() == 0:
                continue
            value = cell.amax((-1, -2)) if reduce == "max" else cell.sum((-1, -2))
            if reduce == "mean":
                value = value / seen
            expected[:, :, r, c] = value if reduce == "sum" else value.masked_fill(seen == 0, torch.nan)
    close(found, expected, 5e-6)


@given(case=cases(), data=st.data())
def test_batches_and_heads_slice_lazily(case, data):
    wanted, A = case.reference(), case.matrix()
    b, h, n, m = wanted.weights.shape
    batch = data.draw(st.one_of(st.integers(-b, b - 1), st.just(slice(None)), st.just(slice(0, 1))))
    first = data.draw(st.integers(0, h - 1))
    heads = data.draw(
        st.one_of(st.integers(-h, h - 1), st.just(slice(first, None)), st.just(slice(None, None, 2)))
    )
    part = A[batch, heads]
    assert isinstance(part, sightline.AttentionMatrix)
    expected = wanted.weights[batch, heads]
    assert part.shape == expected.shape
    close(part.dense(), expected, 5e-6)
    close(part.entropy(), torch.special.entr(expected).sum(-1), 5e-6)
    close(part.received(), expected.sum(-2), 5e-5)
    close(part.lse, wanted.lse[batch, heads], 5e-6)


@given(data=st.data())
def test_a_mask_lowers_to_what_it_says(data):
    shape = tuple(data.draw(st.sampled_from([1, 2, 3, 5, 11])) for _ in range(4))
    mask = sightline.masks.mask.as_mask(data.draw(masks(shape, torch.Generator().manual_seed(0))))
    device = torch.device("cpu")
    wanted = mask.visible(shape, device).expand(shape)
    lowered = mask.lower(shape, device)
    found = torch.ones(shape, dtype=torch.bool)
    if lowered.ranges is not None:
        found &= contains(lowered.ranges, slice(0, shape[3]))
        check_ranges_are_sorted_and_disjoint(lowered.ranges, shape[3])
    if lowered.visible is not None:
        found &= lowered.visible
    assert torch.equal(found, wanted)


def check_ranges_are_sorted_and_disjoint(ranges, keys):
    for row in ranges.flatten(0, 2).tolist():
        filled = [(lo, hi) for lo, hi in row if lo < hi]
        assert all(lo >= 0 and hi <= keys for lo, hi in filled)
        assert all(a[1] <= b[0] for a, b in zip(filled, filled[1:], strict=False))


@given(data=st.data())
def test_a_bias_lowers_to_what_it_says(data):
    shape = tuple(data.draw(st.sampled_from([1, 2, 3, 5, 11])) for _ in range(4))
    bias = sightline.biases.bias.as_bias(data.draw(biases(shape, torch.Generator().manual_seed(0))))
    zero = torch.zeros(*shape[:3], 1), torch.zeros(shape[0], shape[1], shape[3], 1)
    A = sightline.AttentionMatrix(*zero, bias=bias)
    close(A.scores(stage="biased"), bias.dense(shape, torch.device("cpu")).expand(shape), 1e-6)


def test_a_long_problem_that_needs_many_blocks():
    case = Case(torch.randn(1, 3, 1500, 16), torch.randn(1, 1, 1700, 16), torch.randn(1, 1, 1700, 8))
    case.options["mask"] = sightline.causal() & (sightline.window(300, 0) | sightline.prefix(4))
    wanted = case.reference()
    for backend in ("cpu", "chunked"):
        with sightline.backend(backend):
            context, A = case.attention(return_matrix=True)
            close(context, wanted.context, 5e-6)
            check_readouts(A, wanted, 1e-5)
            close(
                A.pool(5, 10, reduce="sum"),
                wanted.weights.unflatten(3, (10, 170)).unflatten(2, (5, 300)).sum((3, 5)),
                1e-4,
            )
