"""What all models have in common: a configuration, and ways to be saved and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from sightline.masks import Mask, as_mask
from sightline.masks import lengths as lengths_mask
from sightline.models.config import TransformerConfig


class Model(nn.Module):
    """A Transformer with its configuration. Subclasses say which."""

    heads_known: tuple[str, ...] = ("none",)

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.head not in self.heads_known:
            raise ValueError(
                f"head: {type(self).__name__} has no {config.head!r}; it has {', '.join(self.heads_known)}."
            )
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, *, dtype: torch.dtype | None = None
    ) -> None:
        """Writes ``model.safetensors``, ``config.json`` and, if given, ``tokenizer.json``.

        A new folder appears whole or not at all; in one that is there each file is replaced at once, and a
        mixture of two saves does not load.

        Args:
            folder: made if it is not there.
            tokenizer: a ``tokenizers.Tokenizer``, a fast tokenizer of Transformers, or the path of a
                tokenizer.json. Default: none; one that is there already stays.
            dtype: what the weights are written as, and loaded as. Default: what they are.

        Raises:
            ValueError: for another kind of tokenizer; OSError where it cannot be written.
        """
        from sightline.models.saving import save

        save(self, Path(folder), tokenizer, dtype)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **changes: Any) -> Self:
        """The model that :meth:`save_pretrained` wrote, in eval mode.

        Args:
            folder: where it lies.
            **changes: of the configuration: ``dropout=0.1``, or ``head="classification", classes=3`` for a
                new head on the same body.

        Raises:
            CheckpointError: for a folder that holds no such model, or only half of one. Nothing in it is
                executed, and no pickle is opened.
        """
        from sightline.models.saving import load

        return load(Path(folder), cls, changes)  # type: ignore[return-value]

    @classmethod
    def from_huggingface(cls, source: Any, **changes: Any) -> Self:
        """From Transformers' published weights; see :func:`sightline.models.from_huggingface`."""
        from sightline.models.published import from_huggingface

        model = from_huggingface(source, **changes)
        if not isinstance(model, cls):
            raise ValueError(f"source: is a {type(model).__name__}, not a {cls.__name__}.")
        return model


def as_lengths(name: str, lengths: Tensor | Sequence[int] | None, device: torch.device) -> Tensor | None:
    """[B] lengths as a tensor."""
    if lengths is None:
        return None
    tensor = torch.as_tensor(lengths, device=device)
    if tensor.dim() != 1 or tensor.is_floating_point():
        raise ValueError(f"{name}: expected [B] integers, got {tensor.dtype} of shape {list(tensor.shape)}.")
    return tensor


def padding_mask(lengths: Tensor | None, mask: Mask | Tensor | None = None) -> Mask | Tensor | None:
    """What may be looked at under padding on the right, and under another mask besides."""
    if lengths is None:
        return mask
    own = lengths_mask(lengths)
    return own if mask is None else own & as_mask(mask)
