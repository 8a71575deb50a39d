"""Everything that a training run depends on besides the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from sightline.common.errors import CommandError

_CHOICES = {
    "optimiser": ("adamw", "muon"),
    "precision": ("float32", "bfloat16"),
    "storage": ("float32", "float16", "bfloat16", "int8"),
}
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run. Every task has defaults of its own; some have settings of their own.

    Attributes:
        width, layers, heads, hidden, dropout: of the model, see
            :class:`sightline.models.TransformerConfig`; 0 for its own ``hidden``.
        vocabulary: tokens that the tokenizer learns at most.
        context: tokens of a text at most; longer ones are cut, or split into windows.
        epochs: passes over the data at most.
        patience: epochs without a better validation figure after which it stops.
        batch: examples of a step.
        optimiser: "adamw", or "muon": Muon for matrices that multiply vectors, AdamW for the rest.
        rate: the largest learning rate, warmed up over ``warmup`` steps, then falling as a cosine to
            ``floor`` times itself.
        decay: weight decay of matrices.
        smoothing: label smoothing.
        clip: the gradient's norm at most.
        average: share of the running mean of weights that is kept at each step; 0 for none.
        seed: of everything that is drawn.
        precision: "float32", or "bfloat16" autocast.
        storage: "float32", "float16", "bfloat16" or "int8" (a matrix's numbers; see
            :meth:`sightline.models.Model.save_pretrained`): what the weights are rounded to when training is
            over.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    hidden: int = 0
    dropout: float = 0.1
    vocabulary: int = 8000
    context: int = 128
    epochs: int = 10
    patience: int = 3
    batch: int = 32
    optimiser: str = "adamw"
    rate: float = 1e-3
    warmup: int = 100
    floor: float = 0.1
    decay: float = 0.01
    smoothing: float = 0.0
    clip: float = 1.0
    average: float = 0.0
    seed: int = 0
    precision: str = "float32"
    storage: str = "float32"

    def __post_init__(self) -> None:
        self.check_least(
            1, "width", "layers", "heads", "vocabulary", "context", "epochs", "patience", "batch"
        )
        self.check_least(0, "hidden", "warmup", "decay", "clip")
        self.check_share("dropout", "smoothing", "average", "floor")
        if self.width % self.heads:
            raise CommandError(f"heads: {self.heads} do not divide the width of {self.width}")
        if not self.rate > 0:
            raise CommandError(f"rate: above 0, got {self.rate}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise CommandError(f"{name}: {' or '.join(known)}, got {getattr(self, name)}")

    def check_least(self, least: int, *names: str) -> None:
        """Settings that must not be below ``least``.

        Raises:
            CommandError: one is.
        """
        for name in names:
            if not getattr(self, name) >= least:
                raise CommandError(f"{name}: at least {least}, got {getattr(self, name)}")

    def check_share(self, *names: str) -> None:
        """Settings that go from 0 to below 1.

        Raises:
            CommandError: one does not.
        """
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise CommandError(f"{name}: from 0 to below 1, got {getattr(self, name)}")

    def changed(self, given: list[str]) -> Self:
        """The recipe with settings changed by ``name=value`` texts.

        Raises:
            CommandError: for an unknown name, or a value of another type.
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
        """The settings, for JSON."""
        return asdict(self)
