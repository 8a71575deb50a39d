"""Losses of rows, entropy and sink mass: against their definitions, dense and in float64."""

import pytest
import torch
from torch.autograd import gradcheck

import sightline
from losses.dense import MASKS, QUERIES, B, D, G, H, M, N, dense, doubles, leaves, mean, same
from sightline import losses

SHAPES = ((B, H, N, D), (B, G, M, D))


def matrix(inputs, mask, **terms):
    return sightline.AttentionMatrix(*inputs, mask=MASKS[mask], detach=False, **terms)


def entropies(w, logs, seen, normalized):
    values = -(w * logs).sum(-1)
    counts = seen.sum(-1)
    return (values / counts.clamp(min=2).double().log(), counts > 1) if normalized else (values, counts > 0)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("queries", QUERIES)
@pytest.mark.parametrize(
    "given", [{"floor": 0.9}, {"target": 0.4}, {"floor": 1.2, "normalized": False}], ids=str
)
def test_entropy(mask, queries, given):
    inputs = leaves(*SHAPES, dtype=torch.float32)
    others = doubles(inputs)
    found = losses.entropy(matrix(inputs, mask), queries=QUERIES[queries], **given)
    values, counts = entropies(*dense(*others, MASKS[mask]), given.get("normalized", True))
    apart = (given["floor"] - values).clamp(min=0) if "floor" in given else values - given["target"]
    same(found, inputs, mean(apart**2, counts, QUERIES[queries]), others)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("keys", [1, 3, slice(2, 5), [0, 4], torch.arange(M) % 2 == 0], ids=str)
def test_sink_mass(mask, keys):
    inputs = leaves(*SHAPES, dtype=torch.float32)
    others = doubles(inputs)
    found = losses.sink_mass(matrix(inputs, mask), keys, allowance=0.15, queries=QUERIES["by entry"])
    w, _, seen = dense(*others, MASKS[mask])
    sinks = torch.zeros(B, M, dtype=torch.bool)
    for b in range(B):
        if isinstance(keys, int):  # the first that some query of the entry may see
            there = [j for j in range(M) if seen[b, :, :, j].any()]
            sinks[b, (range(there[0], M) if there else range(0))[:keys]] = True
        else:
            sinks[b, keys] = True
    over = ((w * sinks[:, None, None]).sum(-1) - 0.15).clamp(min=0)
    counts = (seen & ~sinks[:, None, None]).any(-1)
    same(found, inputs, mean(over, counts, QUERIES["by entry"]), others)


def test_left_padding_is_no_sink():
    q, k = leaves((1, 2, 6, 4), (1, 2, 6, 4))
    real = torch.arange(6) >= 2
    A = sightline.AttentionMatrix(
        q, k, mask=sightline.causal() & sightline.dense(real.expand(6, 6)), detach=False
    )
    w = A.dense()
    torch.testing.assert_close(losses.sink_mass(A), w[:, :, 3:, 2].mean())  # row 2 sees key 2 alone


@pytest.mark.parametrize(
    "loss", [lambda A: losses.entropy(A, floor=0.95), losses.sink_mass], ids=["entropy", "sink"]
)
@pytest.mark.parametrize("terms", ["alibi", "sinks", "bias"])
def test_biases_and_learned_sinks(loss, terms):
    """All terms get gradients, and finite differences agree."""
    q, k, term = leaves(*SHAPES, {"alibi": (H,), "sinks": (H,), "bias": (1, H, N, M)}[terms])

    def of(q, k, term):
        given = (
            {"sinks": term}
            if terms == "sinks"
            else {"bias": sightline.alibi(term) if terms == "alibi" else term}
        )
        return loss(sightline.AttentionMatrix(q, k, mask=sightline.causal(), detach=False, **given))

    assert gradcheck(of, (q, k, term), fast_mode=True)
    assert torch.autograd.grad(of(q, k, term), term)[0].any()


@pytest.mark.parametrize(
    "loss", [lambda A: losses.entropy(A, floor=0.95), losses.sink_mass], ids=["entropy", "sink"]
)
def test_half_precision(loss):
    inputs = leaves(*SHAPES, dtype=torch.bfloat16)
    others = doubles(inputs)
    found, wanted = (loss(matrix(some, "causal")) for some in (inputs, others))
    assert found.dtype == torch.float32
    same(found, inputs, wanted, others, 1e-2)


def test_reductions():
    inputs = leaves(*SHAPES)
    A = matrix(inputs, "empty rows")
    given = {"floor": 0.99, "queries": QUERIES["some"]}
    rows = losses.entropy(A, reduction="none", **given)
    assert rows.shape == (B, H, N) and not rows[:, :, QUERIES["some"].logical_not()].any()
    counts = (torch.arange(N) > 2) & QUERIES["some"]  # the others see one key or none
    torch.testing.assert_close(losses.entropy(A, reduction="heads", **given), rows[:, :, counts].mean((0, 2)))
    torch.testing.assert_close(losses.entropy(A, **given), rows[:, :, counts].mean())
    torch.testing.assert_close(losses.entropy(A[1, 2], **given), rows[1, 2, counts].mean())
    both = losses.entropy([A, A[:, :2]], **given)
    torch.testing.assert_close(both, (losses.entropy(A, **given) + losses.entropy(A[:, :2], **given)) / 2)
    with pytest.raises(ValueError, match="reduction: \"?'heads'\"? is for one matrix, and A holds 2"):
        losses.entropy([A, A], floor=0.1, reduction="heads")


def test_no_row_counts():
    inputs = leaves(*SHAPES)
    A = matrix(inputs, "all")
    none = torch.zeros(N, dtype=torch.bool)
    for loss in (losses.entropy(A, floor=1.0, queries=none), losses.sink_mass(A, slice(0, M))):
        assert loss == 0
        assert not any(one.any() for one in torch.autograd.grad(loss, inputs, retain_graph=True))


def test_hidden_nan_stays_hidden():
    q, k = leaves(*SHAPES, dtype=torch.float32)
    k.data[:, :, -1] = torch.nan
    A = sightline.AttentionMatrix(
        q, k, mask=sightline.ranges(torch.zeros(N, dtype=torch.int64), torch.full((N,), M - 1)), detach=False
    )
    for loss in (losses.entropy(A, floor=1.0), losses.sink_mass(A, 2)):
        assert loss.isfinite()
        assert torch.autograd.grad(loss, q, retain_graph=True)[0].isfinite().all()


def test_detached_matrices_train_nothing():
    q, k = leaves(*SHAPES)
    A = sightline.AttentionMatrix(q, k)
    for loss in (lambda: losses.entropy(A, floor=0.5), lambda: losses.sink_mass([A, A])):
        with pytest.raises(ValueError, match="A: detached, so that its loss would train nothing"):
            loss()
        with torch.no_grad():
            assert loss().isfinite()


def test_bad_arguments():
    A = matrix(leaves(*SHAPES), "all")
    with pytest.raises(ValueError, match="floor, target: give one of the two"):
        losses.entropy(A)
    with pytest.raises(ValueError, match="floor, target: give one of the two"):
        losses.entropy(A, floor=0.1, target=0.2)
    with pytest.raises(ValueError, match="floor: must lie between 0 and 1, got 1.5"):
        losses.entropy(A, floor=1.5)
    assert losses.entropy(A, floor=1.5, normalized=False) > 0
    with pytest.raises(TypeError, match=r"A: expected an AttentionMatrix \[B,H,N,M\]"):
        losses.entropy(torch.rand(2, 2), floor=0.1)
