"""Methods that a tensor has too: with PyTorch's arguments they mean what PyTorch means; and arguments that fit none."""

import math

import numpy
import pytest
import torch

import sightline


@pytest.fixture(scope="module")
def A():
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 6, 8)
    mask = sightline.causal() & sightline.lengths([6, 0])  # some rows see few keys, some none
    return sightline.AttentionMatrix(q, k, mask=mask)


AS_PYTORCH = {
    "max(-1)": lambda T: T.max(-1),
    "max(3, True)": lambda T: T.max(3, True),
    "max(dim=-1, keepdim=True)": lambda T: T.max(dim=-1, keepdim=True),
    "max(axis=1)[0]": lambda T: T.max(axis=1)[0],
    "max(dim=2).indices": lambda T: T.max(dim=2).indices,
    "torch.max(T)": torch.max,
    "torch.max(T, -1)": lambda T: torch.max(T, -1),
    "max(T)": lambda T: T.max(torch.full((6,), 0.2)),
    "amax": lambda T: T.amax((2, 3)),
    "min(-1)": lambda T: T.min(-1).values,
    "min()": lambda T: T.min(),
    "sum(dim, keepdim)": lambda T: T.sum(dim=(1, 3), keepdim=True),
    "sum(axis)": lambda T: T.sum(axis=-1),
    "mean(1)": lambda T: T.mean(1),
    "argmax(-1)": lambda T: T.argmax(-1),
    "topk(1, dim=-1).values": lambda T: T.topk(1, dim=-1).values,
    "topk(2, -1)": lambda T: T.topk(2, -1).values,
    "topk(2, dim=1)": lambda T: T.topk(2, dim=1).values,
    "topk(k, largest=False)": lambda T: T.topk(k=2, largest=False).values,
    "topk(sorted=False)": lambda T: T.topk(6, sorted=False).values.sort(-1).values,
    "torch.topk": lambda T: torch.topk(T, 2).values,
    "topk keys are keys": lambda T: T.topk(6, dim=-1).indices.sort(-1).values,
    "gather(3, index)": lambda T: T.gather(3, torch.tensor([1, 0, 2]).expand(2, 4, 5, 3)),
    "gather(dim=, index=)": lambda T: T.gather(dim=2, index=torch.zeros(2, 4, 1, 6, dtype=torch.long)),
    "torch.gather": lambda T: torch.gather(T, -1, torch.ones(2, 4, 5, 1, dtype=torch.long)),
    "diagonal(dim1, dim2)": lambda T: T.diagonal(dim1=-2, dim2=-1),
    "diagonal(1, dim1, dim2)": lambda T: T.diagonal(1, dim1=1, dim2=3),
    "diagonal(0, 1, 2)": lambda T: T.diagonal(0, 1, 2),
    "torch.diagonal": torch.diagonal,
    "select(dim=, index=)": lambda T: T.select(dim=2, index=1),
    "torch.select": lambda T: torch.select(T, 1, 3),
    "size(-1)": lambda T: torch.tensor(T.size(-1)),
}


@pytest.mark.parametrize("call", AS_PYTORCH)
def test_with_pytorchs_arguments_as_pytorch(A, call):
    found, wanted = AS_PYTORCH[call](A), AS_PYTORCH[call](A.dense())
    assert type(found) is type(wanted)
    torch.testing.assert_close(found, wanted)


def test_the_last_axis_is_read_without_the_weights(monkeypatch):
    q = torch.randn(1, 2, 30, 8)
    A = sightline.AttentionMatrix(q, q)
    weights = A.dense()
    monkeypatch.setattr(sightline.AttentionMatrix, "dense", lambda *_: pytest.fail("densified"))
    torch.testing.assert_close(A.max(-1), weights.max(-1))
    torch.testing.assert_close(A.max(dim=3, keepdim=True), weights.max(dim=3, keepdim=True))


def test_ties_are_told_as_pytorch_tells_them():
    q = torch.zeros(1, 2, 7, 4)
    for mask in (None, sightline.causal(), sightline.window(2, 0), sightline.lengths([0])):
        A = sightline.AttentionMatrix(q, q, mask=mask)
        assert torch.equal(A.max(-1).indices, A.dense().max(-1).indices)


def test_own_forms_keep_their_meaning(A):
    assert type(A.max()).__name__ == "Values" and A.max().indices[1, 0, 0] == -1
    assert A.topk(3).indices.min() == A.topk(k=3).indices.min() == -1
    assert A.diagonal().shape == (2, 4, 5) and A.diagonal(1).shape == (2, 4, 5)
    assert (
        A.gather(torch.zeros(5, dtype=torch.long)).shape
        == A.gather(indices=[0, 1, 2, -1, 0]).shape
        == (2, 4, 5)
    )
    assert A.select(1, 3).shape == (5, 6)


def test_one_row_or_column_of_a_picture(A):
    weights, nan = A.dense(), float("nan")
    for row in range(-5, 5):
        found = A.pool(1, 6, rows=row)[:, :, 0]
        seen = A.scores(rows=row, stage="masked")[:, :, 0] > -math.inf
        torch.testing.assert_close(found, weights[:, :, row].where(seen, torch.tensor(nan)), equal_nan=True)
    torch.testing.assert_close(A.pool(5, 1, cols=0, reduce="sum")[..., 0], weights[..., 0])
    assert torch.equal(
        A.pool(1, 1, rows=numpy.int64(0), reduce="sum"), A.pool(1, 1, rows=slice(0, 1), reduce="sum")
    )


WRONG = {
    "pool(2.5, 2)": (TypeError, "pool height: must be an integer, got 2.5"),
    "pool(2, True)": (TypeError, "pool width: must be an integer, got True"),
    "pool('2', 2)": (TypeError, "pool height: must be an integer, got '2'"),
    "pool(float('nan'), 2)": (TypeError, "pool height: must be an integer, got nan"),
    "pool(0, 2)": (ValueError, "pool height: must be .*1.* got 0"),
    "pool(2, 2, reduce='median')": (ValueError, "pool reduce: .*'median'; known: mean, max, sum"),
    "pool(2, 2, reduce=3)": (TypeError, "pool reduce"),
    "pool(2, 2, rows=5)": (IndexError, "5 is out of range for axis N with 5"),
    "pool(2, 2, rows=1.5)": (TypeError, "axis N a slice or an integer is expected, got 1.5"),
    "pool(2, 2, cols=True)": (TypeError, "axis M a slice or an integer is expected, got True"),
    "pool(2, 2, cols=[1])": (TypeError, "axis M a slice or an integer is expected"),
    "pool(2, 2, rows=slice(0, 4, 2))": (ValueError, "step 1"),
    "scores(rows='a')": (TypeError, "axis N"),
    "scores(cols=[0])": (TypeError, "axis M"),
    "scores(rows=True)": (TypeError, "axis N"),
    "scores(rows=7)": (IndexError, "axis N with 5"),
    "scores(stage='softmax')": (ValueError, "stage: there is no 'softmax'; known: scores"),
    "scores(stage=0)": (TypeError, "stage"),
    "lse_of('a')": (TypeError, "axis N"),
    "lse_of([1, 2])": (TypeError, "axis N"),
    "lse_of(slice(None, None, -1))": (ValueError, "step"),
    "part(rows=[1])": (TypeError, "axis N"),
    "cell_rows([1], slice(None), None, ['entropy'])": (TypeError, "axis N"),
    "distance(1.5)": (TypeError, "distance align: must be an integer, got 1.5"),
    "distance(True)": (TypeError, "distance align: must be an integer, got True"),
    "distance([0.5])": (TypeError, "distance align"),
    "distance('left')": (ValueError, "distance: align must be .bottom-right.*got 'left'"),
    "distance(torch.tensor([0.5, 1.0]))": (TypeError, "distance align: expected integers"),
    "distance(torch.tensor([0, 1, 2]))": (ValueError, "3 offsets do not fit the batch B=2"),
    "readouts('distance', align=None)": (TypeError, "distance align"),
    "readouts('entropie')": (ValueError, "there is no readout 'entropie'"),
    "readouts(3)": (ValueError, "there is no readout 3"),
    "topk(True)": (ValueError, "topk: k must be an integer"),
    "topk(2.0)": (ValueError, "topk: k must be an integer"),
    "topk(7)": (ValueError, "from 1 to M=6"),
    "mass('ab')": (TypeError, "mass segments"),
    "mass(torch.tensor([0.5] * 6))": (TypeError, "mass segments: expected integers"),
    "diagonal('a')": (TypeError, "diagonal offset: must be an integer"),
    "diagonal(0.5)": (TypeError, "diagonal offset: must be an integer"),
    "diagonal(9)": (ValueError, "offset 9 lies outside"),
    "gather('a')": (TypeError, "gather indices"),
    "gather([0.5] * 5)": (TypeError, "gather indices"),
    "gather([9] * 5)": (ValueError, "do not fit M=6"),
    "gather(3)": (TypeError, "gather indices"),
    "dense(limit='1 GiB')": (TypeError, "limit: must be a number"),
    "dense(limit=-1)": (ValueError, "limit"),
    "select(batch='a')": (TypeError, "axis B"),
    "select(heads=9)": (IndexError, "axis H with 4"),
    "select(heads=True)": (TypeError, "axis H"),
    "max(keepdim=True)": (TypeError, "max"),
    "max(4)": (IndexError, "Dimension out of range"),
}


@pytest.mark.parametrize("call", WRONG)
def test_arguments_that_do_not_fit(A, call):
    error, message = WRONG[call]
    with pytest.raises(error, match=message):
        eval(f"A.{call}", {"A": A, "torch": torch})


def test_arguments_of_the_constructor():
    q = torch.randn(1, 1, 2, 4)
    with pytest.raises(TypeError, match="detach: must be True or False, got 'no'"):
        sightline.AttentionMatrix(q, q, detach="no")


@pytest.mark.parametrize("shape", [(2, 0, 4, 8), (0, 2, 4, 8), (1, 2, 0, 8)], ids=str)
def test_matrices_of_nothing(shape):
    b, h, n, _ = shape
    q = torch.randn(shape)
    A = sightline.AttentionMatrix(q, q, q, mask=sightline.causal())
    for made, wanted in (
        (A.dense(), (b, h, n, n)), (A.entropy(), (b, h, n)), (A.lse, (b, h, n)), (A.max().values, (b, h, n)),
        (A.received(), (b, h, n)), (A.diagonal(), (b, h, n)), (A.scores(), (b, h, n, n)), (A.pool(2, 2), (b, h, 2, 2)),
        (A @ torch.ones(n, 3), (b, h, n, 3)), (A.T @ torch.ones(n), (b, h, n)), (A.distance(), (b, h, n)),
        (A.gather(torch.zeros(n, dtype=torch.long)), (b, h, n)), (A[:, :, :1], (b, h, min(n, 1), n)), (A[:, []].lse, (b, 0, n)),
    ):  # fmt: skip
        assert made.shape == wanted
    assert list(A.blocks()) == [] or n


def test_products_that_pytorch_would_repeat_the_matrix_for(A):
    weights = A.dense()
    for part, x in (
        ((0, 0), torch.randn(3, 6, 2)), ((0,), torch.randn(2, 4, 6, 2)), ((slice(1), slice(1)), torch.randn(2, 4, 6, 2)),
        ((), torch.randn(3, 2, 4, 6, 2)),
    ):  # fmt: skip
        torch.testing.assert_close(A[part] @ x, weights[part] @ x)
        torch.testing.assert_close(x.mT @ A[part].T, x.mT @ weights[part].mT)
    y = torch.randn(3, 5, 2)
    torch.testing.assert_close(A[0, 0].T @ y, weights[0, 0].mT @ y)
    with pytest.raises(ValueError, match="does not broadcast"):
        A @ torch.randn(3, 6, 2)
