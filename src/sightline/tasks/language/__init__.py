"""Language modelling: the recipe, the windows it is learned from, and the task."""

from sightline.tasks.language.language import Language
from sightline.tasks.language.recipe import LanguageRecipe

__all__ = ["Language", "LanguageRecipe"]
