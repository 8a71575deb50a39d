"""Supervision by given alignments: against the dense matrix in float64."""

import pytest
import torch
from torch.autograd import gradcheck

import sightline
from losses.dense import MASKS, B, D, G, H, M, N, dense, doubles, leaves, same
from sightline import losses

SHAPES = ((B, H, N, D), (B, G, M, D))
PAIRS = torch.tensor([[0, 0, 0], [0, 6, 1], [0, 6, 0], [1, 5, 2], [1, 6, 3], [1, 6, 3], [1, 6, 1]])
SHARES = torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0, 0.25, 1.0])


def by_hand(logs, pairs, shares, kind):
    """The mean over heads and queries that have pairs, by a loop over them."""
    found = []
    for h in range(H):
        for b, i in sorted({(int(b), int(i)) for b, i, _ in pairs}):
            of_row = [
                (j, g)
                for (e, r, j), g in zip(pairs.tolist(), shares.double(), strict=True)
                if (e, r) == (b, i)
            ]
            if kind == "mass":
                found.append(-sum(g * logs[b, h, i, j].exp() for j, g in of_row).log())
            else:
                found.append(-sum(g * logs[b, h, i, j] for j, g in of_row) / sum(g for _, g in of_row))
    return torch.stack(found).mean()


@pytest.mark.parametrize("kind", ["cross_entropy", "mass"])
@pytest.mark.parametrize("shares", [None, SHARES], ids=["equal", "shares"])
@pytest.mark.parametrize("more", ["plain", "sinks", "bias", "alibi", "two ranges"])
def test_values_and_gradients(kind, shares, more):
    shape = {"sinks": (H,), "alibi": (H,)}.get(more, (1, H, 1, M))
    inputs = leaves(*SHAPES, shape, dtype=torch.float32)
    others = doubles(inputs)
    mask = MASKS["two ranges"] if more == "two ranges" else MASKS["causal"]
    pairs = PAIRS.clone()
    if more == "two ranges":
        pairs[:, 2] %= 2  # the prefix

    def terms(term):
        if more == "sinks":
            return {"sinks": term}
        return (
            {"bias": sightline.alibi(term) if more == "alibi" else term} if more in ("bias", "alibi") else {}
        )

    A = sightline.AttentionMatrix(*inputs[:2], mask=mask, detach=False, **terms(inputs[2]))
    found = losses.alignment(A, pairs, shares, kind=kind)
    _, logs, _ = dense(*others[:2], mask, **terms(others[2]))
    wanted = by_hand(logs, pairs, torch.ones(len(pairs)) if shares is None else shares, kind)
    same(found, inputs, wanted, others)


@pytest.mark.parametrize("kind", ["cross_entropy", "mass"])
def test_finite_differences(kind):
    def of(q, k):
        A = sightline.AttentionMatrix(q, k, mask=sightline.causal(), detach=False)
        return losses.alignment(A, PAIRS, SHARES, kind=kind)

    assert gradcheck(of, leaves(*SHAPES), fast_mode=True)


def test_pairs_of_every_entry():
    A = sightline.AttentionMatrix(*leaves(*SHAPES), detach=False)
    pairs = [(0, 1), (3, 2), (3, 4)]
    each = [(b, *pair) for b in range(B) for pair in pairs]
    shares = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(
        losses.alignment(A, pairs, shares), losses.alignment(A, each, shares.repeat(B)), rtol=0, atol=0
    )
    rows = losses.alignment(A, pairs, reduction="none")
    assert rows.shape == (B, H, N) and (rows != 0).any((0, 1)).nonzero().flatten().tolist() == [0, 3]
    torch.testing.assert_close(losses.alignment(A, pairs, reduction="heads"), rows.sum((0, 2)) / (2 * B))
    torch.testing.assert_close(losses.alignment(A[:, [2]], pairs), rows[:, 2].sum() / (2 * B))
    assert losses.alignment(A, []) == 0


def test_weights_too_small_for_their_dtype():
    """A weight of e^-900 is 0 in any dtype; its logarithm and gradient are not."""
    q = torch.tensor([[30.0, 0.0]])[None, None].requires_grad_()
    k = torch.tensor([[30.0, 0.0], [0.0, 1.0]])[None, None].requires_grad_()
    A = sightline.AttentionMatrix(q, k, scale=1.0, detach=False)
    for kind in ("cross_entropy", "mass"):
        loss = losses.alignment(A, [(0, 1)], kind=kind)
        torch.testing.assert_close(loss, torch.tensor(900.0))
        of_query, _ = torch.autograd.grad(loss, (q, k), retain_graph=True)
        torch.testing.assert_close(of_query[0, 0, 0], torch.tensor([30.0, -1.0]))


def test_half_precision():
    inputs = leaves(*SHAPES, dtype=torch.bfloat16)
    others = doubles(inputs)
    found, wanted = (
        losses.alignment(sightline.AttentionMatrix(*some, mask=sightline.causal(), detach=False), PAIRS)
        for some in (inputs, others)
    )
    same(found, inputs, wanted, others, 1e-2)


def test_it_learns_to_look_there():
    q, k = leaves((1, 1, 4, 8), (1, 1, 4, 8))
    optimizer = torch.optim.SGD([q, k], lr=3.0)
    for _ in range(30):
        A = sightline.AttentionMatrix(q, k, detach=False)
        losses.alignment(A, [(i, 3 - i) for i in range(4)]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (sightline.AttentionMatrix(q, k).max().indices[0, 0] == torch.tensor([3, 2, 1, 0])).all()


@pytest.mark.parametrize(
    "pairs, shares, message",
    [
        ([(0, M)], None, r"pairs: keys from 9 to 9 do not fit M=9 \(axis M\)"),
        ([(N, 0)], None, r"pairs: queries from 7 to 7 do not fit N=7"),
        ([(B, 0, 0)], None, r"pairs: batch entries from 2 to 2 do not fit B=2"),
        ([(-1, 0)], None, "pairs: queries from -1 to -1"),
        ([(0, 0, 0, 0)], None, r"expected \[P,2\] \(query, key\) or \[P,3\]"),
        ([(0, 8)], None, r"pairs: query 0 may not see key 8 \(entry 0, head 0\): the mask hides it"),
        ([(0, 0)], torch.ones(2), r"shares: 2 of them for 1 pairs"),
        ([(0, 0)], torch.zeros(1), "shares: must be finite and above 0"),
    ],
)
def test_bad_pairs(pairs, shares, message):
    A = sightline.AttentionMatrix(*leaves(*SHAPES), mask=sightline.causal(), detach=False)
    with pytest.raises(ValueError, match=message):
        losses.alignment(A, pairs, shares)
