"""Layers and models are used unchanged: logits, losses and gradients are those of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import sightline
from sightline import distributed
from sightline.models import Decoder, DecoderConfig, Encoder, EncoderConfig

SMALL = {"width": 8, "heads": 2, "layers": 2, "vocabulary": 11, "dropout": 0.0}


def decoder(positions: str) -> Decoder:
    torch.manual_seed(0)
    return Decoder(DecoderConfig(positions=positions, kv_heads=1, **SMALL)).double()


def check_decoder(group: Any, positions: str, order: str) -> None:
    ids, labels = torch.randint(11, (2, 2, 13))
    texts = torch.arange(13) // 5

    def loss_of(model: nn.Module, ids: Any, labels: Any) -> Any:
        logits = model(ids, mask=sightline.documents(texts))
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")

    alone, model = decoder(positions), decoder(positions)
    loss_of(alone, ids, labels).backward()
    with distributed.context_parallel(group, order=order, timeout=60):
        own = loss_of(model, distributed.shard(ids, 1), distributed.shard(labels, 1))
    own.backward()
    for (name, right), mine in zip(alone.named_parameters(), model.parameters(), strict=True):
        dist.all_reduce(mine.grad, group=group)
        torch.testing.assert_close(mine.grad, right.grad, atol=1e-12, rtol=1e-12, msg=name)


@pytest.mark.parametrize("positions, order", [("rotary", "zigzag"), ("learned", "contiguous")])
def test_a_decoder_learns_as_on_one_process(pool, positions, order):
    pool.run(check_decoder, positions, order, count=2)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("order", ["zigzag", "contiguous"])
@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi", "relative", "sinusoidal"])
def test_with_all_positions(pool, positions, order, count):
    pool.run(check_decoder, positions, order, count=count)


def check_compiled(group: Any) -> None:
    """Compiled before the block, with other sessions from step to step."""
    alone, model = decoder("rotary"), decoder("rotary")
    ids = torch.randint(11, (2, 13))
    wanted = alone(ids)
    wanted.pow(2).sum().backward()
    compiled = torch.compile(model, backend="eager")
    for _ in range(2):
        model.zero_grad()
        with distributed.context_parallel(group, timeout=300):
            found = compiled(distributed.shard(ids, 1))
            found.pow(2).sum().backward()
            distributed.sum_gradients(model.parameters())
            torch.testing.assert_close(found, distributed.shard(wanted, 1), atol=1e-12, rtol=1e-12)
        for mine, right in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, right.grad, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(compiled(ids), wanted, atol=1e-12, rtol=1e-12)
    whole = torch.compile(lambda one: sightline.attention(one, one, one), backend="eager", fullgraph=True)
    unsupported = pytest.raises(torch._dynamo.exc.Unsupported)
    with distributed.context_parallel(group, timeout=300), unsupported:
        whole(torch.randn(1, 1, 4, 4))


@pytest.mark.slow
def test_a_compiled_model(pool):
    pool.run(check_compiled, count=2)


def check_encoder(group: Any) -> None:
    torch.manual_seed(0)
    model = Encoder(EncoderConfig(positions="alibi", **SMALL)).double()
    ids = torch.randint(11, (2, 13))
    mask = sightline.lengths([13, 6])
    wanted = model(ids, mask=mask)
    with distributed.context_parallel(group, timeout=60):
        own = distributed.shard(ids, 1)
        found = model(own, mask=mask)
        found = distributed.unshard(found, 1)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)


def test_an_encoder(pool):
    pool.run(check_encoder, count=3)


def check_positions(group: Any) -> None:
    model = Decoder(DecoderConfig(positions="learned", max_positions=5, **SMALL))
    with distributed.context_parallel(group, timeout=60):
        own = distributed.shard(torch.zeros(1, 8, dtype=torch.long), 1)
        if dist.get_rank(group):
            with pytest.raises(ValueError, match="positions 4 to 7 .* lie outside the 5 learned"):
                model.embedding(own)
        else:
            model.embedding(own)


def test_positions_are_those_of_the_whole(pool):
    pool.run(check_positions, count=2)


def check_caches(group: Any) -> None:
    model = decoder("rotary")
    refused = pytest.raises(NotImplementedError, match="KVCache: .* inside of context_parallel")
    with distributed.context_parallel(group, timeout=60), refused:
        model(torch.zeros(1, 4, dtype=torch.long), cache=model.make_cache())


def test_caches_are_refused(pool):
    pool.run(check_caches, count=2)


def small(kind: str) -> Any:
    """A small model of Transformers in float64."""
    import transformers

    import sightline.huggingface  # noqa: F401  (registers itself)

    size = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 4, "attn_implementation": "sightline"}  # fmt: skip
    grouped = size | {"num_key_value_heads": 2}
    config, made = {
        "llama": lambda: (transformers.LlamaConfig(**grouped), transformers.LlamaForCausalLM),
        "gemma2": lambda: (transformers.Gemma2Config(**grouped, head_dim=4, sliding_window=5),
                           transformers.Gemma2ForCausalLM),
        "gpt2": lambda: (transformers.GPT2Config(vocab_size=31, n_embd=16, n_layer=2, n_head=4, n_positions=64,
                                                 attn_implementation="sightline"),
                         transformers.GPT2LMHeadModel),
        "bert": lambda: (transformers.BertConfig(**size), transformers.BertForMaskedLM),
        "t5": lambda: (transformers.T5Config(vocab_size=31, d_model=16, d_kv=4, d_ff=16, num_layers=1,
                                             num_heads=4, attn_implementation="sightline"),
                       transformers.T5ForConditionalGeneration),
        "mamba": lambda: (transformers.MambaConfig(vocab_size=31, hidden_size=16, num_hidden_layers=1),
                          transformers.MambaForCausalLM),
    }[kind]()  # fmt: skip
    torch.manual_seed(0)
    return made(config).double().eval()


def check_hugging_face(group: Any, kind: str, order: str, packed: bool, padded: bool, compiled: bool) -> None:
    """Logits and gradients of one process; texts packed by their positions, padding by its mask."""
    alone, model = small(kind), small(kind)
    ids = torch.randint(31, (2, 17))
    positions = torch.cat([torch.arange(6), torch.arange(11)]) if packed else torch.arange(17)
    real = torch.ones_like(ids)
    real[1, 12:] = 0
    asked = {"attention_mask": real} if padded else {}
    wanted = alone(ids, position_ids=positions[None], use_cache=False, **asked).logits * real[..., None]
    wanted.pow(2).sum().backward()
    with distributed.context_parallel(group, order=order, timeout=60):
        batch = distributed.next_tokens(ids)
        own = {name: distributed.shard(one, 1) for name, one in asked.items()}
        own["position_ids"] = distributed.shard(positions, 0)[None]
        run = torch.compile(model, backend="eager") if compiled else model
        logits = run(batch.ids, **own).logits * distributed.shard(real, 1)[..., None]
        logits.pow(2).sum().backward()
        distributed.sum_gradients(model.parameters())
        found = distributed.unshard(logits.detach(), 1)
    torch.testing.assert_close(found, wanted.detach(), atol=1e-12, rtol=1e-12)
    close = 1e-4 if kind == "gemma2" else 1e-11  # whose norms compute in float32
    for (name, right), mine in zip(alone.named_parameters(), model.named_parameters(), strict=True):
        if right.grad is not None:
            torch.testing.assert_close(
                mine[1].grad, right.grad, atol=close, rtol=close, msg=lambda told, name=name: name + told
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, order, packed, padded, compiled, count",
    [
        ("llama", "zigzag", False, False, False, 2),
        ("llama", "zigzag", True, False, False, 3),
        ("llama", "contiguous", True, False, True, 2),
        ("llama", "contiguous", False, True, False, 3),
        ("gemma2", "zigzag", True, False, False, 2),  # alternately a window
        ("gpt2", "zigzag", False, False, False, 2),
        ("bert", "contiguous", False, True, False, 2),
        ("bert", "zigzag", False, False, False, 3),
    ],
)
def test_a_hugging_face_model(pool, kind, order, packed, padded, compiled, count):
    pytest.importorskip("transformers")
    pool.run(check_hugging_face, kind, order, packed, padded, compiled, count=count)


def check_attentions(group: Any) -> None:
    model, ids = small("llama"), torch.randint(31, (1, 9))
    alone = model(ids, output_attentions=True).attentions[1]
    with distributed.context_parallel(group, timeout=60):
        batch = distributed.next_tokens(ids)
        found = model(batch.ids, position_ids=batch.positions[None], output_attentions=True).attentions[1]
        assert isinstance(found, distributed.ShardedMatrix)
        torch.testing.assert_close(found.dense(), alone.dense(), atol=1e-12, rtol=1e-12)
        shifted = model(batch.ids, position_ids=batch.positions[None], labels=batch.labels,
                        shift_labels=batch.labels, num_items_in_batch=8).loss.detach()  # fmt: skip
        dist.all_reduce(shifted, group=group)
    torch.testing.assert_close(shifted, model(ids, labels=ids).loss.detach())


def check_what_is_refused_of_hugging_face(group: Any) -> None:
    ids = torch.zeros(2, 8, dtype=torch.long)
    llama = small("llama")
    with distributed.context_parallel(group, timeout=60):
        batch = distributed.next_tokens(ids)
        here = {"position_ids": batch.positions[None]}
        with pytest.raises(
            ValueError, match=r"LlamaForCausalLM would number .* Pass position_ids= .*next_tokens"
        ):
            llama(batch.ids)
        with pytest.raises(ValueError, match="labels: .* Compute the loss from the logits"):
            llama(batch.ids, labels=batch.labels, **here)
        with pytest.raises(NotImplementedError, match="keeps keys in a cache"):
            llama(batch.ids, use_cache=True, **here)
        with pytest.raises(
            ValueError, match=r"attention_mask: shape \[2, 8\] .*distributed.shard\(mask, 1\)"
        ):
            llama(batch.ids, attention_mask=torch.ones_like(ids), **here)
        with pytest.raises(NotImplementedError, match="T5ForConditionalGeneration has two sequences"):
            small("t5")(batch.ids, decoder_input_ids=batch.ids)
        with pytest.raises((NotImplementedError, ValueError), match="MambaForCausalLM has"):
            small("mamba")(batch.ids)
        llama.set_attn_implementation("sdpa")
        with pytest.raises(
            ValueError, match=r"attn_implementation='sdpa', which sees this process's tokens alone"
        ):
            llama(batch.ids, **here)
    llama(ids)  # outside of the block as ever


@pytest.mark.slow
def test_attentions_and_losses_of_a_hugging_face_model(pool):
    pytest.importorskip("transformers")
    pool.run(check_attentions, count=2)
    pool.run(check_what_is_refused_of_hugging_face, count=2)
