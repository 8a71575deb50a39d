"""Positions, blocks and stacks: against other implementations, cast, under autocast, compiled, with caches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import sightline
from cases import close
from sightline.nn import (
    Alibi,
    DecoderCache,
    FeedForward,
    KVCache,
    LearnedPositions,
    RelativePositions,
    Rotary,
    SelfAttention,
    SinusoidalPositions,
    TransformerBlock,
    TransformerDecoder,
    TransformerEncoder,
    sinusoidal,
)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_equals_pytorchs(norm_first: bool) -> None:
    theirs = nn.TransformerDecoderLayer(
        24, 4, 40, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
    )
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = TransformerBlock(24, 4, cross_attention=True, hidden=40, norm_first=norm_first)
    names = {"self_attn": ours.self_attention, "multihead_attn": ours.cross_attention}
    with torch.no_grad():
        for name, layer in names.items():
            other = getattr(theirs, name)
            for mine, w, b in zip(
                (layer.query, layer.key, layer.value),
                other.in_proj_weight.chunk(3),
                other.in_proj_bias.chunk(3),
                strict=True,
            ):
                mine.weight.copy_(w)
                mine.bias.copy_(b)
            layer.output.load_state_dict(other.out_proj.state_dict())
        ours.feed_forward.input.load_state_dict(theirs.linear1.state_dict())
        ours.feed_forward.output.load_state_dict(theirs.linear2.state_dict())
        for mine, other in zip(
            (ours.self_attention_norm, ours.cross_attention_norm, ours.feed_forward_norm),
            (theirs.norm1, theirs.norm2, theirs.norm3),
            strict=True,
        ):
            mine.load_state_dict(other.state_dict())
    x, memory = torch.randn(2, 5, 24), torch.randn(2, 7, 24)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    output, matrices = ours(x, memory, mask=sightline.causal(), return_matrix=True)
    close(output, theirs(x, memory, tgt_mask=causal), 2e-5)
    assert matrices.cross_attention.shape == (2, 4, 5, 7)


STACKS = {
    "rotary": lambda: TransformerDecoder(
        2, 24, 4, kv_heads=2, rotary=Rotary(6), norm="rms", activation="swiglu"
    ),
    "alibi": lambda: TransformerDecoder(2, 24, 4, positions=Alibi(4), norm_first=False),
    "relative": lambda: TransformerDecoder(
        2,
        24,
        4,
        positions=RelativePositions(4, buckets=8, max_distance=9, bidirectional=False),
        window=4,
        global_every=2,
    ),
    "memory": lambda: TransformerDecoder(2, 24, 4, cross_attention=True, rotary=Rotary(6)),
}


@pytest.mark.parametrize("name", STACKS)
def test_ragged_steps_equal_each_entry_alone(name: str) -> None:
    decoder = STACKS[name]()
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    memory = torch.randn(2, 3, 24) if name == "memory" else None
    x, prompts, cache = torch.randn(2, 12, 24), [6, 2], DecoderCache(2)
    with torch.no_grad():
        alone = [decoder(x[b : b + 1], None if memory is None else memory[b : b + 1])[0] for b in range(2)]
        first = decoder(x[:, :6], memory, cache=cache, lengths=prompts)
        close(first[0], alone[0][:6], 1e-5)
        close(first[1, :2], alone[1][:2], 1e-5)
        at = list(prompts)
        for counts in ([1, 1], [2, 1], [0, 1], [1, 1]):
            step = torch.stack([torch.cat((x[b], torch.zeros(2, 24)))[at[b] : at[b] + 2] for b in range(2)])
            output = decoder(step, memory, cache=cache, lengths=counts)
            for b in range(2):
                close(output[b, : counts[b]], alone[b][at[b] : at[b] + counts[b]], 1e-5)
                at[b] += counts[b]
    assert cache.start.tolist() == at


@pytest.mark.parametrize("kind", [TransformerEncoder, TransformerDecoder])
def test_every_so_many_blocks_see_without_limit(kind: type) -> None:
    stack = kind(5, 8, 2, window=2, global_every=2).eval()
    _, matrices = stack(torch.randn(1, 6, 8), return_matrices=True)
    of_blocks = matrices if kind is TransformerEncoder else matrices.self_attention
    seen = [int((A.dense()[0, 0, 5] > 0).sum()) for A in of_blocks]
    assert seen == ([3, 6, 3, 6, 3] if kind is TransformerEncoder else [2, 6, 2, 6, 2])


def test_an_encoder_ignores_padding_and_windows_see_both_sides() -> None:
    encoder = TransformerEncoder(2, 24, 4, positions=Alibi(4), window=2)
    x = torch.randn(2, 9, 24)
    padded, matrices = encoder(x, mask=sightline.lengths([9, 5]), return_matrices=True)
    close(padded[1, :5], encoder(x[1:, :5])[0], 1e-5)
    assert matrices[0][1, 0, 2].nonzero().flatten().tolist() == [0, 1, 2, 3, 4]


def test_relative_buckets_and_bias_are_t5s() -> None:
    attention = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    distances = torch.arange(-300, 301)
    for bidirectional in (True, False):
        layer = RelativePositions(3, buckets=32, max_distance=128, bidirectional=bidirectional)
        theirs = attention._relative_position_bucket(distances, bidirectional, 32, 128)
        assert torch.equal(layer.bucket(distances), theirs)
        step = torch.arange(150) - torch.arange(150)[:, None]
        dense = layer().dense((1, 3, 150, 150), torch.device("cpu"))[0]
        close(dense, layer.weight[layer.bucket(step)].permute(2, 0, 1), 0)


def test_sinusoids() -> None:
    close(SinusoidalPositions(6)(torch.zeros(1, 4, 6), 3)[0], sinusoidal(7, 6)[3:], 1e-6)
    halves = SinusoidalPositions(6, interleaved=False)(torch.zeros(2, 4, 6), torch.tensor([0, 3]))
    close(halves[1], sinusoidal(7, 6)[3:, [0, 2, 4, 1, 3, 5]], 1e-6)


def test_learned_positions_of_a_ragged_batch() -> None:
    layer = LearnedPositions(6, 4)
    added = layer(torch.zeros(2, 2, 4), torch.tensor([4, 1]))
    close(added, torch.stack((layer.weight[4:6], layer.weight[1:3])), 0)
    with pytest.raises(ValueError, match="positions 1 to 6"):
        layer(torch.zeros(2, 2, 4), torch.tensor([5, 1]))


def test_fixed_numbers_stay_float32_when_the_model_is_cast() -> None:
    wanted = Rotary(8).frequencies
    rotary = nn.Sequential(Rotary(8)).bfloat16()[0]
    assert rotary.frequencies.dtype == torch.float32 and torch.equal(rotary.frequencies, wanted)
    assert Alibi(12).half().slopes.dtype == torch.float32
    assert Rotary(8).double().frequencies.dtype == torch.float64
    x = torch.randn(1, 1, 1, 8)
    close(rotary(x.bfloat16(), 5000), Rotary(8)(x.bfloat16().float(), 5000), 2e-2)
    assert not Rotary(8).state_dict()
    empty = nn.Sequential(Rotary(8)).to("meta").to_empty(device="cpu")[0]
    assert torch.equal(empty.frequencies, wanted)
    assert torch.equal(copy.deepcopy(rotary).frequencies, wanted)


def test_the_cache_refuses_what_bottom_right_would_get_wrong() -> None:
    layer, cache, x = SelfAttention(24, 4), KVCache(), torch.randn(2, 3, 24)
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"stands at 0. Align it with align=cache.start"):
            layer(x, cache=KVCache(), lengths=[2, 1], mask=sightline.lengths([2, 1]) & sightline.causal())
        layer(x, cache=cache, lengths=[3, 1], mask=sightline.causal(0))
        for options in ({"mask": sightline.causal()}, {"bias": sightline.alibi(torch.ones(4))}):
            with pytest.raises(ValueError, match=r"M - N = 3, but in this cache it stands at \[3, 1\]"):
                layer(x[:, :1], cache=copy.deepcopy(cache), **options)
        layer(x[:, :1], cache=cache, mask=sightline.causal(cache.start))
    with pytest.raises(ValueError, match="lengths: say what a cache"):
        layer(x, lengths=[3, 1])


def test_gradients_are_right() -> None:
    block = TransformerBlock(
        8, 2, cross_attention=True, kv_heads=1, rotary=Rotary(4), activation="geglu"
    ).double()
    x, memory = (torch.randn(1, n, 8, dtype=torch.float64, requires_grad=True) for n in (4, 3))
    assert torch.autograd.gradcheck(lambda x, m: block(x, m, mask=sightline.causal()), (x, memory))
    block(x, memory).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


def test_autocast_runs_in_bfloat16_and_stays_near() -> None:
    decoder = STACKS["rotary"]()
    x = torch.randn(2, 9, 24)
    wanted = decoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, matrices = decoder(x, return_matrices=True)
    assert matrices.self_attention[0].dtype == torch.bfloat16
    close(output.float(), wanted, 5e-2)
    output.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize("positions", ["rotary", pytest.param("alibi", marks=pytest.mark.slow)])
def test_a_compiled_stack_is_one_graph(positions: str) -> None:
    rotary = positions == "rotary"
    stack = STACKS["rotary"]() if rotary else TransformerEncoder(1, 24, 4, positions=Alibi(4))
    x = torch.randn(2, 9, 24, requires_grad=True)
    compiled = torch.compile(stack, backend="aot_eager", fullgraph=True)
    close(compiled(x), stack(x), 1e-5)
    (gradient,) = torch.autograd.grad(compiled(x).sin().sum(), x)
    (wanted,) = torch.autograd.grad(stack(x).sin().sum(), x)
    close(gradient, wanted, 1e-5)


def test_a_memorys_keys_are_projected_once() -> None:
    layer = TransformerBlock(24, 4, cross_attention=True).eval().cross_attention
    assert layer is not None
    x, memory, cache = torch.randn(1, 2, 24), torch.randn(1, 5, 24), KVCache()
    with torch.no_grad():
        first = layer(x, memory, cache=cache)
        close(layer(x, torch.zeros(1, 5, 24), cache=cache), first, 0)
        with pytest.raises(ValueError, match="holds 5 keys, but the memory has M=4"):
            layer(x, memory[:, :4], cache=cache)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="memory: none was given, but this block has cross-attention"):
        TransformerBlock(8, 2, cross_attention=True)(torch.zeros(1, 2, 8))
    with pytest.raises(ValueError, match="memory: was given, but this block has no"):
        TransformerBlock(8, 2)(torch.zeros(1, 2, 8), torch.zeros(1, 2, 8))
    with pytest.raises(ValueError, match="norm: there is no 'batch'; known: layer, rms"):
        TransformerBlock(8, 2, norm="batch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="activation: there is no 'tanh'"):
        FeedForward(8, activation="tanh")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="buckets: must be 4 or more"):
        RelativePositions(2, buckets=3)
    with pytest.raises(ValueError, match="max_distance: must be above 8"):
        RelativePositions(2, max_distance=8)
    with pytest.raises(ValueError, match="window: must be 1 or more"):
        TransformerEncoder(1, 8, 2, window=0)
    with pytest.raises(ValueError, match="global_every: 2 without a window"):
        TransformerDecoder(2, 8, 2, global_every=2)
