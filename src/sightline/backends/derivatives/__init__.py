"""Derivatives of attention and of what is read off its matrix, of any order and in either direction.

Each is a sum over blocks of rows, so each of its derivatives is the sum of the blocks' derivatives: one block
at a time is differentiated by ``torch.func``, and memory stays linear in the sequence.
"""

from sightline.backends.derivatives.attend import ATTENTION, ATTENTION_AND_ENTROPY
from sightline.backends.derivatives.blockwise import evaluate
from sightline.backends.derivatives.order import Base, Order, Part, Slot

__all__ = ["ATTENTION", "ATTENTION_AND_ENTROPY", "Base", "Order", "Part", "Slot", "evaluate"]
