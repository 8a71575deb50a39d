"""Models that compute attention in their own code run as under ``eager``, and say so.

Transformers asks each model, when it is built, which implementation it can run: ``sdpa`` becomes ``eager``
where a model was not written for it. For a registered name it asks nothing: such a model would claim to run
under Sightline, or fail with a bare ``KeyError`` where it looks the name up in a table of its own.
"""

from __future__ import annotations

from functools import cache, wraps
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import logging

logger = logging.get_logger(__name__)
_registered: set[str] = set()


def fall_back_to_eager(name: str) -> None:
    """Lets models that cannot run under ``name`` run under ``eager``."""
    _registered.add(name)
    _replace_once()


@cache
def _replace_once() -> None:
    model_class: Any = PreTrainedModel
    choose = getattr(model_class, "get_correct_attn_implementation", None)
    if choose is None:  # a version that chooses elsewhere
        return

    @wraps(choose)
    def get_correct_attn_implementation(model: Any, requested: str | None, *args: Any, **kwargs: Any) -> Any:
        if requested in _registered and not runs_here(type(model)):
            say_so(type(model).__name__)
            requested = "eager"
        return choose(model, requested, *args, **kwargs)

    model_class.get_correct_attn_implementation = get_correct_attn_implementation


def runs_here(model_class: Any) -> bool:
    """Whether a model calls a registered attention. Models from outside Transformers are trusted."""
    inside = model_class.__module__.startswith("transformers.models.")
    return not inside or bool(model_class._can_set_attn_implementation())


def say_so(what: str) -> None:
    """Warns that a model, or a family of them, runs as under ``eager``."""
    logger.warning(
        f'{what} computes attention in its own code, which attn_implementation="sightline" cannot replace: '
        'it runs as under "eager".'
    )
