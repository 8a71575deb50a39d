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


def check_hugging_face(group: Any) -> None:
    """Its masks are of the rows that a process holds: refused, not wrong."""
    from transformers import LlamaConfig, LlamaForCausalLM

    import sightline.huggingface  # noqa: F401  (registers itself)

    config = LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=4,
        attn_implementation="sightline", use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    refused = pytest.raises(NotImplementedError, match="not split over processes yet")
    with distributed.context_parallel(group, timeout=60), refused:
        model(distributed.next_tokens(torch.zeros(2, 13, dtype=torch.long)).ids)


@pytest.mark.slow
def test_a_hugging_face_model_is_refused(pool):
    pytest.importorskip("transformers")
    pool.run(check_hugging_face, count=2)
