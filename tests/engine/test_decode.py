"""Decode: few queries over many keys. Against float64, against blocks of queries, and whatever the threads."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import Case, biases, close, laid_out, masks
from sightline.backends.native import kernels
from sightline.backends.native.pack import pack
from sightline.backends.native.plan import Schedule, schedule_of
from sightline.core import library
from sightline.lowering import lower

pytestmark = pytest.mark.skipif(library.available() is not None, reason="no native core")

LEVELS = library.levels() if library.available() is None else []
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 3e-2, torch.float16: 4e-3}
# 64 keys are a chunk, 512 a part.
KEYS = [1, 2, 5, 15, 16, 17, 63, 64, 65, 129, 511, 512, 513, 1100]


@st.composite
def decode_cases(draw, dtype=torch.float32):
    """Problems of the kind that decoding is: up to 4 queries, groups of up to 32 heads, long caches."""
    b, g = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    group = draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 32]))
    n, m = draw(st.integers(1, 4)), draw(st.sampled_from(KEYS))
    d, e = draw(st.sampled_from([1, 8, 17, 32, 40, 64, 72])), draw(st.sampled_from([1, 16, 33, 64, 100]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    h = g * group
    query = laid_out(draw, generator, (b, h, n, d), dtype)
    key, value = (laid_out(draw, generator, (b, g, m, width), dtype) for width in (d, e))
    shape = (b, h, n, m)
    options = {}
    if draw(st.booleans()):
        options["mask"] = draw(masks(shape, generator))
    if draw(st.booleans()):
        bias = draw(biases(shape, generator))
        half = isinstance(bias, torch.Tensor) and draw(st.booleans())
        options["bias"] = bias.to(dtype) if half else bias
    if draw(st.booleans()):
        options["softcap"] = draw(st.sampled_from([0.5, 5.0]))
    if draw(st.booleans()):
        options["sinks"] = torch.randn(h, generator=generator)
    if draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([-0.3, 0.0, 1.0]))
    return Case(query, key, value, options)


def problem_of(case):
    return lower(case.query, case.key, case.value, **case.options)


def decoded(case):
    """(context, lse) from the decode kernels."""
    problem = problem_of(case)
    assert schedule_of(problem).path == "decode"
    return kernels.forward(problem)


def by_blocks(case):
    """(context, lse) of the same rows in a problem with so many more that blocks take it."""
    b, h, n, m = case.shape
    more = 12 - n
    options = dict(case.options)
    device = torch.device("cpu")
    visible = torch.ones(case.shape, dtype=torch.bool)
    if "mask" in options:
        visible = sightline.masks.mask.as_mask(options["mask"]).visible(case.shape, device).expand(case.shape)
    bias = torch.zeros(case.shape)
    if "bias" in options:
        bias = (
            sightline.biases.bias.as_bias(options["bias"])
            .dense(case.shape, device)
            .float()
            .expand(case.shape)
        )
    options["mask"] = F.pad(visible, (0, 0, 0, more))
    options["bias"] = F.pad(bias, (0, 0, 0, more))
    problem = lower(F.pad(case.query, (0, 0, 0, more)), case.key, case.value, **options)
    assert schedule_of(problem).path == "blocks"
    context, lse = kernels.forward(problem)
    return context[:, :, :n], lse[:, :, :n]


def steps_of_logits(case, wanted):
    """How far a context may be off as its rows' logits are numbers of float32, whose steps grow with them.

    A bias may move all that a row sees far from 0, as Alibi does where the near keys are hidden. (test_far_logits.py)
    """
    highest = wanted.masked.amax(-1)
    far = highest[highest.isfinite()].abs()
    step = torch.finfo(torch.float32).eps * far.max().item() if far.numel() else 0.0
    return step * case.value.abs().max().item()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("level", LEVELS)
def test_against_float64(level, dtype, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)

    @settings(max_examples=40)
    @given(case=decode_cases(dtype))
    def check(case):
        wanted = case.reference()
        context, lse = decoded(case)
        close(context, wanted.context, TOLERANCE[dtype] + steps_of_logits(case, wanted))
        close(lse, wanted.lse, 5e-6)
        close(kernels.row_lse(problem_of(case)), wanted.lse, 5e-6)
        assert context.dtype == dtype and lse.dtype == torch.float64

    check()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_blocks_and_decode_agree(dtype):
    @settings(max_examples=25)
    @given(case=decode_cases(dtype))
    def check(case):
        (context, lse), (other, other_lse) = decoded(case), by_blocks(case)
        close(context, other, TOLERANCE[dtype])
        close(lse, other_lse, 5e-6)

    check()


@given(case=decode_cases(torch.bfloat16), threads=st.sampled_from([2, 3, 7]))
@settings(max_examples=30)
def test_thread_counts_agree_to_the_bit(case, threads):
    with thread_count(1):
        context, lse = decoded(case)
    with thread_count(threads):
        other, other_lse = decoded(case)
    assert torch.equal(context.nan_to_num(), other.nan_to_num()) and torch.equal(lse, other_lse)


@contextmanager
def thread_count(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(1, 32, 8, 1, 3000, 128), (2, 12, 12, 1, 77, 64), (1, 8, 1, 3, 700, 40)])
def test_error_within_twice_that_of_pytorch(shape, dtype, level, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    b, h, g, n, m, d = shape
    query = torch.randn(b, h, n, d).to(dtype)
    key, value = torch.randn(2, b, g, m, d).to(dtype)
    wanted = F.scaled_dot_product_attention(query.double(), key.double(), value.double(), enable_gqa=True)
    theirs = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    ours, _ = decoded(Case(query, key, value))
    for error in (lambda x: (x.double() - wanted).norm(), lambda x: (x.double() - wanted).abs().max()):
        assert error(ours) <= 2 * error(theirs)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_cache_with_spare_room_is_read_in_place_and_no_further(dtype):
    room = torch.full((2, 2, 700, 80), torch.nan, dtype=dtype)
    room[:, :, :600, :64] = torch.randn(2, 2, 600, 64).to(dtype)
    cache = room[:, :, :600, :64]
    query = torch.randn(2, 8, 1, 64).to(dtype)
    struct, _ = pack(lower(query, cache, cache))
    assert struct.key == struct.value == room.data_ptr()
    context, _ = decoded(Case(query, cache, cache))
    assert not context.isnan().any()
    close(context, Case(query, cache, cache).reference().context, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_hidden_keys_are_not_read(dtype):
    lengths = torch.tensor([0, 1, 130, 600])
    key, value = torch.randn(2, 4, 2, 600, 16).to(dtype)
    for b, length in enumerate(lengths.tolist()):
        key[b, :, length:] = value[b, :, length:] = torch.nan
    query = torch.randn(4, 4, 1, 16).to(dtype)
    context, lse = decoded(Case(query, key, value, {"mask": sightline.lengths(lengths)}))
    assert (context[0] == 0).all() and (lse[0] == -torch.inf).all()
    for b, length in enumerate(lengths.tolist()[1:], 1):
        alone = Case(query[b : b + 1], key[b : b + 1, :, :length], value[b : b + 1, :, :length]).reference()
        close(context[b : b + 1], alone.context, TOLERANCE[dtype])
        close(lse[b : b + 1], alone.lse, 5e-6)


def test_nothing_to_look_at_is_the_sink():
    sinks = torch.tensor([0.5, -torch.inf])
    query, key, value = torch.randn(1, 2, 1, 4), *torch.randn(2, 1, 1, 9, 4)
    for mask in (sightline.lengths([0]), torch.zeros(1, 1, 1, 9, dtype=torch.bool)):
        context, lse = decoded(Case(query, key, value, {"mask": mask, "sinks": sinks}))
        assert (context == 0).all()
        close(lse.flatten(), sinks, 1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("level", LEVELS)
def test_extreme_numbers(level, dtype, monkeypatch):
    """Every exponent of the dtype, infinity and NaN come through as values; logits of 1e4 too."""
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    bits = torch.arange(-(2**15), 2**15, 97)
    value = bits.to(torch.int16).view(dtype) if dtype != torch.float32 else (bits << 16).int().view(dtype)
    value = value.float().nan_to_num(1.0, 3e4, -3e4).to(dtype).reshape(1, 1, 1, -1)
    query = torch.ones(1, 1, 1, 8, dtype=dtype)
    context, _ = decoded(Case(query, query, value))
    subnormal = value.float().abs() < 1e-37  # the bfloat16 instructions take those as 0
    torch.testing.assert_close(context[~subnormal], value[~subnormal], rtol=2e-7, atol=0)
    for special in (torch.inf, -torch.inf, torch.nan):
        value[..., 3] = special
        assert str(decoded(Case(query, query, value))[0][0, 0, 0, 3].item()) == str(special)
    key = torch.stack([torch.full((1, 1, 8), x) for x in (100.0, -100.0, 99.0)], 2).to(dtype)
    case = Case(query * 100, key, torch.randn(1, 1, 3, 4).to(dtype), {"scale": 1.0})
    close(decoded(case)[0], case.reference().context, TOLERANCE[dtype])


@pytest.mark.parametrize("level", LEVELS)
def test_plan_of_decode(level, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    query, cache = torch.zeros(2, 8, 1, 64), torch.zeros(2, 2, 1200, 64)
    with thread_count(2):
        found = schedule_of(lower(query, cache, cache))
    assert found == Schedule(level, "decode", workers=2, parts=12, products="float32")
    assert schedule_of(lower(query[:, :, :, :4], cache[:, :, :5, :4], None)).workers == 1
    half = [x.bfloat16() for x in (query, cache, cache)]
    wanted = "bfloat16 pairs" if level == "avx512_bf16" else "float32"
    assert schedule_of(lower(*half)).products == wanted
    assert schedule_of(lower(query.expand(2, 8, 64, 64), cache, cache)).path == "blocks"


def test_many_parts_and_many_rows():
    """Parts of more keys where there are many; rows of a group beyond one part's."""
    key, value = torch.randn(2, 3, 8, 3000, 8)
    query = torch.randn(3, 256, 4, 8)
    case = Case(query, key, value, {"mask": sightline.causal() & sightline.window(2500, None)})
    plan = schedule_of(problem_of(case))
    assert plan.parts > 3 * 8 * 2
    close(decoded(case)[0], case.reference().context, 5e-6)
