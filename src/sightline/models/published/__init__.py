"""Published weights of Transformers for our models: a file for each family says which tensor goes where, and
``weights`` carries them over. Our models are known here by name only."""

from sightline.models.published.families import FAMILIES
from sightline.models.published.opening import opened
from sightline.models.published.weights import PublishedWeights

__all__ = ["FAMILIES", "PublishedWeights", "opened"]
