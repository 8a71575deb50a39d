"""Everything that a training run follows from, besides the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from sightline.errors import CommandError

_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run. Every task has defaults of its own.

    Attributes:
        width, layers, heads, hidden, dropout: of the model, see TransformerConfig; 0 for its own ``hidden``.
        vocabulary: tokens that the tokenizer learns at most.
        lowercase: whether case is left out (translation, summarization); sentiment always does.
        context: tokens of a text at most; longer ones are cut, or split into windows.
        image_size, patch: sides of an image and of its patches in pixels.
        stem: convolutions that halve an image before it is cut into patches.
        flip: share of the images that are mirrored left to right as they are learnt from.
        shift: by how many pixels images are moved at most as they are learnt from.
        epochs: passes over the data at most.
        patience: epochs without a better validation figure after which it stops.
        batch: examples of a step.
        rate: the largest learning rate of AdamW, warmed up over ``warmup`` steps, then falling as a cosine.
        decay: weight decay of matrices.
        smoothing: label smoothing.
        copying: whether a summary or translation may copy tokens of its source.
        hide: share of tokens that are shown as unknown in training (sentiment).
        clip: the gradient's norm at most.
        average: share of the running mean of weights that is kept at each step; 0 for none.
        seed: of everything that is drawn.
        precision: "float32", or "bfloat16" autocast.
        storage: "float32", or "float16": what the weights are rounded to when training is over.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    hidden: int = 0
    dropout: float = 0.1
    vocabulary: int = 8000
    lowercase: bool = False
    context: int = 128
    image_size: int = 28
    patch: int = 4
    stem: int = 0
    flip: float = 0.0
    shift: int = 0
    epochs: int = 10
    patience: int = 3
    batch: int = 32
    rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.01
    smoothing: float = 0.0
    copying: bool = False
    hide: float = 0.0
    clip: float = 1.0
    average: float = 0.0
    seed: int = 0
    precision: str = "float32"
    storage: str = "float32"

    def __post_init__(self) -> None:
        for name in (
            "width", "layers", "heads", "vocabulary", "context", "image_size", "patch", "epochs", "patience",
            "batch",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise CommandError(f"{name}: at least 1, got {getattr(self, name)}")
        if self.hidden < 0:
            raise CommandError(f"hidden: at least 0, got {self.hidden}")
        for name in ("dropout", "smoothing", "hide", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise CommandError(f"{name}: from 0 to below 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise CommandError(f"heads: {self.heads} do not divide the width of {self.width}")
        if self.image_size % self.patch:
            raise CommandError(f"patch: {self.patch} does not divide the image_size of {self.image_size}")
        if self.stem < 0 or self.patch % 2**self.stem or self.width % 2**self.stem:
            raise CommandError(
                f"stem: from 0 up, as often as patch and width can be halved; got {self.stem} for a patch of "
                f"{self.patch} and a width of {self.width}"
            )
        if not 0 <= self.flip <= 1:
            raise CommandError(f"flip: from 0 to 1, got {self.flip}")
        if not 0 <= self.shift < self.image_size:
            raise CommandError(
                f"shift: from 0 to below the image_size of {self.image_size}, got {self.shift}"
            )
        if not self.rate > 0:
            raise CommandError(f"rate: above 0, got {self.rate}")
        for name, known in (("precision", ("float32", "bfloat16")), ("storage", ("float32", "float16"))):
            if getattr(self, name) not in known:
                raise CommandError(f"{name}: {' or '.join(known)}, got {getattr(self, name)}")

    def changed(self, given: list[str]) -> Self:
        """With settings as ``name=value`` texts.

        Raises:
            CommandError: for a name that there is not, or a value of another kind.
        """
        known = {each.name: type(getattr(self, each.name)) for each in fields(self)}
        changes: dict[str, Any] = {}
        for text in given:
            name, equals, value = text.partition("=")
            if not equals or name not in known:
                raise CommandError(f"--set {text}: expected NAME=VALUE with one of {', '.join(known)}")
            try:
                changes[name] = _TRUTH[value] if known[name] is bool else known[name](value)
            except (ValueError, KeyError):
                raise CommandError(f"--set {text}: {value!r} is no {known[name].__name__}") from None
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
