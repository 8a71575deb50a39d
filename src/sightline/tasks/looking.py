"""What a model attended to while it answered: the explorer's page of one input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import sightline


def write_token_page(model: Any, tokenizer: Any, ids: list[int], title: str, path: Path) -> int:
    """The page of one sequence of tokens; returns its bytes."""
    with torch.no_grad(), sightline.trace(model) as trace:
        model(torch.tensor([ids]))
    return int(trace.report(path, title=title, tokens=[tokenizer.id_to_token(i) for i in ids]))


def write_pair_page(
    model: Any, tokenizer: Any, source: list[int], given: list[int], title: str, path: Path
) -> int:
    """The page of a source and of what the decoder was given; returns its bytes."""
    with torch.no_grad(), sightline.trace(model) as trace:
        model(torch.tensor([source]), torch.tensor([given]))
    tokens = [[tokenizer.id_to_token(i) for i in ids] for ids in (source, given)]
    return int(trace.report(path, title=title, tokens=tokens))
