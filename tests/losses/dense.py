"""Losses by their definitions: dense, in float64, from the stages of the reference."""

import torch

import sightline
from sightline import reference

B, H, G, N, M, D = 2, 4, 2, 7, 9, 5

MASKS = {
    "all": None,
    "causal": sightline.causal(),
    "empty rows": sightline.causal(align=-2),
    "lengths": sightline.lengths([0, 5]),
    "two ranges": sightline.window(1, 0) | sightline.prefix(2),
    "dense": torch.rand(B, 1, N, M, generator=torch.Generator().manual_seed(0)) < 0.5,
}
QUERIES = {"all": None, "some": torch.arange(N) % 3 > 0, "by entry": torch.arange(B * N).view(B, N) % 4 > 0}


def leaves(*shapes, dtype=torch.float64, seed=0):
    """Random leaves."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def doubles(inputs):
    """The same in float64."""
    return [one.detach().double().requires_grad_() for one in inputs]


def dense(q, k, mask, *, scale=None, bias=None, sinks=None):
    """(weights, log weights with 0 where hidden, visible), [B,H,N,M]; empty rows have no derivative."""
    stages = reference.attention(q, k, k, mask=mask, scale=scale, bias=bias, sinks=sinks)
    seen = stages.masked != -torch.inf
    shown = stages.masked.masked_fill(~seen, -1e4)
    rows = shown
    if sinks is not None:
        rows = torch.cat([shown, sinks[:, None, None].expand(*shown.shape[:3], 1).double()], -1)
    logs = (shown - rows.logsumexp(-1, keepdim=True)).masked_fill(~seen, 0)
    return logs.exp() * seen, logs, seen


def mean(values, counts, queries):
    """The mean over the rows that count, by a loop; 0 if none does."""
    found = []
    for b in range(values.shape[0]):
        for h in range(values.shape[1]):
            for i in range(values.shape[2]):
                asked = queries is None or bool(queries.expand(values.shape[0], -1)[b, i])
                if asked and bool(counts[b, h, i]):
                    found.append(values[b, h, i])
    return torch.stack(found).mean() if found else (values * 0).sum()


def same(found, inputs, wanted, others, tolerance=2e-5):
    """Compares values and gradients."""
    torch.testing.assert_close(found.double(), wanted, atol=tolerance, rtol=10 * tolerance)
    mine = torch.autograd.grad(found, inputs, allow_unused=True)
    theirs = torch.autograd.grad(wanted, others, allow_unused=True)
    for one, other in zip(mine, theirs, strict=True):
        if one is None or other is None:
            assert one is None or not one.any()
            assert other is None or not other.any()
            continue
        scale = max(1.0, float(other.abs().max()))
        assert float((one.double() - other).abs().max()) <= tolerance * scale
