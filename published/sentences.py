"""all-MiniLM-L6-v2: how similar sentences are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from published.line import Line, number
from sightline.huggingface import register
from sightline.huggingface.load import default_folder

QUICKSTART = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
COSINES = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}
MANHATTAN = {(0, 1): -12.6269, (0, 2): -20.2167, (1, 2): -20.1288}

LEFT = ("The new movie is awesome", "The cat sits outside", "A man is playing guitar")
RIGHT = ("The dog plays in the garden", "The new movie is so great", "A woman watches TV")
PAIRS = ((0.0543, 0.8939, -0.0502), (0.2838, -0.0029, 0.1310), (0.2277, -0.0136, -0.0327))

# Four digits were published: half a unit of the last, and float32's own noise.
TOLERANCE = 6e-5


def lines(speech: Path | None) -> Iterator[Line]:
    """The similarities of the quickstart, then those of the page on textual similarity."""
    embed = _Embedding()
    three = embed(QUICKSTART)
    for (i, j), published in COSINES.items():
        ours = float(three[i] @ three[j])
        yield number(f"cosine: “{QUICKSTART[i]}” “{QUICKSTART[j]}”", published, ours, TOLERANCE)
    for (i, j), published in MANHATTAN.items():
        ours = -float((three[i] - three[j]).abs().sum())
        yield number(f"Manhattan: “{QUICKSTART[i]}” “{QUICKSTART[j]}”", published, ours, TOLERANCE)
    left, right = embed(LEFT), embed(RIGHT)
    for i, row in enumerate(PAIRS):
        for j, published in enumerate(row):
            yield number(f"cosine: “{LEFT[i]}” “{RIGHT[j]}”", published, float(left[i] @ right[j]), TOLERANCE)


class _Embedding:
    """Sentences to vectors of length 1: the mean over the tokens of the last layer."""

    def __init__(self) -> None:
        register()
        folder = default_folder()
        # A folder of an installed package: nothing is downloaded.
        self.tokenizer = AutoTokenizer.from_pretrained(folder)  # nosec B615
        self.model = AutoModel.from_pretrained(folder, attn_implementation="sightline").eval()  # nosec B615

    @torch.no_grad()
    def __call__(self, sentences: tuple[str, ...]) -> Tensor:
        given = self.tokenizer(list(sentences), padding=True, return_tensors="pt")
        states: Tensor = self.model(**given).last_hidden_state
        weight = given["attention_mask"][..., None].to(states.dtype)
        return torch.nn.functional.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)
