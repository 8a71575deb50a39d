"""Published weights of Transformers, for our models: a file for each family says which tensor goes where, and
``weights`` carries them over. Models are known by name alone here."""

from sightline.models.published.families import FAMILIES, Family
from sightline.models.published.opening import opened
from sightline.models.published.weights import Weights

__all__ = ["FAMILIES", "Family", "Weights", "opened"]
