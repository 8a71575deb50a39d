"""A model of plain PyTorch learns to reverse a row of letters; the page shows how it does that.

    python examples/reversing.py page.html

Nothing in the model knows Sightline: `sightline.trace` catches what torch.nn computes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import sightline

LETTERS = "abcdefghijklmnop"
LENGTH = 12


class Reverser(nn.Module):
    """One layer of torch.nn: each place has to find the letter of the place on the other side."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), width)
        self.places = nn.Embedding(LENGTH, width)
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.output = nn.Linear(width, len(LETTERS))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B,N,letters] of ids [B,N]."""
        x = self.letters(ids) + self.places.weight[: ids.shape[1]]
        return self.output(self.layer(x))


def trained(steps: int) -> Reverser:
    """A model after some steps on random rows; the same one each time."""
    torch.manual_seed(0)
    model = Reverser()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        ids = torch.randint(len(LETTERS), (64, LENGTH))
        loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flip(1).flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def main(arguments: list[str] | None = None) -> int:
    """Trains, reads one row, writes the page; the exit code is 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path, help="the page to write")
    parser.add_argument("--steps", type=int, default=600, help="of training (default: 600)")
    given = parser.parse_args(arguments)
    model, row = trained(given.steps), "fabinopdhgce"
    ids = torch.tensor([[LETTERS.index(letter) for letter in row]])
    with sightline.trace(model, gradients=True) as trace:
        logits = model(ids)
        logits[0, 2].max().backward()  # the answer at place 2: which places does it go back to?
    answer = "".join(LETTERS[i] for i in logits[0].argmax(-1).tolist())
    trace.tokens = list(row)
    size = trace.report(given.page, title=f"{row} → {answer}")
    print(f"{row} -> {answer}; wrote {given.page} ({size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
