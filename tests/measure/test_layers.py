"""Rollout and relevance against whole matrices multiplied in float64, with gradients from autograd."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import sightline
from cases import cases, close
from sightline import measure


def dense_rollout(layers, residual, fusion, normalize):
    product = None
    for weights in layers:
        fused = {"mean": weights.mean(1), "max": weights.amax(1), "min": weights.amin(1)}[fusion]
        mixed = residual * torch.eye(fused.shape[-1]).double() + (1 - residual) * fused
        if normalize:
            total = mixed.sum(-1, keepdim=True)
            mixed = torch.where(total > 0, mixed / total, 0)
        product = mixed if product is None else mixed @ product
    return product


@settings(max_examples=15)
@given(
    case=cases(),
    residual=st.sampled_from([0.0, 0.5, 0.9]),
    fusion=st.sampled_from(["mean", "max", "min"]),
    normalize=st.booleans(),
)
def test_rollout(case, residual, fusion, normalize):
    b, _, n, m = case.shape
    assume(n == m or min(n, m) > 0)
    length = min(n, m)
    # The first layer is the case cut to a square, the second another one.
    options = {k: v for k, v in case.options.items() if k in ("scale", "softcap", "sinks")}
    options["mask"] = sightline.causal() & sightline.window(5, None)
    query, key = case.query[:, :, :length], case.key[:, :, :length]
    mask = torch.rand(b, 1, length, length) < 0.5
    mask[:, :, 0] = False
    other = torch.randn(2, b, 3, length, 4)
    stages = [
        sightline.reference.attention(query, key, key, **options),
        sightline.reference.attention(*other, other[1], mask=mask),
    ]
    layers = [sightline.AttentionMatrix(query, key, **options), sightline.AttentionMatrix(*other, mask=mask)]
    wanted = dense_rollout([s.weights for s in stages], residual, fusion, normalize)
    targets = torch.randint(-length, length, (3,))
    settings_ = {"residual": residual, "fusion": fusion, "normalize": normalize}
    found = measure.rollout(layers, targets, **settings_)
    close(found, wanted[:, targets % length], 1e-5)
    close(measure.rollout(layers, int(targets[0]), **settings_), wanted[:, targets[0]], 1e-5)


def test_rollout_sums_to_one():
    layers = [
        sightline.AttentionMatrix(*torch.randn(2, 1, 2, 20, 4), mask=sightline.causal(), sinks=torch.randn(2))
        for _ in range(4)
    ]
    close(measure.rollout(layers, [0, 5, -1]).sum(-1), torch.ones(1, 3), 1e-5)
    assert float(measure.rollout(layers, 5)[0, 6:].abs().max()) == 0


class Tiny(torch.nn.Module):
    """Attention layers with a residual stream, in float64, that keeps weights and contexts for autograd."""

    def __init__(self, length, options, context=None):
        super().__init__()
        self.kept, self.options, self.length = [], options, length

    def attend(self, x, memory, seed, options):
        generator = torch.Generator().manual_seed(seed)
        b, n, width = x.shape
        project = [
            torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5 for _ in range(3)
        ]
        q, k, v = (
            (y @ p).reshape(b, y.shape[1], 2, -1).transpose(1, 2)
            for y, p in zip((x, memory, memory), project, strict=True)
        )
        weights = sightline.reference.attention(q, k, v, **options).weights
        weights.requires_grad_(True) if not weights.requires_grad else weights.retain_grad()
        context = weights @ v
        context.retain_grad()
        matrix = sightline.AttentionMatrix(
            q.detach().float(), k.detach().float(), v.detach().float(), **options
        )
        self.kept.append((weights, context, matrix))
        return x + context.transpose(1, 2).reshape(b, n, width)


def graded(kept):
    return [(matrix, context.grad.float()) for _, context, matrix in kept]


def fused_relevance(weights):
    return (weights * weights.grad).clamp(min=0).mean(1)


@pytest.mark.parametrize(
    "options",
    [{}, {"mask": sightline.causal()}, {"mask": sightline.window(3, 1), "sinks": torch.tensor([0.5, -1])}],
)
def test_relevance(options):
    torch.manual_seed(1)
    x = torch.randn(2, 11, 8, dtype=torch.float64, requires_grad=True)
    model = Tiny(11, options)
    y = x
    for seed in range(3):
        y = model.attend(y, y, seed, options)
    (y[:, -1] ** 2).sum().backward()
    wanted = torch.eye(11).double().expand(2, 11, 11)
    for weights, _, _ in model.kept:
        wanted = wanted + fused_relevance(weights) @ wanted
    close(measure.relevance(graded(model.kept), [-1, 3]), wanted[:, [-1, 3]], 1e-4)
    close(measure.relevance([measure.Layer(*one) for one in graded(model.kept)], 3), wanted[:, 3], 1e-4)


def test_traced_calls_bring_their_gradient():
    class Call:
        def __init__(self, matrix, gradient, verified=True):
            self.matrix, self.gradient, self.verified = matrix, gradient, verified

    A, grad = sightline.AttentionMatrix(*torch.randn(3, 1, 2, 5, 4)), torch.randn(1, 2, 5, 4)
    assert torch.equal(measure.relevance([Call(A, grad)], 0), measure.relevance([(A, grad)], 0))
    assert torch.equal(
        measure.encoder_decoder_relevance([], [(None, Call(A, grad))], 0).encoder,
        measure.encoder_decoder_relevance([], [(None, (A, grad))], 0).encoder,
    )
    with pytest.raises(ValueError, match=r"grad_context: expected .*, got None. Trace with gradients=True"):
        measure.relevance([Call(A, None)], 0)
    with pytest.raises(measure.UnverifiedError):
        measure.relevance([Call(A, grad, verified=False)], 0)
    with pytest.raises(TypeError, match="layers: expected .* got AttentionMatrix"):
        measure.relevance([A], 0)


def normalized(R):
    eye = torch.eye(R.shape[-1]).double()
    change = R - eye
    total = change.sum(-1, keepdim=True)
    return torch.where(total > 0, change / total, 0) + eye


@pytest.mark.parametrize(
    "with_encoder, with_self", [(True, True), (True, False), (False, True), (False, False)]
)
def test_encoder_decoder(with_encoder, with_self):
    torch.manual_seed(2)
    n, m = 5, 9
    source = torch.randn(2, m, 8, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, n, 8, dtype=torch.float64, requires_grad=True)
    encoder, selfs, crosses = (Tiny(0, {}) for _ in range(3))
    memory = source
    for seed in range(2 if with_encoder else 0):
        memory = encoder.attend(memory, memory, seed, {})
    y = x
    for seed in range(3):
        if with_self:
            y = selfs.attend(y, y, 10 + seed, {"mask": sightline.causal()})
        y = crosses.attend(y, memory, 20 + seed, {"mask": sightline.lengths(torch.tensor([m, 6]))})
    (y[:, 2] ** 2).sum().backward()

    # The rules, on whole matrices.
    eye = torch.eye
    R_ii, R_qq = eye(m).double().expand(2, m, m), eye(n).double().expand(2, n, n)
    R_qi = torch.zeros(2, n, m).double()
    for weights, _, _ in encoder.kept:
        R_ii = R_ii + fused_relevance(weights) @ R_ii
    for number in range(3):
        if with_self:
            own = fused_relevance(selfs.kept[number][0])
            R_qq, R_qi = R_qq + own @ R_qq, R_qi + own @ R_qi
        cross = fused_relevance(crosses.kept[number][0])
        R_qi = R_qi + normalized(R_qq).transpose(1, 2) @ cross @ normalized(R_ii)

    own = graded(selfs.kept) if with_self else [None] * 3
    decoder = list(zip(own, graded(crosses.kept), strict=True))
    found = measure.encoder_decoder_relevance(graded(encoder.kept), decoder, [2, -1])
    close(found.encoder, R_qi[:, [2, -1]], 1e-4)
    close(found.decoder, R_qq[:, [2, -1]], 1e-4)
    one = measure.encoder_decoder_relevance(graded(encoder.kept), decoder, 2)
    close(one.encoder, R_qi[:, 2], 1e-4)


def test_relevance_by_hand():
    """One layer, one head: w = (3/4, 1/4), and the gradient likes key 1 only."""
    query, key = (
        torch.tensor([[1.0]])[None, None].expand(1, 1, 2, 1),
        torch.tensor([[3.0], [1.0]]).log()[None, None],
    )
    A = sightline.AttentionMatrix(query, key, torch.tensor([[-1.0], [2.0]])[None, None], scale=1.0)
    grad = torch.tensor([[1.0], [0.0]])[None, None]
    # dL/dw = (-1, 2) in row 0, so that max(0, w · dL/dw) = (0, 1/2).
    close(measure.relevance([(A, grad)], [0, 1]), torch.tensor([[[1, 0.5], [0, 1]]]), 1e-6)


def test_without_gradients_nothing_is_added():
    A = sightline.AttentionMatrix(*torch.randn(3, 1, 2, 5, 4), mask=sightline.causal())
    none = torch.zeros(1, 2, 5, 4)
    assert torch.equal(measure.relevance([(A, none)] * 2, [1, 4])[0], torch.eye(5)[[1, 4]])
    found = measure.encoder_decoder_relevance([(A, none)], [((A, none), (A, none))], 2)
    assert torch.equal(found.decoder[0], torch.eye(5)[2]) and not found.encoder.any()


ERRORS = {
    "cross": (lambda A, C: measure.rollout([A, C], 0), r"layer 1 has N=5 queries and M=7 keys.*N = M"),
    "lengths": (lambda A, C: measure.rollout([A, A[:, :, :].to(torch.float32), short()], 0), "layer 2 has B=1, N=3, but layer 0"),
    "residual": (lambda A, C: measure.rollout(A, 0, residual=1.5), "residual: must lie between 0 and 1, got 1.5"),
    "fusion": (lambda A, C: measure.rollout(A, 0, fusion="sum"), "fusion: there is no 'sum'; known: mean, max, min"),
    "target": (lambda A, C: measure.rollout(A, [0, 5]), "targets: positions from 0 to 5 do not fit N=5"),
    "no target": (lambda A, C: measure.rollout(A, torch.zeros(0).long()), "targets: expected a position"),
    "no layers": (lambda A, C: measure.rollout([], 0), "layers: expected at least one layer"),
    "no value": (lambda A, C: measure.relevance([(short(), torch.zeros(1, 2, 3, 4))], 0), "relevance: this matrix holds no value"),
    "gradient": (lambda A, C: measure.relevance([(A, torch.zeros(1, 2, 5, 3))], 0), r"grad_context: expected \[B,H,N,E\]=\[1, 2, 5, 4\].*\[1, 2, 5, 3\]"),
    "decoder": (lambda A, C: measure.encoder_decoder_relevance([], [], 0), "decoder: expected at least one layer"),
    "encoder": (
        lambda A, C: measure.encoder_decoder_relevance([(A, torch.zeros(1, 2, 5, 4))], [(None, (C, torch.zeros(1, 2, 5, 4)))], 0),
        "encoder: B=1, N=5, M=5, but the first cross-attention asks for B=1, N=7, M=7",
    ),
}  # fmt: skip


def short():
    return sightline.AttentionMatrix(*torch.randn(2, 1, 2, 3, 4))


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, text = ERRORS[name]
    A = sightline.AttentionMatrix(*torch.randn(3, 1, 2, 5, 4))
    C = sightline.AttentionMatrix(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 7, 4), torch.randn(1, 2, 7, 4))
    with pytest.raises(ValueError, match=text):
        call(A, C)
