"""From what a caller gives to what a backend takes: every check, then masks and biases lowered."""

from sightline.lowering.casting import autocast
from sightline.lowering.checks import DTYPES, check_dropout
from sightline.lowering.assemble import lower

__all__ = ["DTYPES", "autocast", "check_dropout", "lower"]
