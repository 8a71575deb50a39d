"""The model card beside the weights: what the model is, how it was made, and how well it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sightline._version import __version__
from sightline.common.atomic import write_atomically
from sightline.tasks.recipe import Recipe
from sightline.tasks.task import Data, Task

FILE = "README.md"


def write_card(
    folder: Path,
    task: Task,
    model: Any,
    recipe: Recipe,
    data: Data,
    figures: dict[str, dict[str, float]],
    about: dict[str, str],
    processes: int = 1,
) -> None:
    """Writes the card.

    Args:
        figures: by part of the data ("valid", "test"), by name.
        about: "data", "licence" and whatever else the user states; shown as given.
        processes: how many trained it.
    """
    size = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        f"# A model for {task.name}",
        "",
        f"{type(model).__name__} of Sightline {__version__} with {size:,} weights, trained "
        + ("from scratch." if task.start is None else f"further from {task.start.name}."),
        "",
        "## Data",
        *(f"- {name}: {value}" for name, value in about.items()),
        f"- examples: {len(data.train):,} to learn from, {len(data.valid):,} to validate, "
        f"{len(data.test):,} to test",
        *([f"- labels: {', '.join(task.labels)}"] if task.labels else []),
        *(f"- {notice}" for notice in data.notices[:5]),
        *([f"- and {len(data.notices) - 5} more notices"] if len(data.notices) > 5 else []),
        "",
        "## Figures",
        *(f"- {part}, {name}: {value:.4f}" for part, each in figures.items() for name, value in each.items()),
        "",
        "## Settings",
        *(f"- {name}: {value}" for name, value in recipe.to_dict().items()),
        f"- PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
        + (f" in each of {processes} processes" if processes > 1 else ""),
        "",
        "Weights show where a head looks, not by themselves why (Jain & Wallace 2019).",
    ]
    write_atomically(folder / FILE, ["\n".join(lines) + "\n"])
