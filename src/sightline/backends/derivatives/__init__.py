"""Derivatives of attention, of any order and in either direction, block by block.

Attention is a sum over blocks of rows, so each of its derivatives is the sum of the blocks' derivatives:
one block at a time is differentiated by ``torch.func``, and memory stays linear in the sequence.
"""

from sightline.backends.derivatives.blockwise import evaluate
from sightline.backends.derivatives.order import ATTENTION, Order, Slot

__all__ = ["ATTENTION", "Order", "Slot", "evaluate"]
