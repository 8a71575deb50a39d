"""What all models have in common: a configuration, and ways to be saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from sightline.common.check import kind, path
from sightline.models.config import TransformerConfig
from sightline.models.published import FAMILIES, PublishedWeights, opened
from sightline.models.saving import CONFIG, CheckpointError, fill, read, save


class Model(nn.Module):
    """A Transformer with its configuration, which can be saved and loaded.

    Subclasses say which Transformer: what they take, as [B,N] token ids or [B,T,F] frames, and give.

    Args:
        config: of the model's own ``config_class``.

    Raises:
        TypeError: for the configuration of another model.

    Example:
        >>> import pathlib, tempfile
        >>> from sightline.models import Decoder, DecoderConfig, Model
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "model"
        >>> Decoder(DecoderConfig(width=8, heads=2, layers=1, vocabulary=5)).save_pretrained(folder)
        >>> model = Model.from_pretrained(folder)
        >>> type(model).__name__, model.config.width
        ('Decoder', 8)
    """

    config_class: ClassVar[type[TransformerConfig]] = TransformerConfig
    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"config: {type(self).__name__} takes its own {self.config_class.__name__}, got a "
                f"{type(config).__name__}."
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
            dtype: what the weights are written as, and loaded as. ``torch.int8`` writes a matrix as whole
                numbers from -127 to 127 times a scale for each row, and the rest as float32; it is loaded as
                float32. Default: what they are.

        Raises:
            ValueError: for another kind of tokenizer; OSError where it cannot be written.
        """
        if dtype is not None:
            kind("dtype", dtype, torch.dtype, "a torch.dtype")
            if not dtype.is_floating_point and dtype != torch.int8:
                raise TypeError(f"dtype: weights are floating or torch.int8, got {dtype}.")
        save(self, self.config.to_dict(), path("folder", folder), tokenizer, dtype)

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
            ValueError: for changes that the model's configuration does not take.
        """
        where = path("folder", folder)
        saved = read(where)
        model_class = cls._saved_kind(saved.model, where)
        try:
            before = model_class.config_class.from_dict(saved.config)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where / CONFIG}: {error}") from None
        config = model_class.config_class.from_dict({**saved.config, **changes})
        model = model_class(config)
        fill(model, saved.weights, where, new_head=not config.same_head(before))
        return model.eval()

    @classmethod
    def from_huggingface(cls, source: Any, **changes: Any) -> Self:
        """From Transformers' published weights; see :func:`sightline.models.from_huggingface`."""
        theirs = opened(source)
        their_config = getattr(theirs, "config", None)
        name = getattr(their_config, "model_type", type(theirs).__name__)
        family = FAMILIES.get(name)
        if family is None:
            raise ValueError(f"source: {name!r} is of no known family; known: {', '.join(FAMILIES)}.")
        model_class = cls._kinds().get(family.model)
        if model_class is None:
            raise ValueError(f"source: is a {family.model}, not a {cls.__name__}.")
        described = family.config(their_config, type(theirs).__name__)
        before = model_class.config_class.from_dict(described)
        config = model_class.config_class.from_dict({**described, **changes})
        model = model_class(config)
        new_head = not config.same_head(before)
        weights = PublishedWeights(theirs.state_dict(), model)
        family.carry(weights, theirs, "none" if new_head else described.get("head", "none"))
        weights.finish(("head.",) if new_head else ())
        return model.eval()

    @classmethod
    def _saved_kind(cls, name: str, folder: Path) -> type[Self]:
        model_class = cls._kinds().get(name)
        if model_class is not None:
            return model_class
        if name in Model._kinds():
            raise CheckpointError(f"{folder}: holds a {name}, not a {cls.__name__}.")
        raise CheckpointError(f"{folder}: holds a {name!r}, which this version does not know.")

    @classmethod
    def _kinds(cls) -> dict[str, type[Self]]:
        """This class and those below it, by name."""
        kinds: dict[str, type[Self]] = {cls.__name__: cls}
        for below in cls.__subclasses__():
            kinds = {**below._kinds(), **kinds}
        return kinds
