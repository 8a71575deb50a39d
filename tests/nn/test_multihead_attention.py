"""MultiheadAttention against torch.nn's own, with the same state_dict."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from cases import close
from sightline import AttentionMatrix
from sightline.nn import MeanOverHeads, MultiheadAttention

C, H, B, N, M = 24, 3, 2, 5, 7
BUILDS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "own widths": {"kdim": 10, "vdim": 14},
    "no bias": {"bias": False},
    "added keys": {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    "zero key": {"add_zero_attn": True, "kdim": 10},
}
PADDING = torch.tensor([[False] * 5 + [True] * 2, [False] * 7])
HIDDEN = torch.rand(N, M, generator=torch.Generator().manual_seed(3)) < 0.3
HIDDEN[:, 0] = False
EACH = torch.rand(B * H, N, M, generator=torch.Generator().manual_seed(4)) < 0.3
EACH[:, :, 1] = False
PADDINGS = {
    "none": None,
    "bool": PADDING,
    "float": torch.zeros(B, M).masked_fill(PADDING, -torch.inf) + 0.5 * torch.arange(M),
}
MASKS = {
    "none": None,
    "2-D bool": HIDDEN,
    "3-D bool": EACH,
    "2-D float": torch.randn(N, M),
    "3-D float": torch.randn(B * H, N, M),
}


def pair(build, **more):
    torch.manual_seed(1)
    theirs = nn.MultiheadAttention(C, H, **build, **more)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = MultiheadAttention(C, H, **build, **more)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def inputs(build, batched=True):
    widths = (C, build.get("kdim", C), build.get("vdim", C))
    tensors = [torch.randn(B, length, width) for length, width in zip((N, M, M), widths, strict=True)]
    if not batched:
        return [t[0] for t in tensors]
    return tensors if build.get("batch_first") else [t.transpose(0, 1) for t in tensors]


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("name", BUILDS)
def test_output_weights_and_gradients_equal_pytorchs(name, average):
    ours, theirs = pair(BUILDS[name])
    for padding, mask in itertools.product(PADDINGS, MASKS):
        given = inputs(BUILDS[name])
        options = {
            "key_padding_mask": PADDINGS[padding],
            "attn_mask": MASKS[mask],
            "average_attn_weights": average,
        }
        results = []
        for layer in (ours, theirs):
            layer.zero_grad()
            output, weights = layer(*given, **options)
            dense = weights.dense() if layer is ours else weights
            assert weights.shape == dense.shape
            (output.sin().sum() + (dense**2).sum()).backward()
            results.append([output, dense, *(p.grad for p in layer.parameters())])
        for result, wanted in zip(*results, strict=True):
            close(result, wanted, 2e-5)


@pytest.mark.parametrize("average", [True, False])
def test_unbatched(average):
    ours, theirs = pair({"add_bias_kv": True})
    given = inputs({}, batched=False)
    for padding, mask in ((None, None), (PADDING[0], HIDDEN), (None, EACH[:H])):
        options = {"key_padding_mask": padding, "attn_mask": mask, "average_attn_weights": average}
        for result, wanted in zip(ours(*given, **options), theirs(*given, **options), strict=True):
            close(result if isinstance(result, torch.Tensor) else result.dense(), wanted, 1e-5)


def test_causal_self_attention_with_and_without_the_mask():
    ours, theirs = pair({"batch_first": True})
    x = torch.randn(B, N, C)
    mask = nn.Transformer.generate_square_subsequent_mask(N)
    wanted = theirs(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]
    close(ours(x, x, x, attn_mask=mask, is_causal=True)[0], wanted, 1e-5)
    close(ours(x, x, x, is_causal=True)[0], wanted, 1e-5)
    close(ours(x, x, x, attn_mask=mask)[0], wanted, 1e-5)


def test_inside_pytorchs_own_encoder_layer():
    layer = nn.TransformerEncoderLayer(C, H, 32, batch_first=True, dropout=0.0)
    x = torch.randn(B, M, C)
    wanted = layer(x, src_key_padding_mask=PADDING)
    ours = MultiheadAttention(C, H, batch_first=True)
    ours.load_state_dict(layer.self_attn.state_dict())
    layer.self_attn = ours
    close(layer(x, src_key_padding_mask=PADDING)[~PADDING], wanted[~PADDING], 1e-5)


def test_dropout_is_there_in_training_only_and_keeps_the_mean():
    ours, _ = pair({"batch_first": True, "dropout": 0.5})
    x = torch.randn(1, N, C)
    plain = ours.eval()(x, x, x)[0]
    assert torch.equal(plain, ours(x, x, x)[0])
    ours.train()
    with torch.no_grad():
        many = torch.stack([ours(x, x, x)[0] for _ in range(600)])
    assert not torch.equal(many[0], many[1])
    close(many.mean(0), plain, 0.25)


def test_compiled_and_under_autocast():
    ours, _ = pair({"batch_first": True})
    x = torch.randn(B, N, C)
    wanted = ours(x, x, x, attn_mask=torch.ones(N, N).triu(1).bool())[0]
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    close(compiled(x, x, x, attn_mask=torch.ones(N, N).triu(1).bool(), need_weights=False)[0], wanted, 1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        output, weights = ours(x, x, x, attn_mask=torch.ones(N, N).triu(1).bool())
    assert output.dtype == torch.bfloat16
    close(output.float(), wanted, 0.1)
    close(weights.dense().float(), ours(x, x, x, attn_mask=torch.ones(N, N).triu(1).bool())[1].dense(), 0.05)


def test_long_weights_cost_nothing_and_read_exactly():
    layer = MultiheadAttention(16, 2, batch_first=True).eval()
    x = torch.randn(1, 40_000, 16)
    with torch.no_grad():
        mean = layer(x[:, :64], x, x)[1]
        full = layer(x[:, :8192], x[:, :32], x[:, :32])[1]
    assert isinstance(mean, MeanOverHeads) and mean.shape == (1, 64, 40_000)
    close(mean[0, 3], mean.matrix[0, :, 3].mean(0), 1e-7)
    close(full[0, 5:9, 3], full.dense()[0, 5:9, 3], 1e-7)


def test_the_mean_passes_for_a_tensor():
    mean = MeanOverHeads(AttentionMatrix(*torch.randn(2, 2, 4, 6, 8)))
    dense = mean.dense()
    close(dense, mean.matrix.dense().mean(1), 0)
    for index in (0, (1, 2), (0, 2, 3), (..., 4), (slice(None), slice(1, 3)), (1, ..., slice(2)), -1):
        part = mean[index]
        close(part if isinstance(part, torch.Tensor) else part.dense(), dense[index], 1e-7)
    assert isinstance(mean[0], MeanOverHeads)
    for x in (torch.randn(6), torch.randn(6, 3), torch.randn(2, 6, 3)):
        close(mean @ x, dense @ x, 1e-6)
    for x in (torch.randn(6), torch.randn(3, 6), torch.randn(2, 3, 6)):
        close(x @ mean, x @ dense, 1e-6)
    close(mean.received(), dense.sum(1), 1e-6)
    close(mean.sum(-1), torch.ones(2, 6), 1e-6)
    assert torch.allclose(mean, dense) and (mean > -1).all() and mean.numpy().shape == (2, 6, 6)
    with pytest.raises(IndexError, match="too many indices"):
        mean[0, 0, 0, 0]


ERRORS = {
    "width": (lambda f, x: f(x, x[..., :5], x), ValueError, "key: width 5 .* differs from the 24"),
    "mixed": (lambda f, x: f(x, x[0], x), ValueError, r"key: expected \[B,N,C\]"),
    "mask shape": (
        lambda f, x: f(x, x, x, attn_mask=HIDDEN[:2]),
        ValueError,
        r"attn_mask: shape \[2, 7\] .* \[7, 7\]",
    ),
    "padding": (lambda f, x: f(x, x, x, key_padding_mask=PADDING[:1]), ValueError, "key_padding_mask: shape"),
    "dtype": (
        lambda f, x: f(x, x, x, key_padding_mask=PADDING.long()),
        TypeError,
        "key_padding_mask: expected bool",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call(MultiheadAttention(C, H, batch_first=True), torch.randn(B, M, C))


def test_a_query_with_nothing_to_look_at_gets_zero():
    layer = MultiheadAttention(C, H, batch_first=True)
    x, nothing = torch.randn(B, M, C), torch.tensor([[True], [False]]).expand(B, M)
    output, weights = layer(x, x, x, key_padding_mask=nothing)
    close(output[0], layer.out_proj.bias.expand(M, C), 1e-6)
    assert not weights[0].dense().any() and output.isfinite().all()
    output.sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
