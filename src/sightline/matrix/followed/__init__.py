"""Readouts that derivatives reach: by recomputation, so that memory stays linear in the sequence.

``rules`` says what each of them is, block by block; ``kernels`` what a backend computes of it at once, and of
its gradients; ``read`` puts the two together.
"""

from sightline.matrix.followed.kernels import WITH_KERNELS
from sightline.matrix.followed.read import computed, followed

__all__ = ["WITH_KERNELS", "computed", "followed"]
