"""The log of a run: a JSON object for each epoch, beside the model."""

from __future__ import annotations

import json
from pathlib import Path

from sightline.common.atomic import write_atomically
from sightline.common.errors import CommandError
from sightline.tasks.checkpoint import TrainingProgress

FILE = "log.jsonl"


def write_log(folder: Path, progress: TrainingProgress) -> None:
    """Writes the figures of every epoch so far, and the CPU seconds until its end.

    Raises:
        CommandError: it cannot be written.
    """
    lines = [
        json.dumps({"epoch": epoch, **figures, "cpu_seconds": round(spent, 1)}) + "\n"
        for epoch, (figures, spent) in enumerate(zip(progress.history, progress.spent, strict=True), 1)
    ]
    try:
        write_atomically(folder / FILE, lines)
    except OSError as error:
        raise CommandError(f"cannot write {folder / FILE}: {error.strerror or error}") from None
