"""Applications of self-attention, from data to answers: ``sightline train`` and ``sightline run``.

``task`` says what a task is, ``sentiment``, ``language`` and ``pairs`` are tasks, ``training`` is the loop of
all of them, ``checkpoint`` what an interrupted run resumes from, ``fitting`` the way from data to a finished
model, ``processes`` those that train one together, ``pipelines`` what answers.
"""

from __future__ import annotations

from sightline.tasks.fitting import fit
from sightline.tasks.pipelines import Pipeline, pipeline
from sightline.tasks.processes import Processes, joined
from sightline.tasks.recipe import Recipe
from sightline.tasks.registry import TASKS, load_task
from sightline.tasks.task import Source

__all__ = ["TASKS", "Pipeline", "Processes", "Recipe", "Source", "fit", "joined", "load_task", "pipeline"]
