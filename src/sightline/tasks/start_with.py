"""What ``--start`` names, as the start of a run."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sightline.common.errors import CommandError
from sightline.tasks.pipelines import open_pipeline
from sightline.tasks.starting import Start


def start_with(model: str) -> Start:
    """The start that a model gives.

    Args:
        model: a task whose model comes with Sightline, or the folder of a trained one.

    Raises:
        CommandError: there is no such model, or its inputs are no texts.
    """
    opened = open_pipeline(model)
    task, trained = opened.task, opened.model
    if not task.tokenized:
        raise CommandError(f"--start {model}: a model of {task.name} reads no texts")
    digest = hashlib.sha256(task.tokenizer.to_str().encode())
    for name, tensor in sorted(trained.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return Start(Path(opened.name).name, trained, task.tokenizer, digest.hexdigest()[:32])
