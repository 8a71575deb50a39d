"""How what may be looked at is weighed: terms that are added to the capped scores."""

from sightline.biases.bias import Bias, DenseBias, LoweredBias, as_bias
from sightline.biases.distances import Alibi, Relative, alibi, relative

__all__ = ["Alibi", "Bias", "DenseBias", "LoweredBias", "Relative", "alibi", "as_bias", "relative"]
