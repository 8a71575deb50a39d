"""A @ x, Aᵀ @ x, distance, masses and pictures by the native kernels: held against float64 and the plain path."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import cases, close
from sightline.backends.contract import Cells
from sightline.backends.native import kernels, pool, products
from sightline.core import library
from sightline.positions.align import offsets

pytestmark = pytest.mark.skipif(library.available() is not None, reason="no native core")

LEVELS = library.levels() if library.available() is None else []
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", request.param)
    return request.param


def seeded(draw):
    return torch.Generator().manual_seed(draw(st.integers(0, 2**31)))


@st.composite
def other_sides(draw, shape, length):
    """x [length], [length,F], [H,length,F] or [B,H,length,F], axes broadcast and layouts varied."""
    b, h = shape[:2]
    generator = seeded(draw)
    width = draw(st.sampled_from([0, 1, 3, 16, 33]))
    kind = draw(st.sampled_from(["vector", "shared", "per head", "per entry", "one head", "full", "strided"]))
    leading = {
        "vector": None, "shared": (), "per head": (h,), "per entry": (b, 1), "one head": (1, h), "full": (b, h),
        "strided": (b, h),
    }[kind]  # fmt: skip
    if leading is None:
        return torch.randn(length, generator=generator)
    if kind == "strided":
        return torch.randn(b, h, width, length, generator=generator).transpose(-1, -2)
    return torch.randn(*leading, length, width, generator=generator)


def drawn_segments(draw, b, m):
    count, shape = draw(st.sampled_from([1, 3, 70])), draw(st.sampled_from([(m,), (b, m)]))
    return torch.randint(0, count, shape, generator=seeded(draw))


def compute(A, x, y, options, region):
    """Everything that this file is about, with the reductions of a picture one after another."""
    found = A.readouts("entropy", "distance", **options)
    pictures = [A.pool(*region, reduce=reduce) for reduce in ("mean", "max", "sum")]
    return [A @ x, A.T @ y, found.entropy, found.distance, found.mass, *pictures]


def test_any_problem_at_every_level(monkeypatch):
    monkeypatch.setattr(pool, "_BAND", 1)  # bands of 64 rows, which cut cells

    @settings(max_examples=settings().max_examples // 2)  # each is computed at every level, in many ways
    @given(dtype=st.sampled_from(DTYPES), data=st.data())
    def check(dtype, data):
        draw = data.draw
        case = draw(cases(dtype))
        (b, _, n, m), weights = case.shape, case.reference().weights
        x, y = (draw(other_sides(case.shape, length)) for length in (m, n))
        align = draw(st.sampled_from(["bottom-right", "top-left", -7, 300, torch.arange(b) - 1]))
        segments = drawn_segments(draw, b, m)
        top, left = draw(st.integers(0, n)), draw(st.integers(0, m))
        rows, cols = slice(top, draw(st.integers(top, n))), slice(left, draw(st.integers(left, m)))
        region = (draw(st.integers(1, 20)), draw(st.integers(1, 140)), rows, cols)

        offset = offsets(align, b, n, m, torch.device("cpu"))[:, None, None, None]
        steps = (torch.arange(n)[:, None] + offset - torch.arange(m)).abs()
        one_hot = torch.nn.functional.one_hot(segments, int(segments.max()) + 1).double()
        with sightline.backend("chunked"):
            double = {o: v.double() if o in ("sinks",) else v for o, v in case.options.items()}
            exact = sightline.AttentionMatrix(case.query.double(), case.key.double(), **double)
            pictures = [exact.pool(*region, reduce=reduce) for reduce in ("mean", "max", "sum")]
        wanted = [
            weights @ x.double(), weights.mT @ y.double(), torch.special.entr(weights).sum(-1),
            (weights * steps).sum(-1), weights @ (one_hot[:, None] if segments.dim() == 2 else one_hot), *pictures,
        ]  # fmt: skip
        for level in LEVELS:
            monkeypatch.setenv("SIGHTLINE_ISA", level)
            A = case.matrix()
            assert set(A.explain("distance", "mass").values()) == {"native"}
            for ours, right in zip(
                compute(A, x, y, {"segments": segments, "align": align}, region), wanted, strict=True
            ):
                close(ours, right, 1e-6 * (20 + float(steps.max())))
            if y.dim() > 1:
                close(y.mT @ A, wanted[1].mT, 1e-6 * (20 + n))

    check()


def errors(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("stretch", [1, 20])
def test_errors_are_those_of_float32(level, dtype, causal, stretch):
    """Whatever the dtype of query and key: neither x nor the weights are rounded to it."""
    torch.manual_seed(0)
    n = 500
    q, k = (stretch**0.5 * torch.randn(2, 1, 2, n, 64)).to(dtype).unbind(0)
    x = torch.randn(n, 64)
    A = sightline.AttentionMatrix(q, k, mask=sightline.causal() if causal else None)
    scores = q.double() @ k.double().mT / 8
    if causal:
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
    weights = scores.softmax(-1)
    steps = (torch.arange(n)[:, None] - torch.arange(n)).abs()
    segments = torch.arange(n) // 20
    one_hot = torch.nn.functional.one_hot(segments).double()
    for name, found, wanted in (
        ("A @ x", A @ x, weights @ x.double()),
        ("A.T @ x", A.T @ x, weights.mT @ x.double()),
        ("distance", A.distance(), (weights * steps).sum(-1)),
        ("mass", A.mass(segments), weights @ one_hot),
        ("pool", A.pool(25, 25, reduce="sum"), one_hot.mT @ weights @ one_hot),
    ):
        assert errors(found, wanted) < 1e-6 * stretch, name


def test_heads_of_a_group_keep_their_own_products(monkeypatch):
    """Converted and repeated a group at a time, in columns, as long problems are."""
    monkeypatch.setattr(products, "CONVERTED", 1)
    monkeypatch.setattr(products, "COLUMNS", 3)
    for dtype in DTYPES:
        q, k = torch.randn(2, 6, 37, 8).to(dtype), torch.randn(2, 2, 53, 8).to(dtype)
        bias, sinks = torch.randn(2, 6, 37, 53), torch.randn(6)
        A = sightline.AttentionMatrix(q, k, bias=bias, sinks=sinks)
        weights = sightline.reference.attention(q, k, k, bias=bias, sinks=sinks).weights
        for leading in ((), (6,), (2, 1), (2, 6)):
            x, y = torch.randn(*leading, 53, 8), torch.randn(*leading, 37, 8)
            close(A @ x, weights @ x.double(), 2e-5)
            close(A.T @ y, weights.mT @ y.double(), 2e-5)
            close(A[1, 2:5] @ torch.ones(53), weights[1, 2:5].sum(-1), 2e-5)


def test_the_result_has_the_dtype_of_x():
    A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 9, 4).bfloat16())
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        assert (A @ torch.randn(9, 3, dtype=dtype)).dtype == dtype
        assert (A.T @ torch.randn(9, 3, dtype=dtype)).dtype == dtype


def test_rows_with_nothing_to_look_at_are_zero():
    q = torch.randn(1, 2, 70, 4)
    A = sightline.AttentionMatrix(q, q, mask=sightline.lengths(torch.tensor([0])))
    found = A.readouts("distance", segments=torch.arange(70) % 2)
    for zero in (A @ torch.randn(70, 3), A.T @ torch.randn(70, 3), found.distance, found.mass):
        assert (zero == 0).all()
    assert A.pool(3, 3).isnan().all() and A.pool(3, 3, reduce="max").isnan().all()
    assert (A.pool(3, 3, reduce="sum") == 0).all()


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)])
def test_empty_problems(shape):
    b, h, n, m = shape
    A = sightline.AttentionMatrix(torch.randn(b, h, n, 5), torch.randn(b, h, m, 5))
    assert (A @ torch.randn(m, 2)).shape == (b, h, n, 2) and not (A @ torch.randn(m, 2)).any()
    assert (A.T @ torch.randn(n, 2)).shape == (b, h, m, 2) and not (A.T @ torch.randn(n, 2)).any()
    found = A.readouts("distance", segments=torch.zeros(m, dtype=torch.int64))
    assert found.distance.shape == (b, h, n) and not found.distance.any()
    assert A.pool(2, 2, reduce="sum").shape == (b, h, 2, 2)


def test_the_number_of_threads_changes_rounding_only(torch_threads):
    q, k = torch.randn(1, 3, 500, 16), torch.randn(1, 3, 700, 16)
    A = sightline.AttentionMatrix(q, k, mask=sightline.causal())
    segments = torch.arange(700) // 9
    x, y = torch.randn(700, 5), torch.randn(500, 5)

    def compute():
        found = A.readouts("distance", segments=segments)
        return A @ x, found.distance, found.mass, A.pool(7, 11, reduce="max").nan_to_num(-1)

    torch_threads(1)
    alone, summed = compute(), A.T @ y
    for threads in (2, 3, 5):
        torch_threads(threads)
        assert all(map(torch.equal, compute(), alone))
        # Sums over queries are cut into shares: the same number of threads gives the same result.
        assert torch.equal(A.T @ y, A.T @ y)
        torch.testing.assert_close(A.T @ y, summed)


def test_gradients_still_flow():
    q, k = torch.randn(1, 2, 6, 4, dtype=torch.float32), torch.randn(1, 2, 6, 4)
    x = torch.randn(6, 3, requires_grad=True)
    detached = sightline.AttentionMatrix(q, k)
    (gradient,) = torch.autograd.grad((detached @ x).sum(), x)
    close(gradient, detached.dense().sum((0, 1, 2))[:, None].expand(6, 3).double(), 1e-5)
    A = sightline.AttentionMatrix(q.requires_grad_(), k, detach=False)
    for made in (A @ x.detach(), A.T @ x.detach(), A.distance(), A.pool(2, 2), A.mass(torch.arange(6) % 2)):
        assert torch.autograd.grad(made.square().sum(), q, retain_graph=True)[0].abs().sum() > 0


@pytest.mark.parametrize("size", [1, 5])
def test_empty_regions(size):
    A = sightline.AttentionMatrix(*torch.randn(2, 1, 1, size, 4), mask=torch.ones(size, 1, dtype=torch.bool))
    nothing, everything = slice(0, 0), slice(None)
    for rows, cols in ((nothing, everything), (everything, nothing), (nothing, nothing)):
        assert A.pool(2, 3, rows, cols).isnan().all()
        assert A.pool(2, 3, rows, cols, "max").isnan().all()
        assert (A.pool(2, 3, rows, cols, "sum") == 0).all()


@pytest.mark.parametrize("bad", [-1, 3])
def test_a_stray_cell_is_refused_not_written(bad):
    A = sightline.AttentionMatrix(*torch.randn(2, 1, 1, 9, 4))
    cells = Cells(torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1, bad]]), 3)
    with pytest.raises(RuntimeError, match="readouts: the native core reports: invalid argument"):
        kernels.readouts(A.problem, A.lse, ["cell_sum"], cells=cells)
