"""Trains a small language model on one long text, which several processes share.

    python examples/shared_sequence.py book.txt
    torchrun --nproc-per-node 2 examples/shared_sequence.py book.txt

Both print the same losses: each process holds a part of the text's tokens, and attention sees all of them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from sightline import distributed
from sightline.models import Decoder, DecoderConfig


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="a text file; its bytes are the tokens")
    parser.add_argument("--tokens", type=int, default=4096, help="of the sequence")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--order", choices=("contiguous", "zigzag"), default="zigzag")
    given = parser.parse_args(arguments)
    # torchrun says how many there are; without it there is one.
    os.environ.setdefault("MASTER_ADDR", "localhost")
    os.environ.setdefault("MASTER_PORT", "0")
    rank, count = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    dist.init_process_group("gloo", rank=rank, world_size=count)
    try:
        train(torch.tensor([list(given.text.read_bytes()[: given.tokens])]), given.steps, given.order)
    finally:
        dist.destroy_process_group()
    return 0


def train(ids: torch.Tensor, steps: int, order: str) -> None:
    """Prints the loss of each step: the mean over the tokens of all processes."""
    torch.manual_seed(0)  # so that all begin with the same weights
    config = DecoderConfig(width=64, heads=4, layers=2, vocabulary=256, positions="rotary", dropout=0.0)
    model = Decoder(config).double()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch_tokens = ids.shape[1] - 1
    for step in range(steps):
        with distributed.context_parallel(order=order):
            batch = distributed.next_tokens(ids)
            logits = model(batch.ids)
            loss = nn.functional.cross_entropy(logits[0], batch.labels[0], reduction="sum") / batch_tokens
            loss.backward()
            distributed.sum_gradients(model.parameters())
        optimiser.step()
        optimiser.zero_grad()
        whole = loss.detach()
        dist.all_reduce(whole)
        if dist.get_rank() == 0:
            print(f"step {step}: loss {whole:.10f}")


if __name__ == "__main__":
    sys.exit(main())
