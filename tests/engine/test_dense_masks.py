"""Dense masks made of empty, full and mixed blocks, which the kernels skip, compute plainly, or test."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import LENGTHS, Case, close
from sightline.core import library

LEVELS = library.levels() if library.available() is None else []


@st.composite
def block_masks(draw, n, m, generator):
    """A mask [n, m] whose blocks show nothing, everything, or something, with edges off the kernels' own."""
    height, width = draw(st.sampled_from([1, 5, 16, 64, 70])), draw(st.sampled_from([3, 16, 48, 96, 130]))
    shape = (-(-n // height), -(-m // width))
    kind = torch.randint(0, 3, shape, generator=generator)
    if draw(st.booleans()):
        kind = kind.clamp(max=1)
    if draw(st.booleans()):  # mostly nothing: whole rows and long runs are empty
        kind = kind * (torch.rand(shape, generator=generator) < 0.3)
    kind = kind.repeat_interleave(height, 0).repeat_interleave(width, 1)[:n, :m]
    return (kind == 1) | ((kind == 2) & (torch.rand(n, m, generator=generator) < 0.5))


@st.composite
def masked_cases(draw):
    b, h, g = draw(st.sampled_from([(1, 2, 1), (2, 2, 2), (3, 1, 1)]))
    n = draw(st.one_of(LENGTHS, st.sampled_from([200, 259])))
    m = draw(st.one_of(LENGTHS, st.sampled_from([321, 500])))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    planes = (draw(st.sampled_from([1, b])), draw(st.sampled_from([1, h])))
    rows = draw(st.sampled_from([1, n]))
    mask = torch.stack([draw(block_masks(rows, m, generator)) for _ in range(planes[0] * planes[1])]).reshape(
        *planes, rows, m
    )
    layout = draw(st.sampled_from(["contiguous", "transposed", "spare room", "expanded"]))
    if layout == "transposed":
        mask = mask.transpose(-1, -2).contiguous().transpose(-1, -2)
    elif layout == "spare room":
        mask = torch.nn.functional.pad(mask, (3, 5, 1, 0), value=True)[..., 1:, 3:-5]
    elif layout == "expanded":
        mask = mask.expand(b, h, n, m)
    options = {"mask": mask}
    if draw(st.booleans()):
        options["mask"] = sightline.dense(mask) & draw(
            st.sampled_from(
                [sightline.causal(), sightline.window(40, 3), sightline.window(9, None) | sightline.prefix(4)]
            )
        )
    if draw(st.booleans()):
        options["softcap"] = 3.0
    if draw(st.booleans()):
        options["sinks"] = torch.randn(h, generator=generator)
    query, key, value = (
        torch.randn(b, heads, length, 17, generator=generator) for heads, length in ((h, n), (g, m), (g, m))
    )
    return Case(query, key, value, options)


@pytest.mark.parametrize("level", LEVELS)
def test_blocks_of_a_mask(level, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)

    @given(case=masked_cases())
    def check(case):
        wanted = case.reference()
        with sightline.backend("cpu"):
            context, A = case.attention(return_matrix=True)
            found = A.readouts("entropy", "received", "max_score", topk=1)
        close(context, wanted.context, 5e-6)
        close(A.lse, wanted.lse, 5e-6)
        close(found.entropy, torch.special.entr(wanted.weights).sum(-1), 5e-6)
        close(found.received, wanted.weights.sum(-2), 5e-5)
        close(found.max_score, wanted.masked.amax(-1), 5e-6)

    check()


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
def test_blocks_of_a_mask_in_half_precision(dtype, tolerance):
    @settings(max_examples=25)
    @given(case=masked_cases())
    def check(case):
        case = Case(case.query.to(dtype), case.key.to(dtype), case.value.to(dtype), case.options)
        close(case.attention(), case.reference().context, tolerance)

    check()


@pytest.mark.parametrize("level", LEVELS)
def test_a_dense_mask_gives_what_its_ranges_give(level, monkeypatch):
    """The same blocks are computed in the same order, so not even the rounding differs where edges agree."""
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    q, k, v = torch.randn(3, 2, 2, 300, 16)
    mask = sightline.causal() & sightline.lengths([300, 160])
    dense = mask.visible((2, 2, 300, 300), q.device).expand(2, 1, 300, 300)
    close(sightline.attention(q, k, v, mask=dense), sightline.attention(q, k, v, mask=mask), 1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_large_masks_are_looked_through_by_several_threads(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        q, k, v = torch.randn(3, 1, 1, 4100, 4)
        mask = (torch.arange(4100)[:, None] // 50 + torch.arange(4100) // 70) % 3 == 0
        close(
            sightline.attention(q, k, v, mask=mask),
            sightline.reference.attention(q, k, v, mask=mask).context,
            5e-6,
        )
    finally:
        torch.set_num_threads(before)


def test_everything_hidden():
    q, k, v = torch.randn(3, 1, 2, 100, 8)
    context, A = sightline.attention(
        q, k, v, mask=torch.zeros(100, 100, dtype=torch.bool), return_matrix=True
    )
    assert not context.any() and (A.lse == -torch.inf).all() and not A.received().any()
