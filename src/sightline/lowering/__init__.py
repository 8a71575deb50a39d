"""From what a caller gives to what a backend takes: every check, then masks and biases lowered."""

from sightline.lowering.assemble import lower
from sightline.lowering.casting import autocast
from sightline.lowering.checks import DTYPES, check_value, checked_dropout

__all__ = ["DTYPES", "autocast", "check_value", "checked_dropout", "lower"]
