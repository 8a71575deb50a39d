"""Keys evicted from a DynamicCache: what follows equals eager attention that may not see them."""

import math

import pytest
import torch

import sightline.huggingface
from sightline.nn import scores

transformers = pytest.importorskip("transformers")


def llama(implementation):
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return transformers.LlamaForCausalLM._from_config(config, attn_implementation=implementation).eval()


@torch.no_grad()
def test_what_follows_equals_eager_attention_that_may_not_see_them():
    ids, following = torch.randint(60, (2, 24)), torch.randint(60, (2, 3))
    ours, eager = llama("sightline"), llama("eager")
    prompt = ours(ids, use_cache=True, output_attentions=True)
    dense = eager(ids, use_cache=True, output_attentions=True)
    weights = sum(one.double() for one in dense.attentions)  # one score for both layers
    wanted = weights.sum(2).unflatten(1, (2, 2)).mean(2)
    both = sum(scores.received(A, 2) for A in prompt.attentions)
    torch.testing.assert_close(both.double(), wanted, atol=1e-5, rtol=1e-5)
    cache = prompt.past_key_values
    kept = sightline.huggingface.evict(cache, [both, both], 9, recent=3, sinks=1)
    assert cache.get_seq_length() == 9
    seen = torch.zeros(2, 2, 24, dtype=torch.bool).scatter(2, kept[0], True)
    for b in range(2):
        for g in range(2):
            order = sorted(range(24), key=lambda j: (j < 1 or j >= 21, float(wanted[b, g, j])))
            assert kept[0][b, g].tolist() == sorted(order[-9:])
    for at in range(3):
        place = torch.full((2, 1), 24 + at)
        step = ours(following[:, at : at + 1], past_key_values=cache, position_ids=place)
        seen = torch.nn.functional.pad(seen, (0, 1), value=True)
        hidden = torch.where(seen, 0.0, -math.inf).repeat_interleave(2, 1)[:, :, None]
        other = eager(
            following[:, at : at + 1], past_key_values=dense.past_key_values, position_ids=place,
            attention_mask=hidden,
        )  # fmt: skip
        torch.testing.assert_close(step.logits, other.logits, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_what_is_refused():
    model = llama("sightline")
    prompt = model(torch.randint(60, (1, 8)), use_cache=True, output_attentions=True)
    cache, of_layers = prompt.past_key_values, [scores.received(A, 2) for A in prompt.attentions]
    with pytest.raises(ValueError, match="scores: 1 for a cache of 2 layers"):
        sightline.huggingface.evict(cache, of_layers[:1], 4)
    with pytest.raises(ValueError, match="scores: shape .* does not broadcast"):
        sightline.huggingface.evict(cache, [of_layers[0], of_layers[1][:, :, :5]], 4)
    assert cache.get_seq_length() == 8
    with pytest.raises(
        TypeError, match="cache: must be a DynamicCache whose layers keep everything, got int"
    ):
        sightline.huggingface.evict(3, of_layers, 4)
    with pytest.raises(TypeError, match="cache: must be a DynamicCache"):
        sightline.huggingface.evict(transformers.StaticCache(model.config, max_cache_len=9), of_layers, 4)
