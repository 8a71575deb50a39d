"""bfloat16 and float16 in the native core: every level against the float64 definition of the same inputs."""

import math

import pytest
import torch
from hypothesis import given, settings

import sightline
from cases import Case, cases, close
from engine.test_against_reference import check_readouts
from sightline.core import library

LEVELS = library.levels() if library.available() is None else []
HALVES = [torch.bfloat16, torch.float16]
# Of the context: what rounding weights and result to the dtype leaves. Everything else is float32.
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 1.5e-2, torch.float16: 2e-3}

pytestmark = pytest.mark.skipif(not LEVELS, reason="the native library is not there")


@pytest.fixture(params=LEVELS, autouse=True)
def level(request, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", request.param)
    return request.param


@pytest.fixture(params=HALVES, ids=str)
def dtype(request):
    return request.param


def check(case, readouts=True):
    wanted = case.reference()
    with sightline.backend("cpu"):
        context, A = case.attention(return_matrix=True)
        assert context.dtype == case.query.dtype
        close(context, wanted.context, TOLERANCE[case.query.dtype])
        close(A.lse, wanted.lse, 5e-6)
        if readouts:
            check_readouts(A, wanted, 1e-5)


def test_any_problem(dtype):
    @settings(max_examples=25)
    @given(case=cases(dtype=dtype))
    def run(case):
        check(case)

    run()


@pytest.mark.parametrize("width", [1, 3, 31, 33, 65])
def test_odd_widths_and_key_counts(dtype, width):
    for keys in (1, 33, 97, 289):
        q = torch.randn(1, 2, 67, width).to(dtype)
        k = torch.randn(1, 1, keys, width).to(dtype)
        v = torch.randn(1, 1, keys, 66 - width).to(dtype)
        check(Case(q, k, v), readouts=False)


@pytest.mark.parametrize("scale", [-0.3, 0.0, 2.0])
def test_many_blocks_and_any_scale(dtype, scale):
    q, k, v = torch.randn(1, 4, 300, 40), torch.randn(1, 2, 301, 40), torch.randn(1, 2, 301, 24)
    mask = sightline.window(150, 3) | sightline.prefix(7)
    case = Case(q.to(dtype), k.to(dtype), v.to(dtype), {"scale": scale, "mask": mask})
    check(case)


@pytest.mark.parametrize("offset", [0, 1])
def test_heads_side_by_side_in_memory(dtype, offset):
    # Rows are 2,178 bytes apart, so the heads are packed, and one that two query heads share only once.
    def rows(heads):
        return (
            torch.randn(2, 260, 1089).to(dtype)[..., offset : offset + heads * 32].unflatten(2, (heads, 32))
        )

    q, k, v = (rows(heads).transpose(1, 2) for heads in (8, 4, 4))
    check(Case(q, k, v, {"mask": sightline.causal()}), readouts=False)
    assert sightline.attention(q, k, v).stride(2) == 8 * 32


def test_threads_and_packing_change_nothing(dtype):
    q, k, v = (torch.randn(1, 3, 500, 24).to(dtype) for _ in range(3))
    whole = sightline.attention(q, k, v)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            assert torch.equal(sightline.attention(q, k, v), whole)
    finally:
        torch.set_num_threads(before)
    # Few queries at a time: their keys and values are made ready chunk by chunk.
    parts = [sightline.attention(q[:, :, i : i + 64], k, v) for i in range(0, 500, 64)]
    assert torch.equal(torch.cat(parts, 2), whole)


def test_a_head_too_long_to_be_packed(dtype):
    # Overlapping rows, so that the test itself needs no memory; packed they would take 290 MiB or more.
    keys, width = 300_000, 512
    k = torch.randn(keys + 3).to(dtype).as_strided((1, 1, keys, 3), (0, 0, 1, 1))
    v = torch.randn(keys + width).to(dtype).as_strided((1, 1, keys, width), (0, 0, 1, 1))
    q = torch.randn(1, 1, 256, 3).to(dtype)
    found = sightline.attention(q, k, v, mask=sightline.window(500, 0))
    near = Case(q, k[:, :, -800:], v[:, :, -800:], {"mask": sightline.window(500, 0)})
    close(found, near.reference().context, TOLERANCE[dtype])


def test_every_number_is_read_and_written_as_it_is(dtype, level):
    # One key has weight 1: the context is its value, bit by bit.
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    v = numbers.view(1, 16, 1, 4096)
    q = k = torch.ones(1, 16, 1, 8, dtype=dtype)
    found = sightline.attention(q, k, v).flatten()
    # Dot products take subnormal bfloat16 numbers (below 1.2e-38) for 0.
    flushed = dtype == torch.bfloat16 and level == "avx512_bf16"
    wanted = torch.where(numbers.float().abs() < 2.0**-126, 0, numbers) if flushed else numbers
    assert torch.equal(found.isnan(), wanted.isnan())
    assert torch.equal(found[~found.isnan()], wanted[~wanted.isnan()])


def test_the_context_is_rounded_to_nearest(dtype):
    # Mixtures of neighbours, subnormal ones of float16 included: the nearer one, and halfway any of both.
    first = 0x0001 if dtype == torch.float16 else 0x0080
    last = 0x7BFF if dtype == torch.float16 else 0x7D00  # sums stay finite
    low = torch.arange(first, last, dtype=torch.int16)
    numbers = torch.stack((low, low + 1)).view(dtype)
    q, k = torch.ones(1, 1, 1, 4, dtype=dtype), torch.ones(1, 1, 4, 4, dtype=dtype)
    for high in range(5):
        v = numbers[[int(j < high) for j in range(4)]][None, None]
        found = sightline.attention(q, k, v)[0, 0, 0]
        wanted = v[0, 0].double().mean(0)
        gap = numbers[1].double() - numbers[0].double()
        assert ((found.double() - wanted).abs() <= gap * (0.2501 if high != 2 else 0.5001)).all()


def test_weights_are_rounded_not_truncated():
    # Truncated weights would sum to less than 1 and pull a constant value down.
    q, k = (torch.randn(1, 1, 512, 16).bfloat16() for _ in range(2))
    ones = torch.ones(1, 1, 512, 8, dtype=torch.bfloat16)
    found = sightline.attention(q * 2, k, ones * 1.0078125).double().mean()
    assert abs(found.item() / 1.0078125 - 1) < 5e-4


def test_nan_and_infinity_keep_their_meaning(dtype):
    q, k, v = (torch.randn(1, 2, 70, 16).to(dtype) for _ in range(3))
    q[0, 1, 5, 3] = torch.nan
    v[0, 0, 9, 2] = torch.inf
    context, A = sightline.attention(q, k, v, return_matrix=True)
    assert context[0, 1, 5].isnan().all() and A.lse[0, 1, 5].isnan()
    assert (context[0, 0, :, 2] == torch.inf).all()
    context[0, 1, 5] = 0
    assert not context.isnan().any()
    v[0, 0, 9, 2] = 0
    # A NaN whose bits are all ones must not be rounded to a number.
    bias = torch.zeros(70, 70)
    bias[8, 3] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)
    bias[:, 4] = -torch.inf
    context = sightline.attention(q, k, v, bias=bias)
    assert context[:, :, 8].isnan().all()
    assert not context[:, :, :5].isnan().any()


@pytest.mark.parametrize("bias_dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("query_dtype", [torch.float32, torch.bfloat16])
def test_a_bias_of_any_dtype(query_dtype, bias_dtype):
    q, k, v = (torch.randn(2, 2, n, 8).to(query_dtype) for n in (65, 83, 83))
    full = torch.randn(2, 1, 65, 83).masked_fill(torch.rand(65, 83) < 0.2, -torch.inf).to(bias_dtype)
    turned = torch.randn(2, 2, 83, 65).to(bias_dtype).transpose(-1, -2)
    row = torch.randn(83).to(bias_dtype)
    hidden = torch.full((2, 83), torch.finfo(bias_dtype).min, dtype=bias_dtype)[:, None, None]
    for bias in (full, turned, row, hidden * (torch.rand(83) < 0.5)):
        check(Case(q, k, v, {"bias": bias.to(bias_dtype)}))


@pytest.mark.parametrize("order", ["ascending", "descending", "rising saw", "ties", "each lane its own"])
def test_topk_in_any_order_of_keys(order):
    keys = 700
    place = torch.arange(keys)
    scores = {
        "ascending": place,
        "descending": -place,
        "rising saw": torch.where(place % 8 == 3, place - 4000, place),
        "ties": place // 50 % 3,
        "each lane its own": place,
    }[order].float()
    rows = scores.expand(20, keys)
    if order == "each lane its own":
        rows = torch.stack([torch.roll(scores, 37 * i) for i in range(20)])
    A = sightline.AttentionMatrix(torch.zeros(1, 1, 20, 4), torch.zeros(1, 1, keys, 4), bias=rows / 64)
    wanted = rows.sort(dim=-1, descending=True, stable=True).indices
    for k in (1, 2, 3, 8, 20):
        with sightline.backend("cpu"):
            values, indices = A.topk(k)
        assert torch.equal(indices[0, 0], wanted[:, :k])
        close(values[0, 0], (rows / 64).double().softmax(-1).gather(-1, wanted[:, :k]), 1e-6)


def test_a_row_of_infinite_scores():
    q, k = torch.full((1, 1, 3, 2), math.inf), torch.ones(1, 1, 4, 2)
    assert sightline.attention(q, k, k).isnan().all()
