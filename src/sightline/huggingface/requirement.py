"""What must be installed, and what to say if it is not."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

TESTED = "5.23"


def check_transformers() -> None:
    """Raises unless Transformers is installed and has the two interfaces that Sightline registers with.

    Raises:
        ImportError: if transformers is missing or too old; the message says what to install.
    """
    try:
        import transformers
    except ImportError as error:
        raise ModuleNotFoundError(
            'sightline.huggingface needs transformers. Install it with: pip install "sightline[app]"',
            name="transformers",
        ) from error
    missing = missing_feature(_module("transformers.modeling_utils"), _module("transformers.masking_utils"))
    if missing:
        raise ImportError(
            f"sightline.huggingface needs transformers {TESTED} or newer, found {transformers.__version__}, "
            f'which lacks {missing}. Upgrade it with: pip install --upgrade "sightline[app]"'
        )


def missing_feature(modeling: ModuleType | None, masking: ModuleType | None) -> str | None:
    """The first thing that Sightline needs and this Transformers lacks; ``None`` if it has all."""
    if not hasattr(modeling, "AttentionInterface"):
        return "transformers.AttentionInterface"
    if not hasattr(masking, "AttentionMaskInterface"):
        return "transformers.masking_utils.AttentionMaskInterface"
    if "q_offset" not in inspect.signature(vars(masking)["sdpa_mask"]).parameters:
        return "mask functions that take q_offset"
    return None


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None
