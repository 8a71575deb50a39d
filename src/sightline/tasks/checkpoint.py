"""An interrupted run: one safetensors file, from which it resumes as if it had never stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.common.atomic import replacing
from sightline.common.errors import CommandError

FILE = "checkpoint.safetensors"
_KEY = "sightline_run"


@dataclass
class TrainingProgress:
    """How far a training run has come.

    Attributes:
        epoch, at: the batch that comes next.
        step: optimiser steps so far.
        best: the best validation figure, higher being better, and −loss with it, if any; ``waited``: epochs
            since then.
        history: what was measured after each epoch.
        loss: the sum of the losses of this epoch's steps so far.
        seconds: CPU time that the run took, and ``spent``: until the end of each epoch.
    """

    epoch: int = 0
    at: int = 0
    step: int = 0
    best: list[float] | None = None
    waited: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    loss: float = 0.0
    seconds: float = 0.0
    spent: list[float] = field(default_factory=list)


def save_run(
    folder: Path,
    identity: dict[str, Any],
    progress: TrainingProgress,
    tensors: dict[str, dict[str, Tensor]],
) -> None:
    """Writes everything that a run needs to resume, completely or not at all.

    Args:
        identity: what the run depends on; a checkpoint with another identity is refused.
        tensors: weights and the like, by group and name.

    Raises:
        CommandError: it cannot be written, as on a full disk; the previous checkpoint is then untouched.
    """
    from safetensors.torch import save

    flat = {
        f"{group}/{name}": t.detach().cpu().contiguous()
        for group, each in tensors.items()
        for name, t in each.items()
    }
    described = json.dumps({"identity": identity, "progress": vars(progress)})
    try:
        with replacing(folder / FILE) as file:
            file.write(save(flat, {_KEY: described}))
    except OSError as error:
        raise CommandError(
            f"cannot write {folder / FILE}: {error.strerror or error}; what was saved before is as it was"
        ) from None


def forget_run(folder: Path) -> None:
    """Removes the checkpoint of a run that is over."""
    (folder / FILE).unlink(missing_ok=True)


def load_run(
    folder: Path, identity: dict[str, Any]
) -> tuple[TrainingProgress, dict[str, dict[str, Tensor]]] | None:
    """The saved run; ``None`` if there is none.

    Raises:
        CommandError: the checkpoint is damaged, or was made with other data or settings.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})[_KEY])
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        saved, progress = described["identity"], TrainingProgress(**described["progress"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CommandError(f"{path}: is not a valid checkpoint ({error}); remove it to begin anew") from None
    if saved != identity:
        names = sorted(
            name for name in saved.keys() | identity.keys() if saved.get(name) != identity.get(name)
        )
        differs = ", ".join(_difference(name, saved.get(name), identity.get(name)) for name in names)
        raise CommandError(
            f"{path}: is of a run with another {differs}; give the same again, or another --out"
        )
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = tensor
    return progress, groups


def _difference(name: str, saved: Any, given: Any) -> str:
    return f"{name} ({saved}, not {given})" if isinstance(saved, int) else name
