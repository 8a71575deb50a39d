"""A run that starts with a model that was trained before, on the same task or on another."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from sightline.common.errors import CommandError
from sightline.models import Model
from sightline.tasks.recipe import Recipe

R = TypeVar("R", bound=Recipe)

# What a run decides for itself, whatever it starts with.
_OF_THE_RUN = {
    "dropout", "attention_dropout", "max_positions", "head", "classes", "pooling", "pooler", "copying",
    "head_bias", "decoder_layers", "window", "global_every",
}  # fmt: skip
_NEW = ("head.", "copying.")  # parts that a model of another kind begins anew


@dataclass(frozen=True)
class Start:
    """A trained model whose body and tokenizer a run starts with.

    Attributes:
        name: what to call it in the card.
        model: with its weights.
        tokenizer: of its texts.
        digest: of both; another start is another run.
    """

    name: str
    model: Model
    tokenizer: Any
    digest: str

    def shape(self, recipe: Recipe) -> dict[str, Any]:
        """The settings of such a recipe that this start decides."""
        config: Any = self.model.config
        decided = {
            "width": config.width, "layers": config.layers, "heads": config.heads,
            "hidden": config.hidden or 0, "vocabulary": self.tokenizer.get_vocab_size(),
            "decoder_layers": getattr(config, "decoder_layers", None) or 0,
        }  # fmt: skip
        return {name: own for name, own in decided.items() if hasattr(recipe, name)}

    def recipe(self, recipe: R) -> R:
        """A recipe with the settings that this start decides."""
        return replace(recipe, **self.shape(recipe))

    def check(self, recipe: Recipe) -> None:
        """Raises for a recipe of another shape.

        Raises:
            CommandError: one of its settings differs.
        """
        for name, own in self.shape(recipe).items():
            if getattr(recipe, name) != own:
                raise CommandError(
                    f"{name}: {getattr(recipe, name)}, but {self.name}, with which the run starts, has "
                    f"{own}; leave it out"
                )

    def given_to(self, fresh: Model) -> Model:
        """A model of the fresh one's kind and head, with this body's settings and weights.

        Args:
            fresh: as the task builds it.

        Raises:
            CommandError: parts of its body are not in the model that the run starts with, or of another size.
        """
        own, theirs = ({each.name for each in fields(each.config)} for each in (fresh, self.model))
        body = {name: getattr(self.model.config, name) for name in (own & theirs) - _OF_THE_RUN}
        model = type(fresh)(type(fresh.config).from_dict(fresh.config.to_dict() | body))
        given = self.model.state_dict()
        taken = {
            name: given[name]
            for name, tensor in model.state_dict().items()
            if name in given and given[name].shape == tensor.shape
        }
        for name, tensor in model.state_dict().items():
            if name not in taken and not name.startswith(_NEW):
                there = f"is {list(given[name].shape)}" if name in given else "is missing"
                raise CommandError(
                    f"a run of {type(model).__name__} cannot start with {self.name}: {name}, "
                    f"{list(tensor.shape)} here, {there} there"
                )
        model.load_state_dict(taken, strict=False)
        return model
