"""Every index that a tensor takes means the same of a matrix; whole matrices stay lazy, and no more is computed."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sightline

SIZES = (2, 4, 5, 6)
ALL = slice(None)


@pytest.fixture(scope="module")
def A():
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 6, 8)
    return sightline.AttentionMatrix(q, k, q[:, :2, :1].expand(2, 2, 6, 8), mask=sightline.causal())


def same(matrix, index):
    """What the index gives of the matrix, compared with what it gives of the dense weights."""
    found, wanted = matrix[index], matrix.dense()[index]
    assert found.shape == wanted.shape, (index, found.shape, wanted.shape)
    torch.testing.assert_close(found + 0, wanted)
    return found


LAZY = [
    (None, 0), (0, None), (0, 0, None), (0, 0, None, None), (None, 0, 0), (ALL, 0, None), [1, 0], (ALL, [0, 2]),
    (ALL, torch.tensor([3, 1, 1])), (0, [True, False, True, True]), (numpy.int64(1), numpy.array([2, 0])),
    torch.tensor(1), (torch.tensor([True, False]), 2), (ALL, []), (slice(0, 0),), (ALL, range(1, 3)), (..., ALL, ALL),
    (1, ..., ALL, ALL), (numpy.int32(-1), -1), (ALL, slice(0, 4, 3)),
]  # fmt: skip
DENSE = [
    None, (..., None), (ALL, ALL, [3, 4]), (ALL, ALL, ALL, [0, 5, 0]), ([0, 1], [1, 2]), ([0, 1], ALL, [2, 3]),
    (0, ALL, [1, 2]), (ALL, 0, [1, 2], [1, 3]), (ALL, torch.tensor([[0, 1], [2, 3]])), True, False, (0, True),
    (ALL, ALL, []), (ALL, ALL, ALL, -1, None), (1, None, 2, None, 3), (ALL, ALL, torch.zeros(5, dtype=torch.bool)),
    (ALL, None), (ALL, 0, ALL, None), (ALL, ALL, ALL, torch.tensor([-1, -6], dtype=torch.int32)),
    (ALL, ALL, numpy.array([True, False, True, False, False])), (torch.tensor(1), torch.tensor(2), torch.tensor(0)),
    (ALL, ALL, (0, 2), (1, 3)), (None, ALL, None, 1),
]  # fmt: skip


@pytest.mark.parametrize("index", LAZY, ids=str)
def test_whole_matrices_stay_lazy(A, index):
    found = same(A, index)
    assert isinstance(found, sightline.AttentionMatrix)
    torch.testing.assert_close(found.entropy(), A.entropy()[index])
    torch.testing.assert_close(found.lse, A.lse[index])
    torch.testing.assert_close(found @ torch.ones(6), (A @ torch.ones(6))[index])


@pytest.mark.parametrize("index", DENSE, ids=str)
def test_parts_are_dense(A, index):
    assert not isinstance(same(A, index), sightline.AttentionMatrix)


def test_masks_of_several_axes(A):
    weights = A.dense()
    for index in (
        weights > 0.3,
        (0, weights[0] > 0.3),
        (ALL, ALL, weights[0, 0] > 0.2),
        weights > 2,
        A > 0.1,
    ):
        torch.testing.assert_close(A[index], weights[index])


def test_parts_of_parts(A):
    weights = A.dense()
    torch.testing.assert_close(A[0][None].cpu().dense(), weights[0][None])
    torch.testing.assert_close(A[:, 1][[1, 0], [2, 3]], weights[:, 1][[1, 0], [2, 3]])
    torch.testing.assert_close(A[1][[3, 0]][None, 1].dense(), weights[1][[3, 0]][None, 1])
    torch.testing.assert_close(A[:, [3, 0]][0].entropy(), A.entropy()[0, [3, 0]])
    torch.testing.assert_close(A.T[0, :, [1, 2]], weights.mT[0, :, [1, 2]])


def one_entry(size):
    integers = st.integers(-size, size - 1)
    slices = st.slices(size).filter(lambda s: s.step is None or s.step > 0)
    lists = st.lists(integers, max_size=4)
    masks = st.lists(st.booleans(), min_size=size, max_size=size)
    grids = st.lists(st.lists(integers, min_size=2, max_size=2), min_size=1, max_size=2).map(torch.tensor)
    return st.one_of(
        integers, integers.map(numpy.int64), integers.map(torch.tensor), slices, slices, lists, lists.map(numpy.array).map(
            lambda a: a.astype(numpy.int64)), masks.map(torch.tensor), grids, st.just(ALL)
    )  # fmt: skip


@st.composite
def indices(draw):
    count = draw(st.integers(0, 4))
    first = draw(st.integers(0, 4 - count))  # before "..." the leading axes, after it the last ones
    lead, tail = draw(
        st.sampled_from([(count, 0), (0, count), (min(count, first), count - min(count, first))])
    )
    entries = [draw(one_entry(size)) for size in SIZES[:lead]]
    if tail or draw(st.booleans()):
        entries.append(...)
    entries += [draw(one_entry(size)) for size in SIZES[4 - tail :]] if tail else []
    for place in draw(st.lists(st.integers(0, len(entries)), max_size=2)):
        entries.insert(place, None)
    return tuple(entries)


@given(index=indices(), seed=st.integers(0, 3))
def test_any_index(index, seed):
    torch.manual_seed(seed)
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 6, 8)
    matrix = sightline.AttentionMatrix(q, k, mask=sightline.causal(), bias=sightline.alibi(torch.rand(4)))
    weights = matrix.dense()
    try:
        wanted = weights[index]
    except IndexError:  # lists whose lengths differ
        with pytest.raises(IndexError):
            matrix[index]
        return
    found = matrix[index]
    assert found.shape == wanted.shape
    torch.testing.assert_close(found + 0, wanted)


@pytest.mark.parametrize("index", [2, (0, 4), (0, 0, 5), (0, 0, 0, -7), [2], (ALL, [0, 4]), (ALL, ALL, torch.tensor([-6])),
    (0, 0, 0, 0, 0), [True], (ALL, torch.ones(3, dtype=torch.bool)), torch.tensor([0.5]), ([0, 1], [0, 1, 2])],
    ids=str)  # fmt: skip
def test_indices_that_do_not_fit(A, index):
    with pytest.raises(IndexError):
        A.dense()[index]
    with pytest.raises(IndexError, match="index: "):
        A[index]


def test_indices_of_other_kinds(A):
    for index in ("a", 1.5, {1}, (0, "a"), [slice(0, 1)], [[0, 1]], object(), (..., ...)):
        with pytest.raises((TypeError, IndexError), match="index: "):
            A[index]
    with pytest.raises(ValueError, match="step of 1 or more, got -1"):
        A[:, :, ::-1]


def test_only_what_is_asked_for_is_computed(monkeypatch):
    q = torch.randn(1, 2, 100_000, 8)
    A = sightline.AttentionMatrix(q, q)
    monkeypatch.setattr(sightline.AttentionMatrix, "_full_lse", lambda _: pytest.fail("computed every row"))
    rows = A[:, :, [3, 99_000]]
    torch.testing.assert_close(rows.sum(-1), torch.ones(1, 2, 2))
    torch.testing.assert_close(A[0, 1, torch.tensor([[99_000]]), [5, 70_000]], rows[0, 1, 1:, [5, 70_000]])
    with pytest.raises(MemoryError, match="over the limit"):
        A[:, :, torch.arange(5_000) * 20]
    with pytest.raises(MemoryError, match="chosen take"):
        A[[0] * 1_000, :, :2]
    with pytest.raises(MemoryError, match="over the limit"):
        A[None]


def test_chosen_heads_share_their_keys_where_they_can():
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    A = sightline.AttentionMatrix(q, k)
    assert A[:, [2, 3]].key.data_ptr() == k[:, 1].data_ptr() and A[:, [2, 3]].key.shape[1] == 1
    assert A[[1]].query.data_ptr() == q[1].data_ptr()
    flowing = sightline.AttentionMatrix(q.requires_grad_(), k, detach=False)
    flowing[:, [3, 0]].entropy().sum().backward()
    assert q.grad[:, [1, 2]].abs().sum() == 0 and q.grad[:, [0, 3]].abs().sum() > 0
